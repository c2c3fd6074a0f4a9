"""Look, decide, act, look again: the whole story."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gate.database.lock import Migrator
from gate.database.stamp import VersionTableLocked
from gate.drift.comparison import Drift
from gate.drift.decision import decide
from gate.drift.inspector import Inspection, Inspector
from gate.errors import DatabaseUnavailable, GateError, LockBusy, MigrationFailed, Refused, TimedOut
from gate.migration.plan import Plan
from gate.process import gc_tuning
from gate.readiness.answer import Readiness
from gate.readiness.placeholder import Placeholder
from gate.settings.settings import Decision, Policy
from gate.waiting import backoff
from gate.waiting.announcer import Announcer, log_passed, refusal, summary
from gate.waiting.backoff import Pause
from gate.waiting.other_migrator import OtherMigrator

DATABASE_AWAY = "the database cannot be looked at; the log says why"

MIN_INSPECTION_TIMEOUT = 1.0
"""Seconds that a look gets however near the end of GATE_TIMEOUT is."""

MIN_TIMEOUT = 0.001
"""Seconds of a limit that has passed already: 0 would mean none."""


@dataclass(slots=True)
class WaitLoop:
    """Everything that passing takes.

    `last` looks as the server will connect, where that is another way; `limit`: seconds of the whole since `began`, by
    the monotonic clock, 0 = none.
    """

    policy: Policy
    inspector: Inspector
    announcer: Announcer
    placeholder: Placeholder
    other_migrator: OtherMigrator
    plan: Plan | None = None
    last: Inspector | None = None
    limit: float = 0
    began: float = field(default_factory=time.monotonic)
    _seen: Inspection | None = field(default=None, init=False)
    _finding: Inspection | GateError | None = field(default=None, init=False)
    _elsewhere: bool = field(default=False, init=False)
    _say: Callable[[Pause], None] = field(default=lambda _: None, init=False)

    def run(self) -> None:
        """Return when the schema fits, or as the policy has it.

        Raises every `GateError` that ends the waiting.
        """
        left = max(MIN_TIMEOUT, self._time_left()) if self.limit else 0
        say = lambda pause: self._say(pause)  # noqa: E731, PLW0108 - it is another one after each look
        try:
            backoff.until(self._step, cap=self.other_migrator.cap, limit=left, before_pause=say)
        except TimedOut:
            found = summary(self._finding, elsewhere=self._elsewhere) if self._finding else ""
            raise TimedOut(f"The schema did not fit within {self.limit:g} s (GATE_TIMEOUT). {found}".rstrip()) from None

    def _step(self) -> bool:
        try:
            inspection = self._look()
            decision = self._decide(inspection.drift)
            if decision is Decision.UPGRADE:
                inspection = self._migrate(inspection)
                decision = self._decide(inspection.drift)
            if elsewhere := decision is Decision.GO and self.last is not None:
                inspection, decision = self._look_a_last_time()
        except DatabaseUnavailable as error:
            return self._wait_for_the_database(error)
        except LockBusy:
            return self._wait_for_the_lock()
        return self._act(decision, inspection, elsewhere=elsewhere)

    def _look(self) -> Inspection:
        inspection = self._seen = self.inspector.inspect(self._patience())
        migrator = inspection.stamp.migrator
        self.other_migrator.note(migrator)
        self.placeholder.publish(
            Readiness(inspection.drift, age=0, migrating=str(migrator) if migrator else None, server_started=False)
        )
        return inspection

    def _look_a_last_time(self) -> tuple[Inspection, Decision]:
        """Where nothing is migrated, there is only waiting for it."""
        assert self.last
        inspection = self.last.inspect(self._patience())
        decision = self._decide(inspection.drift)
        return inspection, Decision.WAIT if decision is Decision.UPGRADE else decision

    def _decide(self, drift: Drift) -> Decision:
        return decide(drift.verdict, self.policy)

    def _migrate(self, inspection: Inspection) -> Inspection:
        assert self.plan
        if inspection.stamp.migrator and self.plan.locking:
            raise LockBusy
        from gate.migration.migrate import migrate  # noqa: PLC0415 - most starts migrate nothing

        gc_tuning.collect_normally()
        self.other_migrator.tell_its_end(inspection.drift)
        try:
            return migrate(self.plan, self.inspector, lambda drift: self._decide(drift) is Decision.UPGRADE)
        except MigrationFailed as error:
            raise self.other_migrator.compared(error) from None

    def _act(self, decision: Decision, inspection: Inspection, *, elsewhere: bool) -> bool:
        self._finding, self._elsewhere = inspection, elsewhere
        self.other_migrator.lets_in()
        if decision is Decision.GO:
            log_passed(inspection)
            self.announcer.termination.clear()
            return True
        if decision is Decision.REFUSE:
            raise Refused(refusal(inspection, migrating=self.policy.migrating, elsewhere=elsewhere))
        self._say = lambda pause: self.announcer.drifted(inspection, pause, elsewhere=elsewhere)
        return False

    def _wait_for_the_database(self, error: DatabaseUnavailable) -> bool:
        self._finding = error
        migrator = error.migrator if isinstance(error, VersionTableLocked) else None
        if migrator:
            self._note_other_migrator(migrator)
        drift, who = self._seen.drift if self._seen else None, str(migrator) if migrator else None
        self.placeholder.publish(Readiness(drift, away=0, reason=DATABASE_AWAY, migrating=who, server_started=False))
        self._say = lambda pause: self.announcer.trouble(error, pause)
        return False

    def _note_other_migrator(self, migrator: Migrator) -> None:
        self.other_migrator.note(migrator)
        if self.plan and self.plan.locking:
            self.other_migrator.keeps_out()

    def _wait_for_the_lock(self) -> bool:
        self.other_migrator.keeps_out()
        inspection, self._elsewhere = self._seen, False
        self._finding = inspection
        assert inspection
        self._say = lambda pause: self.announcer.drifted(inspection, pause, locked_out=True)
        return False

    def _patience(self) -> float | None:
        """How long a look may take: GATE_TIMEOUT holds while one hangs, too."""
        return max(MIN_INSPECTION_TIMEOUT, self._time_left()) if self.limit else None

    def _time_left(self) -> float:
        return self.began + self.limit - time.monotonic()
