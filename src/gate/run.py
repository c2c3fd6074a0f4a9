"""Look, decide, act, look again: the whole story."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gate import garbage, wait
from gate.announce import Announcer, going, refusal, told
from gate.decision import Decision, Policy, decide
from gate.drift import Drift
from gate.errors import DatabaseUnavailable, GateError, LockBusy, MigrationFailed, Refused, TimedOut
from gate.hold import Hold
from gate.look import Looker, Seen
from gate.migrator import Migrator, VersionTableLocked
from gate.plan import Plan
from gate.readiness import Readiness
from gate.rival import Rival
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
    rival: Rival
    plan: Plan | None = None
    last: Looker | None = None
    limit: float = 0
    began: float = field(default_factory=time.monotonic)
    _seen: Seen | None = field(default=None, init=False)
    _finding: Seen | GateError | None = field(default=None, init=False)
    _elsewhere: bool = field(default=False, init=False)
    _say: Callable[[Pause], None] = field(default=lambda _: None, init=False)

    def stand(self) -> None:
        """Return when the schema fits, or as the policy has it.

        Raises every `GateError` that ends the waiting.
        """
        left = max(LEAST_LIMIT, self._time_left()) if self.limit else 0
        say = lambda pause: self._say(pause)  # noqa: E731, PLW0108 - it is another one after each look
        try:
            wait.until(self._step, cap=self.rival.cap, limit=left, before_pause=say)
        except TimedOut:
            found = told(self._finding, elsewhere=self._elsewhere) if self._finding else ""
            raise TimedOut(f"The schema did not fit within {self.limit:g} s (GATE_TIMEOUT). {found}".rstrip()) from None

    def _step(self) -> bool:
        try:
            seen = self._look()
            decision = self._decide(seen.drift)
            if decision is Decision.UPGRADE:
                seen = self._migrate(seen)
                decision = self._decide(seen.drift)
            if elsewhere := decision is Decision.GO and self.last is not None:
                seen, decision = self._look_a_last_time()
        except DatabaseUnavailable as error:
            return self._wait_for_the_database(error)
        except LockBusy:
            return self._wait_for_the_lock()
        return self._act(decision, seen, elsewhere=elsewhere)

    def _look(self) -> Seen:
        seen = self._seen = self.looker.look(self._patience())
        migrator = seen.stamp.migrator
        self.rival.note(migrator)
        self.hold.tell(Readiness(seen.drift, age=0, migrating=str(migrator) if migrator else None, held=True))
        return seen

    def _look_a_last_time(self) -> tuple[Seen, Decision]:
        """Where nothing is migrated, there is only waiting for it."""
        assert self.last
        seen = self.last.look(self._patience())
        decision = self._decide(seen.drift)
        return seen, Decision.WAIT if decision is Decision.UPGRADE else decision

    def _decide(self, drift: Drift) -> Decision:
        return decide(drift.verdict, self.policy)

    def _migrate(self, seen: Seen) -> Seen:
        assert self.plan
        if seen.stamp.migrator and self.plan.locking:
            raise LockBusy
        from gate.migrate import migrate  # noqa: PLC0415 - most starts migrate nothing

        garbage.collect_as_usual()
        self.rival.tell_its_end(seen.drift)
        try:
            return migrate(self.plan, self.looker, lambda drift: self._decide(drift) is Decision.UPGRADE)
        except MigrationFailed as error:
            raise self.rival.compared(error) from None

    def _act(self, decision: Decision, seen: Seen, *, elsewhere: bool) -> bool:
        self._finding, self._elsewhere = seen, elsewhere
        self.rival.lets_in()
        if decision is Decision.GO:
            going(seen)
            self.announcer.termination.clear()
            return True
        if decision is Decision.REFUSE:
            raise Refused(refusal(seen, migrating=self.policy.migrating, elsewhere=elsewhere))
        self._say = lambda pause: self.announcer.drifted(seen, pause, elsewhere=elsewhere)
        return False

    def _wait_for_the_database(self, error: DatabaseUnavailable) -> bool:
        self._finding = error
        migrator = error.migrator if isinstance(error, VersionTableLocked) else None
        if migrator:
            self._note_the_rival(migrator)
        drift, who = self._seen.drift if self._seen else None, str(migrator) if migrator else None
        self.hold.tell(Readiness(drift, away=0, reason=AWAY, migrating=who, held=True))
        self._say = lambda pause: self.announcer.trouble(error, pause)
        return False

    def _note_the_rival(self, migrator: Migrator) -> None:
        self.rival.note(migrator)
        if self.plan and self.plan.locking:
            self.rival.keeps_out()

    def _wait_for_the_lock(self) -> bool:
        self.rival.keeps_out()
        seen, self._elsewhere = self._seen, False
        self._finding = seen
        assert seen
        self._say = lambda pause: self.announcer.drifted(seen, pause, locked_out=True)
        return False

    def _patience(self) -> float | None:
        """How long a look may take: GATE_TIMEOUT holds while one hangs, too."""
        return max(LEAST_LOOK, self._time_left()) if self.limit else None

    def _time_left(self) -> float:
        return self.began + self.limit - time.monotonic()
