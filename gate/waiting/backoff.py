"""Polling with exponential backoff, jitter and a timeout. The only module that imports tenacity."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gate.process import gc_tuning

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

INITIAL_PAUSE = 0.25
"""Seconds. Each further pause is twice as long as the one before, up to the maximum."""

MIN_JITTER = 0.7
"""The smallest factor by which jitter shortens a pause. It spreads 200 waiters that started together within a minute,
and no pause is longer than its maximum."""

MAX_PAUSE_DURING_MIGRATION = (1.0, 2.0)
"""Seconds: the longest pause while another migrator is active, at first and at most."""

MIGRATION_PAUSE_FACTOR = 0.1
"""Between these two the longest pause grows as this share of the time for which the migrator has been active."""


class Pause(NamedTuple):
    """A pause between two checks: seconds from the first check to the pause, and from there to the next check."""

    elapsed: float
    length: float


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of GATE_TIMEOUT.

    `timeout`: seconds for everything since `started`, 0 = no limit. `started`: a time of the monotonic clock.
    """

    timeout: float = 0
    started: float = field(default_factory=time.monotonic)

    def remaining(self) -> float | None:
        """Return the seconds that are left, at least 0; None without a limit."""
        return max(0.0, self.started + self.timeout - time.monotonic()) if self.timeout else None


def poll(
    check: Callable[[], T],
    *,
    done: Callable[[T], bool],
    max_pause: Callable[[], float],
    before_pause: Callable[[T, Pause], None],
    timeout: float | None = None,
) -> T:
    """Call `check` until `done` accepts what it returns, with growing pauses between the calls.

    `max_pause` returns the longest pause in seconds and is called before each one. `before_pause` receives the result
    that the pause follows. `timeout`: seconds for the whole, None = no limit. The last call is made at the timeout, not
    before it.

    Returns the last result. `done` rejects it only if the timeout was reached.
    """
    started = time.monotonic()
    result = check()
    if done(result):
        return result
    gc_tuning.collect_normally()
    return _poll_again(
        result, check, done=done, max_pause=max_pause, before_pause=before_pause, timeout=timeout, started=started
    )


def _poll_again(
    result: T,
    check: Callable[[], T],
    *,
    done: Callable[[T], bool],
    max_pause: Callable[[], float],
    before_pause: Callable[[T, Pause], None],
    timeout: float | None,
    started: float,
) -> T:
    """Continue after the first check, which tenacity counts as its first attempt."""
    import random  # noqa: PLC0415 - most starts never wait, and loading these would cost them a twentieth of their time

    import tenacity  # noqa: PLC0415 - likewise

    exponential = tenacity.wait_exponential(multiplier=INITIAL_PAUSE, max=86400)

    def elapsed() -> float:
        return time.monotonic() - started

    def pause_length(state: tenacity.RetryCallState) -> float:
        length = min(exponential(state), max_pause()) * random.uniform(MIN_JITTER, 1)  # noqa: S311 - not a secret
        return length if timeout is None else min(length, max(0.0, timeout - elapsed()))

    attempts = tenacity.Retrying(
        retry=tenacity.retry_never,  # of exceptions only TryAgain is retried
        wait=pause_length,
        stop=lambda _: timeout is not None and elapsed() >= timeout,
        before_sleep=lambda state: before_pause(result, Pause(elapsed(), state.upcoming_sleep)),
        retry_error_callback=lambda _: None,  # end the loop without a RetryError
    )
    for attempt in attempts:
        with attempt:
            if attempt.retry_state.attempt_number > 1:
                result = check()
            if not done(result):
                raise tenacity.TryAgain
    return result


def max_pause_during_migration(age: float) -> float:
    """Return the longest pause in seconds while another migrator is active.

    `age`: seconds for which it has been active. The end of a short migration is noticed sooner than that of a long one.
    """
    first, last = MAX_PAUSE_DURING_MIGRATION
    return min(max(first, MIGRATION_PAUSE_FACTOR * age), last)
