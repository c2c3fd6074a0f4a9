"""One check for many requests: the last verdict is reused, shared, and kept while the database is away."""

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
from gate.errors import BadScripts, BadSettings, DatabaseUnavailable, GateError, ResourceShortage
from gate.process.threads import BackgroundCall, FrozenCalls
from gate.readiness.answer import Readiness, last_seen

CURRENT_TTL_FACTOR = 6.0
"""The verdict CURRENT is reused for this many times the ttl, since a database is hardly ever downgraded."""

ANSWER_TIMEOUT = 0.5
"""Seconds that a request waits for a check before it takes the last verdict: probes wait for about one second."""

FIRST_ANSWER_TIMEOUT = 3.0
"""The same while there is no verdict yet."""

REUSE_SECONDS = 1.0
"""Seconds for which the same `Readiness` object is returned, so that its answer need not be rendered again."""


@dataclass(eq=False, slots=True)
class InFlightCheck:
    """A check under way, in a thread or in a task of an event loop.

    `finished`: done once the outcome was recorded; requests in any thread and event loop wait for it.
    """

    finished: Future[None] = field(default_factory=Future)
    started_at: float = field(default_factory=time.monotonic)
    work: BackgroundCall[None] | asyncio.Task[None] | None = None

    def running(self) -> bool:
        """Whether it may still finish; a forked process does not have its thread."""
        if isinstance(self.work, BackgroundCall):
            return self.work.running()
        return self.work is not None and not self.work.done()


