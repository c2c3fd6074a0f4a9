"""`gate run`, `gate wait` and `gate migrate`: pass the gate, then become the server or end."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass

from gate import handoff, log, settings, signals, wait
from gate.announce import Announcer
from gate.assembly import Assembly, assemble
from gate.child import Plan
from gate.decision import Decision, Policy
from gate.errors import BadSettings, GateError, Interrupted
from gate.hold import Hold
from gate.readiness import Readiness
from gate.run import Gate
from gate.settings import Settings
from gate.termination import TerminationLog

LOCK_LIMIT = {"migrate": 900.0, "run": 0.0, "wait": 0.0}
"""Seconds of GATE_LOCK_TIMEOUT where it is not set: waiting replicas outlast a healthy long migration."""

SURVIVED = frozenset({65, 75, 76, 78})
"""Exit codes after which GATE_ON_FAILURE=stay goes on looking."""

DOING = {
    "run": "gate waits and does not start the server",
    "wait": "gate waits",
    "migrate": "gate waits and has nothing migrated yet",
}


def guard(arguments: Namespace) -> int:
    """Pass the gate and become the server (does not return), or give the exit code."""
    log.configure(settings.log_format(os.environ, arguments.flags))
    signals.answer()
    termination = TerminationLog(os.environ.get("GATE_TERMINATION_LOG"))
    try:
        _pass(arguments, termination)
        if arguments.command == "run":
            log.emit("info", "gate.starting", f"gate starts {arguments.server[0]}.", command=arguments.server[0])
            handoff.become(arguments.server)
    except GateError as error:
        return _failed(error, arguments.command, termination)
    except Interrupted as signalled:
        text = f"gate was asked to end by signal {signalled.signal_number} and ends; the server was not started."
        log.emit("warning", "gate.ended", text, exit_code=signalled.exit_code)
        return signalled.exit_code
    return 0


def _pass(arguments: Namespace, termination: TerminationLog) -> None:
    if settings.bypassed(os.environ):
        log.emit("critical", "gate.bypassed", "GATE_BYPASS is set: nothing is checked and nothing migrated.")
    else:
        _Guard(arguments, termination).pass_the_gate()
    termination.clear()


def _failed(error: GateError, name: str, termination: TerminationLog) -> int:
    text = " ".join(str(error).splitlines())
    termination.write(text)
    ends = "The server is not started." if name == "run" else ""
    log.emit(
        "critical",
        "gate.failed",
        f"{text} {ends}".rstrip(),
        kind=type(error).__name__,
        exit_code=error.exit_code,
    )
    return error.exit_code


@dataclass(slots=True)
class _Guard:
    arguments: Namespace
    termination: TerminationLog

    def pass_the_gate(self) -> None:
        try:
            self._stand(migrating=None)
        except GateError as error:
            stays = self.arguments.command == "run" and settings.stays(os.environ, self.arguments.flags)
            if not stays or error.exit_code not in SURVIVED:
                raise
            self._stay(error)

    def _stay(self, failure: GateError) -> None:
        """Stay running after a failure, so that an updater can still bring the fix; never repeat the upgrade."""
        announcer = Announcer(self.termination, "gate stays (GATE_ON_FAILURE=stay) and does not start the server")
        finding = failure

        def passed() -> bool:
            nonlocal finding
            try:
                self._stand(migrating=False)
            except GateError as error:
                if error.exit_code not in SURVIVED:
                    raise
                finding = error
                return False
            return True

        text = (
            f"{' '.join(str(failure).splitlines())} {announcer.doing}; it looks on and starts it when the schema fits."
        )
        self.termination.write(text)
        log.emit("critical", "gate.staying", text, kind=type(failure).__name__)
        wait.until(passed, cap=lambda: 60.0, before_pause=lambda pause: announcer.trouble(finding, pause))

    def _stand(self, *, migrating: bool | None) -> None:
        told = settings.read(os.environ, self.arguments.flags)
        log.configure(told.log_format, told.log_level)
        with Hold(told.hold, told.health_path) as hold:
            assembled = assemble(self.arguments, told, whole=told.run_migrations or self.arguments.command == "migrate")
            for event, remark in assembled.remarks().items():
                log.emit("warning", event, remark)
            self._gate(assembled, told, hold, stay=migrating is False).stand()

    def _gate(self, assembled: Assembly, told: Settings, hold: Hold, *, stay: bool) -> Gate:
        name = self.arguments.command
        migrating = not stay and (name == "migrate" or (name == "run" and told.run_migrations))
        looker = assembled.looker(migrating=migrating)
        last = assembled.looker() if migrating and assembled.has_migration_url and told.database_url else None
        return Gate(
            policy=_policy(told, migrating=migrating, stay=stay),
            looker=looker,
            hold=hold,
            last=last,
            announcer=Announcer(self.termination, DOING[name]),
            plan=_plan(assembled, told, hold, tuple(self.arguments.x)) if migrating else None,
            limit=told.timeout,
            lock_limit=LOCK_LIMIT[name] if told.lock_timeout is None else told.lock_timeout,
            poll_max=told.poll_max,
        )


def _policy(told: Settings, *, migrating: bool, stay: bool) -> Policy:
    """Who stays after a refusal waits where it would refuse."""
    wishes = (told.on_unknown, told.on_unstamped)
    unknown, unstamped = (Decision.WAIT if stay and w is Decision.REFUSE else w for w in wishes)
    return Policy(migrating, unknown, unstamped)


def _plan(assembled: Assembly, told: Settings, hold: Hold, x: tuple[str, ...]) -> Plan:
    if assembled.configuration.databases:
        raise BadSettings(
            f"{assembled.configuration.ini} is of Alembic's multidb template (databases = "
            f"{assembled.configuration.databases}): one run would migrate several databases and lock one. Give each "
            "database a section of its own and a gate of its own: gate -n SECTION."
        )
    return Plan(
        assembled.configuration,
        x,
        told.upgrade_command,
        told.migration_timeout,
        told.locking,
        dedicated=assembled.has_migration_url,
        on_progress=lambda p: hold.tell(Readiness(p.planned, migrating=str(p.migrator()))),
    )
