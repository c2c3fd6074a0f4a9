"""Look, decide, act, look again: the whole story."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gate import explanation, log, wait
from gate.announce import Announcer, going, refusal, told
from gate.child import Plan
from gate.decision import Decision, Policy, decide
from gate.drift import Drift
from gate.engines import backends_of
from gate.errors import DatabaseUnavailable, GateError, LockBusy, LockTimeout, MigrationFailed, Refused, TimedOut
from gate.hold import Hold
from gate.look import Looker, Seen
from gate.migrate import migrate
from gate.migrator import Migrator
from gate.readiness import Readiness
from gate.wait import Pause

AWAY = "the database cannot be looked at; the log says why"

LEAST_LOOK = 1.0
"""Seconds that a look gets however near the end of GATE_TIMEOUT is."""

LEAST_LIMIT = 0.001
"""Seconds of a limit that has passed already: 0 would mean none."""


@dataclass(slots=True)
class Gate:
    """Everything that passing takes.

    `last` looks as the server will connect, where that is another way; `limit`: seconds of the whole since `began`, by
    the monotonic clock, 0 = none.
    """

    policy: Policy
    looker: Looker
    announcer: Announcer
    hold: Hold
    plan: Plan | None = None
    last: Looker | None = None
    limit: float = 0
    began: float = field(default_factory=time.monotonic)
    lock_limit: float = 0
    poll_max: float = 10
    _seen: Seen | None = field(default=None, init=False)
    _last: Seen | GateError | None = field(default=None, init=False)
    _deadline: float = field(default=0.0, init=False)
    _finding: Callable[[Pause], None] = field(default=lambda _: None, init=False)
    _locked_out_since: float | None = field(default=None, init=False)
    _watched: Migrator | None = field(default=None, init=False)
    _watching_since: float | None = field(default=None, init=False)

    def stand(self) -> None:
        """Return when the schema fits, or as the policy has it.

        Raises every `GateError` that ends the waiting.
        """
        self._deadline = self.began + self.limit
        left = max(LEAST_LIMIT, self._deadline - time.monotonic()) if self.limit else 0
        try:
            wait.until(self._step, cap=self._cap, limit=left, before_pause=self._say)
        except TimedOut:
            found = told(self._last) if self._last else ""
            raise TimedOut(f"The schema did not fit within {self.limit:g} s (GATE_TIMEOUT). {found}".rstrip()) from None

    def _say(self, pause: Pause) -> None:
        self._finding(pause)

    def _step(self) -> bool:
        try:
            seen = self._look()
            decision = self._decide(seen.drift)
            if decision is Decision.UPGRADE:
                seen = self._migrate(seen)
                decision = self._decide(seen.drift)
            if decision is Decision.GO and self.last:
                seen = self.last.look(self._patience())
                decision = Decision.WAIT if (found := self._decide(seen.drift)) is Decision.UPGRADE else found
        except DatabaseUnavailable as error:
            trouble = self._last = error
            self._show()
            return self._waits(lambda pause: self.announcer.trouble(trouble, pause))
        except LockBusy:
            return self._locked_out()
        return self._act(decision, seen)

    def _show(self, seen: Seen | None = None) -> None:
        """Let GATE_HOLD answer with what was found."""
        if seen is None:
            self.hold.tell(Readiness(self._seen.drift if self._seen else None, away=0, reason=AWAY))
        else:
            self.hold.tell(Readiness(seen.drift, migrating=str(seen.stamp.migrator) if seen.stamp.migrator else None))

    def _act(self, decision: Decision, seen: Seen) -> bool:
        self._locked_out_since, self._last = None, seen
        if decision is Decision.GO:
            going(seen)
            self.announcer.termination.clear()
            return True
        if decision is Decision.REFUSE:
            raise Refused(refusal(seen, migrating=self.policy.migrating))
        return self._waits(lambda pause: self.announcer.drifted(seen, pause))

    def _look(self) -> Seen:
        self._seen = self.looker.look(self._patience())
        self._watched = self._seen.stamp.migrator or self._watched
        self._show(self._seen)
        return self._seen

    def _patience(self) -> float | None:
        """How long a look may take: GATE_TIMEOUT holds while one hangs, too."""
        return max(LEAST_LOOK, self._deadline - time.monotonic()) if self.limit else None

    def _decide(self, drift: Drift) -> Decision:
        return decide(drift.verdict, self.policy)

    def _migrate(self, seen: Seen) -> Seen:
        assert self.plan
        gone = self._watched
        if seen.stamp.migrator and self.plan.locking:
            raise LockBusy
        if gone:
            text = f"Another migrator ({gone}) ended and left {explanation.count(seen.drift)}; gate tries itself."
            log.emit("warning", "gate.migration_unfinished", text, revision=gone.revision or None, host=gone.host)
        try:
            return migrate(self.plan, self.looker, lambda drift: self._decide(drift) is Decision.UPGRADE)
        except MigrationFailed as error:
            if gone and gone.revision and error.revision.startswith(gone.revision):
                text = f"{error} Two migrators have now failed in revision {gone.revision}: a third try will not help."
                raise MigrationFailed(text, error.revision) from None
            raise

    def _locked_out(self) -> bool:
        now = time.monotonic()
        self._locked_out_since = self._locked_out_since or now
        if self.lock_limit and now - self._locked_out_since >= self.lock_limit:
            raise LockTimeout(self._holder())
        seen = self._last = self._seen
        assert seen
        return self._waits(lambda pause: self.announcer.drifted(seen, pause, locked_out=True))

    def _holder(self) -> str:
        migrator = self._seen.stamp.migrator if self._seen else None
        end = f" If it hangs, end it in the database: {self._how_to_end(migrator)}." if migrator else ""
        return (
            f"Another migrator kept the lock for longer than {self.lock_limit:g} s (GATE_LOCK_TIMEOUT): "
            f"{migrator or 'it cannot be seen from here'}.{end}"
        )

    def _how_to_end(self, migrator: Migrator) -> str:
        return backends_of(self.looker.database, self.looker.table.key).how_to_end(migrator.pid)

    def _waits(self, finding: Callable[[Pause], None]) -> bool:
        self._finding = finding
        return False

    def _cap(self) -> float:
        if not (self._locked_out_since or (self._seen and self._seen.stamp.migrator)):
            self._watching_since = None
            return self.poll_max
        now = time.monotonic()
        self._watching_since = self._watching_since or now
        return min(wait.watching_cap(now - self._watching_since), self.poll_max)