class VerdictCache:
    """Remembers the outcome of the last check. Thread-safe; at most one check is in flight.

    `ttl`: seconds for which a verdict is reused. `timeout`: seconds after which a check is given up, as if the database
    were away; its outcome is then ignored, since it would be out of date.
    """

    def __init__(self, ttl: float, timeout: float) -> None:
        self._ttl = ttl
        self._timeout = timeout
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._last: tuple[float, Inspection] | None = None
        self._last_migrator: str | None = None
        self._away_since: float | None = None
        self._unfit_since: float | None = time.monotonic()
        self._reason = Readiness().reason
        self.failure: Exception | None = None
        self._in_flight: InFlightCheck | None = None
        self._frozen: FrozenCalls[InFlightCheck] = FrozenCalls()
        self._rendered: tuple[float, Readiness] = (float("-inf"), Readiness())

    def refresh(self, inspect: Callable[[], Inspection]) -> Readiness:
        """Return the verdict, after a check if one is due; a check that takes long goes on without the caller."""
        check = self._begin(lambda check: BackgroundCall(lambda: self._run(check, inspect)))
        if check is not None:
            with suppress(TimeoutError):
                check.finished.result(self._answer_timeout())
        return self.current()

    async def refresh_in_thread(self, inspect: Callable[[], Inspection]) -> Readiness:
        """Do as `refresh` does, without blocking the event loop."""
        return await self._wait(self._begin(lambda check: BackgroundCall(lambda: self._run(check, inspect))))

    async def refresh_async(self, inspect: Callable[[], Awaitable[Inspection]]) -> Readiness:
        """Do as `refresh` does, with a check that is itself asynchronous."""
        return await self._wait(self._begin(lambda check: asyncio.create_task(self._run_async(check, inspect))))

    def current(self) -> Readiness:
        """Return the last verdict, without a check."""
        rendered_at, readiness = self._rendered
        now = time.monotonic()
        if now - rendered_at > REUSE_SECONDS:
            readiness = self._readiness(now)
            self._rendered = (now, readiness)
        return readiness

    def waiting_seconds(self) -> float:
        """Return the seconds since the schema last fitted, 0 while it fits."""
        return 0.0 if self._unfit_since is None else time.monotonic() - self._unfit_since

    def record(self, inspection: Inspection) -> None:
        """Record the outcome of a check."""
        self.failure = None
        now = time.monotonic()
        self._last, self._away_since = (now, inspection), None
        migrator = inspection.stamp.migrator
        self._last_migrator = str(migrator) if migrator else None
        self._unfit_since = None if inspection.drift.fits else (self._unfit_since or now)
        self._checked_at, self._rendered = now, (float("-inf"), Readiness())

    def record_failure(self, error: Exception) -> None:
        """Record that a check failed; the last verdict is kept."""
        self.failure = error
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        self._reason = _public_reason(error)
        self._checked_at, self._rendered = now, (float("-inf"), Readiness())

    def _readiness(self, now: float) -> Readiness:
        away = None if self._away_since is None else now - self._away_since
        if self._last is None:
            return Readiness(away=away, reason=self._reason, migrating=self._migrating())
        checked_at, inspection = self._last
        return Readiness(inspection.drift, now - checked_at, away, migrating=self._migrating())

    def _migrating(self) -> str | None:
        """Return who migrates; while a migrator locks the version table, only the error of the check says so.

        While the database is away, that is only known of the moment when it was last seen.
        """
        if isinstance(self.failure, VersionTableLocked):
            return str(self.failure.migrator)
        if self._last is None or self._last_migrator is None:
            return None
        seen_at, inspection = self._last
        if self._away_since is None:
            return str(inspection.stamp.migrator)
        return last_seen(self._last_migrator, time.monotonic() - seen_at)

    def _is_due(self) -> bool:
        is_current = (
            self._last is not None and self._away_since is None and self._last[1].drift.verdict is Verdict.CURRENT
        )
        return time.monotonic() - self._checked_at >= self._ttl * (CURRENT_TTL_FACTOR if is_current else 1)

    def _answer_timeout(self) -> float:
        return ANSWER_TIMEOUT if self._last else FIRST_ANSWER_TIMEOUT

    async def _wait(self, check: InFlightCheck | None) -> Readiness:
        if check is not None:
            await asyncio.wait({asyncio.wrap_future(check.finished)}, timeout=self._answer_timeout())
        return self.current()

    def _begin(
        self, start: Callable[[InFlightCheck], BackgroundCall[None] | asyncio.Task[None]]
    ) -> InFlightCheck | None:
        """Return the check in flight, after starting one if it is due; None if there is none to wait for."""
        with self._lock:
            self._give_up_if_overdue()
            if self._in_flight is None and self._frozen.oldest_if_full() is None and self._is_due():
                self._in_flight = InFlightCheck()
                work = self._in_flight.work = start(self._in_flight)
                if isinstance(work, BackgroundCall) and work.done():
                    # Its outcome needs this lock, so it has none: no thread could be started.
                    self._in_flight = None
                    self.record_failure(_shortage(work))
            return self._in_flight

    def _give_up_if_overdue(self) -> None:
        check = self._in_flight
        if check is not None and not check.running():
            self._in_flight = None
        elif check is not None and time.monotonic() - check.started_at > self._timeout:
            self._in_flight = None
            self._frozen.add(check)
            if isinstance(check.work, asyncio.Task):
                check.work.cancel()
            self.record_failure(DatabaseUnavailable())

    def _run(self, check: InFlightCheck, inspect: Callable[[], Inspection]) -> None:
        try:
            outcome: Inspection | Exception = inspect()
        except Exception as error:  # noqa: BLE001 - a probe is answered, whatever a check raises
            outcome = error
        self._finish(check, outcome)

    async def _run_async(self, check: InFlightCheck, inspect: Callable[[], Awaitable[Inspection]]) -> None:
        try:
            outcome: Inspection | Exception = await inspect()
        except Exception as error:  # noqa: BLE001 - likewise
            outcome = error
        self._finish(check, outcome)

    def _finish(self, check: InFlightCheck, outcome: Inspection | Exception) -> None:
        """Record the outcome, unless the check was given up."""
        with self._lock:
            if self._in_flight is check:
                self._in_flight = None
                self.record_failure(outcome) if isinstance(outcome, Exception) else self.record(outcome)
        check.finished.set_result(None)


def _shortage(call: BackgroundCall[None]) -> Exception:
    error = call.exception()
    return error if isinstance(error, Exception) else ResourceShortage()


def _public_reason(error: Exception) -> str:
    """Say why a check failed, without names of files, hosts or roles, since anybody may read the answer."""
    if isinstance(error, BadScripts):
        return "the migration scripts of this image are unusable; its log or `gate check` says why"
    if isinstance(error, BadSettings):
        return "the settings are wrong; the log or `gate check` says why"
    if isinstance(error, GateError):
        return "the database cannot be inspected; the log or `gate check` says why"
    return "the check failed; the log says why"
