"""Work in a thread, so that signals are answered and deadlines kept while it hangs in C."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class BackgroundCall(Generic[_T]):
    """Work that has been begun and whose outcome can be waited for, more than once if need be."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._outcome: queue.SimpleQueue[_T | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._go, args=(work,), daemon=True)
        self._thread.start()

    @property
    def is_under_way(self) -> bool:
        """Whether its thread still works; in a process forked meanwhile there is no such thread."""
        return self._thread.is_alive()

    def _go(self, work: Callable[[], _T]) -> None:
        try:
            self._outcome.put(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread, whatever it is
            self._outcome.put(error)

    @property
    def done(self) -> bool:
        """Whether `result` would give or raise something at once."""
        return not self._outcome.empty()

    def result(self, limit: float) -> _T:
        """Give what the work gave, or raise what it raised; `TimeoutError` after `limit` seconds."""
        try:
            outcome = self._outcome.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def try_for(limit: float, work: Callable[[], _T]) -> _T | None:
    """What the work gives; None if it failed, or did not end in so many seconds. For what is good to have."""
    try:
        return BackgroundCall(work).result(limit)
    except Exception:  # noqa: BLE001 - whatever it is, gate goes on without
        return None


class PeriodicCall:
    """Work that is begun again and again, so many seconds apart, and never while the last of it is under way."""

    def __init__(self, work: Callable[[], None], every: float) -> None:
        self._work, self._every = work, every
        self._errand: BackgroundCall[None] | None = None
        self._next = 0.0

    def attend(self) -> None:
        """Begin it if it is time; raises what it raised."""
        if self._errand and self._errand.done:
            outcome, self._errand = self._errand, None
            outcome.result(0)
        now = time.monotonic()
        if self._errand is None and now >= self._next:
            self._next = now + self._every
            self._errand = BackgroundCall(self._work)

    def soon(self) -> None:
        """Begin it as soon as the last of it is over."""
        self._next = 0.0
