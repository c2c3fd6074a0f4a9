"""One way through the gate, from the settings to the schema that fits; and staying after a failure."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gate import log
from gate.database.engine import engine_of
from gate.drift.project import Project, load_project
from gate.errors import BadSettings, GateError, TimedOut
from gate.migration.plan import Plan
from gate.readiness.answer import Readiness
from gate.readiness.placeholder import Placeholder
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.settings.settings import Decision, Policy, Settings
from gate.waiting import backoff
from gate.waiting.announcer import Announcer
from gate.waiting.loop import WaitLoop
from gate.waiting.other_migrator import OtherMigrator
from gate.waiting.termination_log import TerminationLog

if TYPE_CHECKING:
    from gate.drift.inspector import Inspector
    from gate.migration.progress import Progress


DEFAULT_LOCK_TIMEOUT = {"migrate": 900.0, "run": 0.0, "wait": 0.0}
"""Seconds of GATE_MIGRATION_LOCK_TIMEOUT where it is not set: waiting replicas outlast a healthy long migration."""

SURVIVED_EXIT_CODES = frozenset({65, 75, 76, 78})
"""Exit codes after which GATE_ON_FAILURE=stay goes on looking."""

MAX_STAY_PAUSE = 60.0
"""Seconds between two tries of a gate that stays."""

ACTIVITY = {
    "run": "gate waits and does not start the server",
    "wait": "gate waits",
    "migrate": "gate waits",
}
STAY_ACTIVITY = "gate stays (GATE_ON_FAILURE=stay) and does not start the server"


@dataclass(slots=True)
class Gate:
    """What is kept from one try to the next.

    `_only_looks`: after a failed upgrade gate never repeats it; `_upgrade_began`: whether one was tried at all.
    """

    arguments: Arguments
    termination: TerminationLog
    _placeholder: Placeholder = field(default_factory=Placeholder, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _limit: float = field(default=0.0, init=False)
    _upgrade_began: bool = field(default=False, init=False)
    _only_looks: bool = field(default=False, init=False)
    _remarked: set[str] = field(default_factory=set, init=False)

    def run(self) -> None:
        """Return when the schema fits, or as the policy has it; raises every `GateError` that ends the waiting."""
        try:
            self._run()
        except GateError as error:
            stays = self.arguments.command == "run" and settings.stays_on_failure(os.environ, self.arguments.flags)
            if not stays or error.exit_code not in SURVIVED_EXIT_CODES:
                raise
            self._stay(error)
        finally:
            self._placeholder.stop()

    def _stay(self, failure: GateError) -> None:
        """Stay running after a failure, so that an updater can still bring the fix; never repeat the upgrade."""
        announcer = Announcer(self.termination, STAY_ACTIVITY)
        finding = failure

        def passed() -> bool:
            nonlocal finding
            try:
                self._run()
            except GateError as error:
                if error.exit_code not in SURVIVED_EXIT_CODES:
                    raise
                finding = error
                self._take(error)
                self._mind_the_limit(error)
                return False
            return True

        self._take(failure)
        with suppress(GateError):  # a probe must find its answer whatever other setting is wrong
            self._placeholder.start(*settings.placeholder_address(os.environ))
        how = "without repeating the upgrade " if self._upgrade_began else ""
        ends = (
            f"{STAY_ACTIVITY}; it goes on looking {how}and starts the server once this is mended and the schema fits."
        )
        text = f"{' '.join(str(failure).splitlines())} {ends}"
        self.termination.write(text)
        log.emit("critical", "gate.staying", text, kind=type(failure).__name__)
        backoff.until(passed, cap=self._longest_pause, before_pause=lambda pause: announcer.trouble(finding, pause))

    def _take(self, failure: GateError) -> None:
        """Settings and scripts that were wrong before anything was upgraded may be mended; then gate migrates."""
        self._only_looks |= failure.exit_code != BadSettings.exit_code or self._upgrade_began
        self._placeholder.publish(Readiness(reason="gate stays after a failure; its log says why"))

    def _mind_the_limit(self, failure: GateError) -> None:
        if self._limit and time.monotonic() >= self._began + self._limit:
            raise TimedOut(f"The schema did not fit within {self._limit:g} s (GATE_TIMEOUT). {failure}")

    def _longest_pause(self) -> float:
        return (
            min(MAX_STAY_PAUSE, max(0.0, self._began + self._limit - time.monotonic()))
            if self._limit
            else MAX_STAY_PAUSE
        )

    def _run(self) -> None:
        told = settings.read(os.environ, self.arguments.flags)
        log.configure(told.log_format, told.log_level)
        self._limit = told.timeout
        self._placeholder.start(told.placeholder, told.health_path)
        project = load_project(told, self.arguments.config, self.arguments.name, whole=self._may_migrate(told))
        self._remark(project.remarks())
        self._gate(project, told).run()

    def _may_migrate(self, told: Settings) -> bool:
        name = self.arguments.command
        return name == "migrate" or (name == "run" and told.run_migrations)

    def _remark(self, remarks: dict[str, str]) -> None:
        for event in remarks.keys() - self._remarked:
            log.emit("warning", event, remarks[event])
        self._remarked |= remarks.keys()

    def _gate(self, project: Project, told: Settings) -> WaitLoop:
        name = self.arguments.command
        wishes = self._may_migrate(told)
        migrating = wishes and not self._only_looks
        inspector = project.inspector(migrating=wishes)
        lock_limit = DEFAULT_LOCK_TIMEOUT[name] if told.migration_lock_timeout is None else told.migration_lock_timeout
        return WaitLoop(
            policy=_policy(told, migrating=migrating, failed=self._only_looks and wishes, stays=self._only_looks),
            inspector=inspector,
            placeholder=self._placeholder,
            other_migrator=OtherMigrator(partial(_how_to_end, inspector), lock_limit, told.poll_max),
            last=project.inspector() if wishes and project.serves_elsewhere else None,
            announcer=Announcer(
                self.termination, STAY_ACTIVITY if self._only_looks else ACTIVITY[name], tried=self._only_looks
            ),
            plan=self._plan(project, told) if migrating else None,
            limit=told.timeout,
            began=self._began,
        )

    def _plan(self, project: Project, told: Settings) -> Plan:
        if project.configuration.databases:
            raise BadSettings(
                f"{project.configuration.ini} is of Alembic's multidb template (databases = "
                f"{project.configuration.databases}): one run would migrate several databases and lock one. Give "
                "each database a section of its own and a gate of its own: gate -n SECTION."
            )
        return Plan(
            project.configuration,
            project.table.table,
            tuple(self.arguments.x),
            told.upgrade_command,
            told.migration_timeout,
            told.use_lock,
            dedicated=project.has_migration_url,
            on_progress=self._show,
        )

    def _show(self, progress: Progress) -> None:
        self._upgrade_began = True
        self._placeholder.publish(
            Readiness(progress.planned, age=0, migrating=str(progress.migrator()), server_started=False)
        )


def _how_to_end(inspector: Inspector, pid: int) -> str:
    return engine_of(inspector.database).sessions(inspector.table.key).termination_statement(pid)


def _policy(told: Settings, *, migrating: bool, failed: bool, stays: bool) -> Policy:
    """Who stays waits where it would refuse, and after an upgrade in vain until a stamp says what that has left."""
    wishes = (told.on_unknown, told.on_unstamped)
    unknown, unstamped = (Decision.WAIT if stays and w is Decision.REFUSE else w for w in wishes)
    return Policy(migrating, unknown, Decision.WAIT if failed else unstamped)
