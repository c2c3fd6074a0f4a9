"""One look for many questions: the last verdict, reused, shared, and kept while the database is away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from gate.database.stamp import VersionTableLocked
from gate.drift.comparison import Verdict
from gate.drift.inspector import Inspection
from gate.errors import BadScripts, BadSettings, DatabaseUnavailable, GateError
from gate.readiness.answer import Readiness

CURRENT_TTL_FACTOR = 6.0
"""Once CURRENT, a verdict is reused for so many times the ttl: a stamp hardly ever goes back."""

ANSWER_TIMEOUT = 0.5
"""Seconds that a question waits for a look in flight before it takes the last verdict: probes have about one."""

FIRST_ANSWER_TIMEOUT = 3.0
"""The same while there is no verdict yet."""

REUSE_SECONDS = 1.0
"""Seconds for which the very same `Readiness` is given again, so that its answer need not be made anew."""

MAX_FROZEN = 3
"""Looks that were given up and still hang: each keeps a connection of the application's pool."""


@dataclass(eq=False, slots=True)
class InFlightCheck:
    """One look under way, for all who wait for it; done in a thread, or in a task of the event loop."""

    landed: Future[None] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None
    task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it still flies; in a process forked meanwhile there is no such thread."""
        return self.thread.is_alive() if self.thread else self.task is not None and not self.task.done()


class VerdictCache:
    """Remembers what the last look saw. Thread-safe; at most one look is in flight.

    `limit`: seconds after which a look is given up, as if the database were away.
    """

    def __init__(self, ttl: float, limit: float) -> None:
        self._ttl = ttl
        self._limit = limit
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: tuple[float, Inspection] | None = None
        self._away_since: float | None = None
        self._waiting_since: float | None = time.monotonic()
        self._reason = "nothing was seen yet"
        self.failure: Exception | None = None
        self._flight: InFlightCheck | None = None
        self._lost: list[InFlightCheck] = []
        self._given: tuple[float, Readiness] = (float("-inf"), Readiness())

    def fresh(self, inspect: Callable[[], Inspection]) -> Readiness:
        """The verdict now, after a look if one is due; waits for it only a little."""
        flight = self._flying(lambda flight: self._in_thread(inspect, flight))
        if flight is not None:
            with suppress(TimeoutError):
                flight.landed.result(self._patience())
        return self.now()

    async def afresh(self, inspect: Callable[[], Inspection]) -> Readiness:
        """The same without blocking an event loop."""
        return await self._awaited(self._flying(lambda flight: self._in_thread(inspect, flight)))

    async def afresh_by(self, inspect: Callable[[], Awaitable[Inspection]]) -> Readiness:
        """The same where the look itself is asynchronous."""
        return await self._awaited(self._flying(lambda flight: self._in_task(inspect, flight)))

    def now(self) -> Readiness:
        """The verdict as it stands, without a look."""
        made, readiness = self._given
        moment = time.monotonic()
        if moment - made > REUSE_SECONDS:
            readiness = self._readiness(moment)
            self._given = (moment, readiness)
        return readiness

    def waiting(self) -> float:
        """Seconds for which the schema has not fitted, 0 while it does."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def record(self, inspection: Inspection) -> None:
        """Take in what a look saw."""
        self.failure = None
        moment = time.monotonic()
        self._seen, self._away_since = (moment, inspection), None
        self._waiting_since = None if inspection.drift.fits else (self._waiting_since or moment)
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
        at, inspection = self._seen
        return Readiness(inspection.drift, moment - at, away, migrating=self._migrating())

    def _migrating(self) -> str | None:
        """Who is; of one that locks the version table a look sees nothing else."""
        if isinstance(self.failure, VersionTableLocked):
            return str(self.failure.migrator)
        migrator = self._seen[1].stamp.migrator if self._seen else None
        return str(migrator) if migrator else None

    def _due(self) -> bool:
        calm = self._seen is not None and self._away_since is None and self._seen[1].drift.verdict is Verdict.CURRENT
        return time.monotonic() - self._looked_at >= self._ttl * (CURRENT_TTL_FACTOR if calm else 1)

    def _patience(self) -> float:
        return ANSWER_TIMEOUT if self._seen else FIRST_ANSWER_TIMEOUT

    async def _awaited(self, flight: InFlightCheck | None) -> Readiness:
        if flight is not None:
            await asyncio.wait({asyncio.wrap_future(flight.landed)}, timeout=self._patience())
        return self.now()

    def _flying(self, begin: Callable[[InFlightCheck], None]) -> InFlightCheck | None:
        """The look in flight, begun here if one is due."""
        with self._lock:
            self._give_up_what_is_late()
            if self._flight is None and len(self._lost) < MAX_FROZEN and self._due():
                self._flight = InFlightCheck()
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

    def _in_thread(self, inspect: Callable[[], Inspection], flight: InFlightCheck) -> None:
        def fly() -> None:
            try:
                found: Inspection | Exception = inspect()
            except Exception as error:  # noqa: BLE001 - a probe is answered whatever happens
                found = error
            self._land(flight, found)

        flight.thread = threading.Thread(target=fly, daemon=True)
        flight.thread.start()

    def _in_task(self, inspect: Callable[[], Awaitable[Inspection]], flight: InFlightCheck) -> None:
        async def fly() -> None:
            try:
                found: Inspection | Exception = await inspect()
            except Exception as error:  # noqa: BLE001 - likewise
                found = error
            self._land(flight, found)

        flight.task = asyncio.create_task(fly())

    def _land(self, flight: InFlightCheck, found: Inspection | Exception) -> None:
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
