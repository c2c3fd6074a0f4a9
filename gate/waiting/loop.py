"""The waiting loop: inspect, decide, act, and repeat until the server may start."""

from __future__ import annotations

from dataclasses import dataclass, field

from gate.database.stamp import VersionTableLocked
from gate.drift.comparison import Drift
from gate.drift.decision import decide_for
from gate.drift.inspector import Inspection, Inspector
from gate.errors import DatabaseUnavailable, LockBusy, MigrationFailed, Refused, TimedOut
from gate.migration.plan import Plan
from gate.process import gc_tuning
from gate.readiness.placeholder import Placeholder
from gate.settings.settings import Decision, Policy
from gate.waiting import backoff
from gate.waiting.announcer import Announcer, log_passed
from gate.waiting.backoff import Deadline, Pause
from gate.waiting.other_migrator import OtherMigrator
from gate.waiting.outcome import Outcome, readiness, refusal, timeout_message

MIN_INSPECTION_TIMEOUT = 1.0
"""Seconds that an inspection may take even when GATE_TIMEOUT is about to end."""

AGAIN = (
    "gate has migrated this history, and a later check finds it behind again: the migration of another history of this "
    "image, or another process, has undone it. gate does not migrate it a second time. Run `gate plan` to see what is "
    "pending, and find what changes its version table."
)
"""Why gate gives up a history that does not stay migrated."""


@dataclass(slots=True)
class WaitLoop:
    """Inspects the database until its schema fits, and upgrades it if there is a plan.

    `inspector` connects as a migration does if gate may migrate, else as the server does. `server_inspector` connects
    as the server does, where that differs. `plan`: how to upgrade; None = never. `section`: the history that it is
    about, where gate guards several.

    `begun`: whether it has run; `waited`: whether the latest run has waited or upgraded; `migrated`: whether any run
    has upgraded.
    """

    policy: Policy
    inspector: Inspector
    announcer: Announcer
    placeholder: Placeholder
    other_migrator: OtherMigrator
    plan: Plan | None = None
    server_inspector: Inspector | None = None
    deadline: Deadline = field(default_factory=Deadline)
    section: str = ""
    begun: bool = field(default=False, init=False)
    waited: bool = field(default=False, init=False)
    migrated: bool = field(default=False, init=False)
    _inspected: Inspection | None = field(default=None, init=False)

    def run(self) -> None:
        """Return when the schema fits, or the policy lets the server start without that.

        Raises `Refused`, `TimedOut`, and every `GateError` of a step but `DatabaseUnavailable`.
        """
        self.begun, self.waited = True, False
        outcome = backoff.poll(
            self._step,
            done=lambda outcome: outcome.decision is not Decision.WAIT,
            max_pause=self.other_migrator.max_pause,
            before_pause=self._report,
            timeout=self.deadline.remaining(),
        )
        if outcome.decision is Decision.WAIT:
            raise TimedOut(timeout_message(outcome, self.deadline.timeout))
        if outcome.decision is Decision.REFUSE:
            raise Refused(refusal(outcome, self.policy))
        assert isinstance(outcome.finding, Inspection)
        log_passed(outcome.finding)

    def still_fits(self) -> bool:
        """Inspect once more, without waiting; raises `MigrationFailed` if gate would have to migrate it again."""
        try:
            inspection = self._inspect()
            decision = self._decide(inspection)
            if decision is Decision.GO and self.server_inspector:
                decision = self._inspect_for_server(self.server_inspector).decision
        except DatabaseUnavailable:
            return False
        if decision is Decision.UPGRADE and self.migrated and inspection.schemas is None:  # a schema may be new
            raise MigrationFailed(AGAIN)
        return decision is Decision.GO

    def _report(self, outcome: Outcome, pause: Pause) -> None:
        self.waited = True
        self.placeholder.publish(readiness(outcome)._replace(section=self.section))
        self.announcer.announce(outcome, pause)

    def _step(self) -> Outcome:
        try:
            inspection = self._inspect()
            if self.plan and self.plan.first is not None and inspection.schemas:
                self.plan.verify_first({state.name for state in inspection.schemas})
            if self._decide(inspection) is Decision.UPGRADE:
                inspection = self._upgrade(inspection)
            outcome = Outcome(inspection, self._decide(inspection))
            if outcome.decision is Decision.GO and self.server_inspector:
                outcome = self._inspect_for_server(self.server_inspector)
        except LockBusy:
            return self._wait_for_lock()
        except DatabaseUnavailable as error:
            return self._wait_for_database(error)
        self.other_migrator.record_lock_free()
        return outcome

    def _inspect(self) -> Inspection:
        inspection = self._inspected = self.inspector.inspect(self._inspection_timeout())
        self.other_migrator.record(inspection.stamp.migrator)
        self.announcer.warn(inspection)
        return inspection

    def _inspect_for_server(self, inspector: Inspector) -> Outcome:
        """Inspect the server's own database. gate never migrates there, so it waits where it would upgrade."""
        inspection = inspector.inspect(self._inspection_timeout())
        policy = self.policy._replace(post_deploy=False)  # what may wait does not keep the server from starting
        decision = decide_for(inspection.drift, policy)
        return Outcome(inspection, Decision.WAIT if decision is Decision.UPGRADE else decision, elsewhere=True)

    def _decide(self, inspection: Inspection) -> Decision:
        return decide_for(inspection.drift, self.policy)

    def _upgrade(self, inspection: Inspection) -> Inspection:
        assert self.plan
        if inspection.schemas is not None:
            from gate.tenants.migrate import migrate_schemas  # noqa: PLC0415 - most images have one version table

            gc_tuning.collect_normally()
            self.waited = True
            after = migrate_schemas(self.plan, self.inspector, inspection, self._should_upgrade)
            self.migrated = True
            return after
        if inspection.stamp.migrator and self.plan.locking:
            raise LockBusy
        from gate.migration.migrate import migrate  # noqa: PLC0415 - most starts migrate nothing

        gc_tuning.collect_normally()
        self.other_migrator.log_unfinished(self.plan.planned(inspection.drift))
        try:
            after = migrate(self.plan, self.inspector, self._should_upgrade)
        except MigrationFailed as error:
            raise self.other_migrator.compare(error) from None
        self.waited = self.migrated = True
        return after

    def _should_upgrade(self, drift: Drift) -> bool:
        return decide_for(drift, self.policy) is Decision.UPGRADE

    def _wait_for_lock(self) -> Outcome:
        self.other_migrator.record_lock_busy()
        assert self._inspected
        return Outcome(self._inspected, locked_out=True)

    def _wait_for_database(self, error: DatabaseUnavailable) -> Outcome:
        last_drift = self._inspected.drift if self._inspected else None
        if isinstance(error, VersionTableLocked):
            self.other_migrator.record(error.migrator)
            if self.plan and self.plan.locking:
                self.other_migrator.record_lock_busy()
            return Outcome(error, last_drift=last_drift)
        away, migrator = self.other_migrator.last_seen()
        self.other_migrator.record_unavailable()
        return Outcome(error, last_drift=last_drift, last_migrator=migrator, away=away)

    def _inspection_timeout(self) -> float | None:
        """Return the seconds that an inspection may take: GATE_TIMEOUT also ends one that hangs."""
        remaining = self.deadline.remaining()
        return None if remaining is None else max(MIN_INSPECTION_TIMEOUT, remaining)
