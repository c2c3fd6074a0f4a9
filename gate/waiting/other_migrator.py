"""Tracks another migrator: lock timeout, polling interval, and whether it failed."""

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
    """What one gate has seen of other migrators.

    `termination_statement` returns the SQL that ends a backend. `lock_timeout`: seconds for which the lock may be held
    by another (GATE_MIGRATION_LOCK_TIMEOUT), 0 = no limit. `poll_max`: the longest pause in seconds (GATE_POLL_MAX).
    """

    termination_statement: Callable[[int], str]
    lock_timeout: float
    poll_max: float
    _current: Migrator | None = field(default=None, init=False)
    _last: Migrator | None = field(default=None, init=False)
    _last_seen: tuple[float, str | None] | None = field(default=None, init=False)
    _description: str = field(default="", init=False)
    _locked_since: float | None = field(default=None, init=False)
    _active_since: float | None = field(default=None, init=False)

    def record(self, migrator: Migrator | None) -> None:
        """Record the migrator that is active, or that none is."""
        self._current, self._last = migrator, migrator or self._last
        self._last_seen = time.monotonic(), str(migrator) if migrator else None
        if migrator:
            self._description = str(migrator)

    def record_unavailable(self) -> None:
        """Record that the database is away: whether another migrator is active, and holds the lock, is not known."""
        self._current = self._locked_since = None

    def last_seen(self) -> tuple[float | None, str | None]:
        """Return the seconds since the database was last seen, and who was migrating then, in words."""
        if self._last_seen is None:
            return None, None
        moment, migrator = self._last_seen
        return time.monotonic() - moment, migrator

    def record_lock_busy(self) -> None:
        """Record that another migrator holds the lock; raises `LockTimeout` if it has held it for too long."""
        now = time.monotonic()
        self._locked_since = self._locked_since or now
        if self.lock_timeout and now - self._locked_since >= self.lock_timeout:
            raise LockTimeout(self._lock_timeout_message())

    def record_lock_free(self) -> None:
        """Record that the lock does not keep gate from migrating."""
        self._locked_since = None

    def _lock_timeout_message(self) -> str:
        holder = self._current
        remedy = f" If it hangs, end it in the database: {self.termination_statement(holder.pid)}." if holder else ""
        return (
            f"Another migrator held the lock for longer than {self.lock_timeout:g} s (GATE_MIGRATION_LOCK_TIMEOUT): "
            f"{holder or 'the database does not show which one'}.{remedy}"
        )

    def log_unfinished(self, drift: Drift) -> None:
        """Log that another migrator ended before its work was finished, if there was one; `drift` is what it left."""
        if last := self._last:
            left = messages.pending_text(drift)
            text = f"Another migrator ({self._description}) ended and left {left}. gate now migrates."
            log.emit("warning", "gate.migration_unfinished", text, revision=last.revision or None, host=last.host)

    def compare(self, failure: MigrationFailed) -> MigrationFailed:
        """Return the failure of gate's own attempt, with a hint if the other migrator was in the same revision."""
        revision = self._last.revision if self._last else ""
        if not revision or not failure.revision.startswith(revision):
            return failure
        text = f"{failure} Two migrators have now failed in revision {revision}: a third attempt will not help."
        return MigrationFailed(text, failure.revision)

    def max_pause(self) -> float:
        """Return the longest pause in seconds: shorter while a migrator is active, so that its end is noticed soon."""
        if not (self._locked_since or self._current):
            self._active_since = None
            return self.poll_max
        now = time.monotonic()
        self._active_since = self._active_since or now
        return min(backoff.max_pause_during_migration(now - self._active_since), self.poll_max)
