"""Calls in daemon threads: the caller keeps its deadline and handles signals while the call hangs in C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Generic, Protocol, TypeVar

from gate.errors import ResourceShortage

_T = TypeVar("_T")

MAX_FROZEN = 3
"""Calls that may hang at once: each keeps a connection, and a frozen network path hangs while a new one answers."""


class BackgroundCall(Future[_T]):
    """A call that starts at once in a daemon thread, as a `concurrent.futures.Future` of its result.

    A thread waits with `result(timeout)`, in seconds, which raises `TimeoutError`; an event loop with
    `asyncio.wrap_future`. If no thread can be started, the result is a `ResourceShortage`. The call cannot be
    cancelled: it goes on after its caller has given up. Its thread does not delay the exit of the process, and has the
    context variables of the caller's: what it logs is about the same schema.
    """

    def __init__(self, function: Callable[[], _T]) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()  # from now on, `cancel` has no effect
        self._thread = threading.Thread(target=copy_context().run, args=(self._run, function), daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.set_exception(ResourceShortage.of(error) or error)

    def running(self) -> bool:
        """Whether the thread is alive. In a forked child it is not, so the result may never come."""
        return self._thread.is_alive()

    def _run(self, function: Callable[[], _T]) -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.set_exception(ResourceShortage.of(error) or error)
        else:
            self.set_result(result)


def try_for(timeout: float, function: Callable[[], _T]) -> _T | None:
    """Return the result of the call, or None if it fails or takes longer than `timeout` seconds."""
    try:
        return BackgroundCall(function).result(timeout)
    except Exception:  # noqa: BLE001 - the caller can do without the result
        return None


class Running(Protocol):
    """Anything that may still be running: a `BackgroundCall`, for example."""

    def running(self) -> bool:
        """Whether it is; false after a fork."""


_R = TypeVar("_R", bound=Running)


class FrozenCalls(Generic[_R]):
    """The calls that were given up and may still hang, so that no more than `MAX_FROZEN` of them pile up."""

    def __init__(self) -> None:
        self._calls: list[_R] = []

    def add(self, call: _R) -> None:
        """Remember a call that was given up."""
        self._calls.append(call)

    def oldest_if_full(self) -> _R | None:
        """Return the oldest frozen call if no other may begin, else None."""
        self._calls = [call for call in self._calls if call.running()]
        return self._calls[0] if len(self._calls) >= MAX_FROZEN else None


class PeriodicCall:
    """A background call that is repeated every `interval` seconds, and never overlaps itself.

    `delay`: seconds before the first one.
    """

    def __init__(self, function: Callable[[], None], interval: float, delay: float = 0.0) -> None:
        self._function, self._interval = function, interval
        self._call: BackgroundCall[None] | None = None
        self._next = time.monotonic() + delay

    def attend(self) -> None:
        """Start the call if it is due; raises what the last one raised. One that found no thread is made later."""
        if self._call and self._call.done():
            ended, self._call = self._call, None
            with suppress(ResourceShortage):
                ended.result()
        now = time.monotonic()
        if self._call is None and now >= self._next:
            self._next = now + self._interval
            self._call = BackgroundCall(self._function)

    def soon(self) -> None:
        """Make the call due as soon as the last one has ended."""
        self._next = 0.0
