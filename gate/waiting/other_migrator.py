"""Another migrator: how long it may keep gate out, how soon its end is noticed, and what if it ended in vain."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gate import log
from gate.database.lock import Migrator
from gate.drift import messages
from gate.drift.comparison import Drift
from gate.errors import LockTimeout, MigrationFailed
from gate.waiting import backoff


@dataclass(slots=True)
class OtherMigrator:
    """What one gate has seen of others.

    `how_to_end`: the statement that ends a backend; `lock_limit`: seconds for which it may keep gate out, 0 = for ever;
    `poll_max`: seconds of the longest pause while nobody is at work.
    """

    how_to_end: Callable[[int], str]
    lock_limit: float
    poll_max: float
    _at_work: Migrator | None = field(default=None, init=False)
    _last: Migrator | None = field(default=None, init=False)
    _locked_out_since: float | None = field(default=None, init=False)
    _watching_since: float | None = field(default=None, init=False)

    def note(self, migrator: Migrator | None) -> None:
        """Take in who is at work, or that nobody is."""
        self._at_work, self._last = migrator, migrator or self._last

    def keeps_out(self) -> None:
        """Take in that it has the lock; raises `LockTimeout` if it has kept that too long."""
        now = time.monotonic()
        self._locked_out_since = self._locked_out_since or now
        if self.lock_limit and now - self._locked_out_since >= self.lock_limit:
            raise LockTimeout(self._holder())

    def lets_in(self) -> None:
        """Take in that nobody keeps gate out any more."""
        self._locked_out_since = None

    def _holder(self) -> str:
        who = self._at_work
        end = f" If it hangs, end it in the database: {self.how_to_end(who.pid)}." if who else ""
        return (
            f"Another migrator kept the lock for longer than {self.lock_limit:g} s (GATE_MIGRATION_LOCK_TIMEOUT): "
            f"{who or 'it cannot be inspection from here'}.{end}"
        )

    def tell_its_end(self, left: Drift) -> None:
        """Say so if one was at work and ended without finishing."""
        if gone := self._last:
            text = f"Another migrator ({gone}) ended and left {messages.pending_text(left)}; gate tries itself."
            log.emit("warning", "gate.migration_unfinished", text, revision=gone.revision or None, host=gone.host)

    def compared(self, failure: MigrationFailed) -> MigrationFailed:
        """The failure of gate's own attempt, and whether that was in the same revision as the other's."""
        revision = self._last.revision if self._last else ""
        if not revision or not failure.revision.startswith(revision):
            return failure
        text = f"{failure} Two migrators have now failed in revision {revision}: a third try will not help."
        return MigrationFailed(text, failure.revision)

    def cap(self) -> float:
        """The longest pause in seconds: shorter while a migrator is at work, so that its end is noticed soon."""
        if not (self._locked_out_since or self._at_work):
            self._watching_since = None
            return self.poll_max
        now = time.monotonic()
        self._watching_since = self._watching_since or now
        return min(backoff.migrator_pause_cap(now - self._watching_since), self.poll_max)
