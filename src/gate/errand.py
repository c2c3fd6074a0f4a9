"""Work in a thread, so that signals are answered and deadlines kept while it hangs in C."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Errand(Generic[_T]):
    """Work that has been begun and whose outcome can be waited for, more than once if need be."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._outcome: queue.SimpleQueue[_T | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._go, args=(work,), daemon=True).start()

    def _go(self, work: Callable[[], _T]) -> None:
        try:
            self._outcome.put(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread, whatever it is
            self._outcome.put(error)

    def result(self, limit: float) -> _T:
        """Give what the work gave, or raise what it raised; `TimeoutError` after `limit` seconds."""
        try:
            outcome = self._outcome.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
