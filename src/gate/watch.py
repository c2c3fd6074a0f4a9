"""One look for many questions: the last verdict, reused, shared, and kept while the database is away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from gate.drift import Verdict
from gate.errors import BadScripts, BadSettings, DatabaseUnavailable, GateError
from gate.look import Seen
from gate.migrator import VersionTableLocked
from gate.readiness import Readiness

CALM = 6.0
"""Once CURRENT, a verdict is reused for so many times the ttl: a stamp hardly ever goes back."""

PATIENCE = 0.5
"""Seconds that a question waits for a look in flight before it takes the last verdict: probes have about one."""

FIRST_PATIENCE = 3.0
"""The same while there is no verdict yet."""

FRESH = 1.0
"""Seconds for which the very same `Readiness` is given again, so that its answer need not be made anew."""

MOST_LOST = 3
"""Looks that were given up and still hang: each keeps a connection of the application's pool."""


@dataclass(eq=False, slots=True)
class Flight:
    """One look under way, for all who wait for it; done in a thread, or in a task of the event loop."""

    landed: Future[None] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None
    task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it still flies; in a process forked meanwhile there is no such thread."""
        return self.thread.is_alive() if self.thread else self.task is not None and not self.task.done()


class Watch:
    """Remembers what the last look saw. Thread-safe; at most one look is in flight.

    `limit`: seconds after which a look is given up, as if the database were away.
    """

    def __init__(self, ttl: float, limit: float) -> None:
        self._ttl = ttl
        self._limit = limit
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: tuple[float, Seen] | None = None
        self._away_since: float | None = None
        self._waiting_since: float | None = time.monotonic()
        self._reason = "nothing was seen yet"
        self.failure: Exception | None = None
        self._flight: Flight | None = None
        self._lost: list[Flight] = []
        self._given: tuple[float, Readiness] = (float("-inf"), Readiness())

    def fresh(self, look: Callable[[], Seen]) -> Readiness:
        """The verdict now, after a look if one is due; waits for it only a little."""
        flight = self._flying(lambda flight: self._in_thread(look, flight))
        if flight is not None:
            with suppress(TimeoutError):
                flight.landed.result(self._patience())
        return self.now()

    async def afresh(self, look: Callable[[], Seen]) -> Readiness:
        """The same without blocking an event loop."""
        return await self._awaited(self._flying(lambda flight: self._in_thread(look, flight)))

    async def afresh_by(self, look: Callable[[], Awaitable[Seen]]) -> Readiness:
        """The same where the look itself is asynchronous."""
        return await self._awaited(self._flying(lambda flight: self._in_task(look, flight)))

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
        self.failure = None
        moment = time.monotonic()
        self._seen, self._away_since = (moment, seen), None
        self._waiting_since = None if seen.drift.fits else (self._waiting_since or moment)
        self._looked_at, self._given = moment, (float("-inf"), Readiness())

    def record_failure(self, error: Exception) -> None:
        """Take in that a look saw nothing; the last verdict stands."""
        self.failure = error
        moment = time.monotonic()
        self._away_since = moment if self._away_since is None else self._away_since
        self._reason = _reason(error)
        self._looked_at, self._given = moment, (float("-inf"), Readiness())

    def _readiness(self, moment: float) -> Readiness:
        away = None if self._away_since is None else moment - self._away_since
        if self._seen is None:
            return Readiness(away=away, reason=self._reason, migrating=self._migrating())
        at, seen = self._seen
        return Readiness(seen.drift, moment - at, away, migrating=self._migrating())

    def _migrating(self) -> str | None:
        """Who is; of one that locks the version table a look sees nothing else."""
        if isinstance(self.failure, VersionTableLocked):
            return str(self.failure.migrator)
        migrator = self._seen[1].stamp.migrator if self._seen else None
        return str(migrator) if migrator else None

    def _due(self) -> bool:
        calm = self._seen is not None and self._away_since is None and self._seen[1].drift.verdict is Verdict.CURRENT
        return time.monotonic() - self._looked_at >= self._ttl * (CALM if calm else 1)

    def _patience(self) -> float:
        return PATIENCE if self._seen else FIRST_PATIENCE

    async def _awaited(self, flight: Flight | None) -> Readiness:
        if flight is not None:
            await asyncio.wait({asyncio.wrap_future(flight.landed)}, timeout=self._patience())
        return self.now()

    def _flying(self, begin: Callable[[Flight], None]) -> Flight | None:
        """The look in flight, begun here if one is due."""
        with self._lock:
            self._give_up_what_is_late()
            if self._flight is None and len(self._lost) < MOST_LOST and self._due():
                self._flight = Flight()
                begin(self._flight)
            return self._flight

    def _give_up_what_is_late(self) -> None:
        flight = self._flight
        if flight is not None and not flight.is_up:
            self._flight = None
        elif flight is not None and time.monotonic() - flight.began > self._limit:
            self._flight = None
            self._lost.append(flight)
            if flight.task is not None:
                flight.task.cancel()
            self.record_failure(DatabaseUnavailable())
        self._lost = [each for each in self._lost if each.is_up]

    def _in_thread(self, look: Callable[[], Seen], flight: Flight) -> None:
        def fly() -> None:
            try:
                found: Seen | Exception = look()
            except Exception as error:  # noqa: BLE001 - a probe is answered whatever happens
                found = error
            self._land(flight, found)

        flight.thread = threading.Thread(target=fly, daemon=True)
        flight.thread.start()

    def _in_task(self, look: Callable[[], Awaitable[Seen]], flight: Flight) -> None:
        async def fly() -> None:
            try:
                found: Seen | Exception = await look()
            except Exception as error:  # noqa: BLE001 - likewise
                found = error
            self._land(flight, found)

        flight.task = asyncio.create_task(fly())

    def _land(self, flight: Flight, found: Seen | Exception) -> None:
        """Take in what it found, unless it was given up: that is too old to be believed."""
        with self._lock:
            if self._flight is flight:
                self._flight = None
                self.record_failure(found) if isinstance(found, Exception) else self.record(found)
        flight.landed.set_result(None)


def _reason(error: Exception) -> str:
    """Why nothing was seen, without names of files, hosts or roles: this goes out over HTTP."""
    if isinstance(error, BadScripts):
        return "the migration scripts of this image are unusable; its log or `gate check` says why"
    if isinstance(error, BadSettings):
        return "the settings are wrong; the log or `gate check` says why"
    if isinstance(error, GateError):
        return "the database cannot be looked at; the log or `gate check` says why"
    return "looking failed; the log says why"
