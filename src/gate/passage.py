"""One way through the gate, from the settings to the schema that fits; and staying after a failure."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gate import log, settings, wait
from gate.announce import Announcer
from gate.assembly import Assembly, assemble
from gate.decision import Decision, Policy
from gate.errors import BadSettings, GateError, TimedOut
from gate.hold import Hold
from gate.plan import Plan
from gate.readiness import Readiness
from gate.rival import Rival
from gate.run import Gate
from gate.settings import Settings
from gate.termination import TerminationLog

if TYPE_CHECKING:
    from gate.look import Looker
    from gate.progress import Progress

LOCK_LIMIT = {"migrate": 900.0, "run": 0.0, "wait": 0.0}
"""Seconds of GATE_LOCK_TIMEOUT where it is not set: waiting replicas outlast a healthy long migration."""

SURVIVED = frozenset({65, 75, 76, 78})
"""Exit codes after which GATE_ON_FAILURE=stay goes on looking."""

LONGEST_STAY = 60.0
"""Seconds between two tries of a gate that stays."""

DOING = {
    "run": "gate waits and does not start the server",
    "wait": "gate waits",
    "migrate": "gate waits",
}
STAYS = "gate stays (GATE_ON_FAILURE=stay) and does not start the server"


@dataclass(slots=True)
class Passage:
    """What is kept from one try to the next.

    `_only_looks`: after a failed upgrade gate never repeats it; `_upgrade_began`: whether one was tried at all.
    """

    arguments: SimpleNamespace
    termination: TerminationLog
    _hold: Hold = field(default_factory=Hold, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _limit: float = field(default=0.0, init=False)
    _upgrade_began: bool = field(default=False, init=False)
    _only_looks: bool = field(default=False, init=False)
    _remarked: set[str] = field(default_factory=set, init=False)

    def pass_the_gate(self) -> None:
        """Return when the schema fits, or as the policy has it; raises every `GateError` that ends the waiting."""
        try:
            self._stand()
        except GateError as error:
            stays = self.arguments.command == "run" and settings.stays(os.environ, self.arguments.flags)
            if not stays or error.exit_code not in SURVIVED:
                raise
            self._stay(error)
        finally:
            self._hold.stop()

    def _stay(self, failure: GateError) -> None:
        """Stay running after a failure, so that an updater can still bring the fix; never repeat the upgrade."""
        announcer = Announcer(self.termination, STAYS)
        finding = failure

        def passed() -> bool:
            nonlocal finding
            try:
                self._stand()
            except GateError as error:
                if error.exit_code not in SURVIVED:
                    raise
                finding = error
                self._take(error)
                self._mind_the_limit(error)
                return False
            return True

        self._take(failure)
        with suppress(GateError):  # a probe must find its answer whatever other setting is wrong
            self._hold.start(*settings.holding(os.environ))
        how = "without repeating the upgrade " if self._upgrade_began else ""
        ends = f"{STAYS}; it goes on looking {how}and starts the server once this is mended and the schema fits."
        text = f"{' '.join(str(failure).splitlines())} {ends}"
        self.termination.write(text)
        log.emit("critical", "gate.staying", text, kind=type(failure).__name__)
        wait.until(passed, cap=self._longest_pause, before_pause=lambda pause: announcer.trouble(finding, pause))

    def _take(self, failure: GateError) -> None:
        """Settings and scripts that were wrong before anything was upgraded may be mended; then gate migrates."""
        self._only_looks |= failure.exit_code != BadSettings.exit_code or self._upgrade_began
        self._hold.tell(Readiness(reason="gate stays after a failure; its log says why"))

    def _mind_the_limit(self, failure: GateError) -> None:
        if self._limit and time.monotonic() >= self._began + self._limit:
            raise TimedOut(f"The schema did not fit within {self._limit:g} s (GATE_TIMEOUT). {failure}")

    def _longest_pause(self) -> float:
        return (
            min(LONGEST_STAY, max(0.0, self._began + self._limit - time.monotonic())) if self._limit else LONGEST_STAY
        )

    def _stand(self) -> None:
        told = settings.read(os.environ, self.arguments.flags)
        log.configure(told.log_format, told.log_level)
        self._limit = told.timeout
        self._hold.start(told.hold, told.health_path)
        assembled = assemble(self.arguments, told, whole=self._may_migrate(told))
        own = settings.remarks(os.environ) if self.arguments.command == "run" else {}
        self._remark(own | assembled.remarks())
        self._gate(assembled, told).stand()

    def _may_migrate(self, told: Settings) -> bool:
        name = self.arguments.command
        return name == "migrate" or (name == "run" and told.run_migrations)

    def _remark(self, remarks: dict[str, str]) -> None:
        for event in remarks.keys() - self._remarked:
            log.emit("warning", event, remarks[event])
        self._remarked |= remarks.keys()

    def _gate(self, assembled: Assembly, told: Settings) -> Gate:
        name = self.arguments.command
        wishes = self._may_migrate(told)
        migrating = wishes and not self._only_looks
        looker = assembled.looker(migrating=wishes)
        lock_limit = LOCK_LIMIT[name] if told.lock_timeout is None else told.lock_timeout
        return Gate(
            policy=_policy(told, migrating=migrating, failed=self._only_looks and wishes, stays=self._only_looks),
            looker=looker,
            hold=self._hold,
            rival=Rival(partial(_how_to_end, looker), lock_limit, told.poll_max),
            last=assembled.looker() if wishes and assembled.serves_elsewhere else None,
            announcer=Announcer(self.termination, STAYS if self._only_looks else DOING[name], tried=self._only_looks),
            plan=self._plan(assembled, told) if migrating else None,
            limit=told.timeout,
            began=self._began,
        )

    def _plan(self, assembled: Assembly, told: Settings) -> Plan:
        if assembled.configuration.databases:
            raise BadSettings(
                f"{assembled.configuration.ini} is of Alembic's multidb template (databases = "
                f"{assembled.configuration.databases}): one run would migrate several databases and lock one. Give "
                "each database a section of its own and a gate of its own: gate -n SECTION."
            )
        return Plan(
            assembled.configuration,
            assembled.table.table,
            tuple(self.arguments.x),
            told.upgrade_command,
            told.migration_timeout,
            told.locking,
            dedicated=assembled.has_migration_url,
            on_progress=self._show,
        )

    def _show(self, progress: Progress) -> None:
        self._upgrade_began = True
        self._hold.tell(Readiness(progress.planned, age=0, migrating=str(progress.migrator()), held=True))


def _how_to_end(looker: Looker, pid: int) -> str:
    from gate.engines import backends_of  # noqa: PLC0415 - hardly ever needed

    return backends_of(looker.database, looker.table.key).how_to_end(pid)


def _policy(told: Settings, *, migrating: bool, failed: bool, stays: bool) -> Policy:
    """Who stays waits where it would refuse, and after an upgrade in vain until a stamp says what that has left."""
    wishes = (told.on_unknown, told.on_unstamped)
    unknown, unstamped = (Decision.WAIT if stays and w is Decision.REFUSE else w for w in wishes)
    return Policy(migrating, unknown, Decision.WAIT if failed else unstamped)
