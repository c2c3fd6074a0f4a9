"""One look for many questions: the last verdict, reused, shared, and kept while the database is away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gate.drift import Verdict
from gate.errors import BadScripts, BadSettings, GateError
from gate.look import Seen
from gate.readiness import Readiness

CALM = 6.0
"""Once CURRENT, a verdict is reused for so many times the ttl: a stamp hardly ever goes back."""

PATIENCE = 0.5
"""Seconds that a question waits for a look in flight before it takes the last verdict: probes have about one."""

FIRST_PATIENCE = 3.0
"""The same while there is no verdict yet."""

FRESH = 1.0
"""Seconds for which the very same `Readiness` is given again, so that its answer need not be made anew."""


class Watch:
    """Remembers what the last look saw. Thread-safe; at most one look is in flight."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: tuple[float, Seen] | None = None
        self._away_since: float | None = None
        self._waiting_since: float | None = time.monotonic()
        self._reason = "nothing was seen yet"
        self._flight: threading.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._given: tuple[float, Readiness] = (float("-inf"), Readiness())

    def fresh(self, look: Callable[[], Seen]) -> Readiness:
        """The verdict now, after a look if one is due; waits for it only a little."""
        with self._lock:
            if self._flight is None and self._due():
                self._flight = threading.Event()
                threading.Thread(target=self._fly, args=(look, self._flight), daemon=True).start()
            flight = self._flight
        if flight is not None:
            flight.wait(self._patience())
        return self.now()

    async def afresh(self, look: Callable[[], Awaitable[Seen]]) -> Readiness:
        """The same in an event loop."""
        if (self._task is None or self._task.done()) and self._due():
            self._task = asyncio.create_task(self._afly(look))
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=self._patience())
        return self.now()

    def now(self) -> Readiness:
        """The verdict as it stands, without a look."""
        made, readiness = self._given
        moment = time.monotonic()
        if moment - made > FRESH:
            readiness = self._readiness(moment)
            self._given = (moment, readiness)
        return readiness

    def waiting(self) -> float:
        """Seconds for which the schema has not fitted, 0 while it does."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def record(self, seen: Seen) -> None:
        """Take in what a look saw."""
        moment = time.monotonic()
        self._seen, self._away_since = (moment, seen), None
        self._waiting_since = None if seen.drift.fits else (self._waiting_since or moment)
        self._looked_at, self._given = moment, (float("-inf"), Readiness())

    def record_failure(self, error: Exception) -> None:
        """Take in that a look saw nothing; the last verdict stands."""
        moment = time.monotonic()
        self._away_since = moment if self._away_since is None else self._away_since
        self._reason = _reason(error)
        self._looked_at, self._given = moment, (float("-inf"), Readiness())

    def _readiness(self, moment: float) -> Readiness:
        away = None if self._away_since is None else moment - self._away_since
        if self._seen is None:
            return Readiness(away=away, reason=self._reason)
        at, seen = self._seen
        migrating = str(seen.stamp.migrator) if seen.stamp.migrator else None
        return replace(Readiness(seen.drift, moment - at, away), migrating=migrating)

    def _due(self) -> bool:
        calm = self._seen is not None and self._away_since is None and self._seen[1].drift.verdict is Verdict.CURRENT
        return time.monotonic() - self._looked_at >= self._ttl * (CALM if calm else 1)

    def _patience(self) -> float:
        return PATIENCE if self._seen else FIRST_PATIENCE

    def _fly(self, look: Callable[[], Seen], flight: threading.Event) -> None:
        try:
            self.record(look())
        except Exception as error:  # noqa: BLE001 - a probe is answered whatever happens
            self.record_failure(error)
        finally:
            with self._lock:
                self._flight = None
            flight.set()

    async def _afly(self, look: Callable[[], Awaitable[Seen]]) -> None:
        try:
            self.record(await look())
        except Exception as error:  # noqa: BLE001 - likewise
            self.record_failure(error)


def _reason(error: Exception) -> str:
    """Why nothing was seen, without names of files, hosts or roles: this goes out over HTTP."""
    if isinstance(error, BadScripts):
        return "the migration scripts of this image are unusable; its log or `gate check` says why"
    if isinstance(error, BadSettings):
        return "the settings are wrong; the log or `gate check` says why"
    if isinstance(error, GateError):
        return "the database cannot be looked at; the log or `gate check` says why"
    return "looking failed; the log says why"
