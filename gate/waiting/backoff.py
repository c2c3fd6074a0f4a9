"""Waiting: backoff, jitter and deadline. The only room that knows tenacity."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, repeat, starmap
from typing import TYPE_CHECKING, NamedTuple

from gate.errors import TimedOut
from gate.process import gc_tuning

if TYPE_CHECKING:
    import tenacity


INITIAL_PAUSE = 0.25
"""Seconds; each further pause is twice as long, up to the cap."""

MIN_JITTER = 0.7
"""A pause is drawn between this share of its length and the whole: enough to spread 200 waiters that were
started together within a minute, and never longer than promised."""


MIGRATOR_PAUSE_CAPS = (1.0, 2.0)
"""Seconds: the longest pause while a migrator is at work, first and last."""

MIGRATOR_PAUSE_SHARE = 0.1
"""And between: the part of the time for which it has been at work."""


class Pause(NamedTuple):
    """What is known before a pause: seconds since the first look, and until the next."""

    elapsed: float
    length: float


def until(
    passed: Callable[[], bool],
    *,
    cap: Callable[[], float],
    limit: float = 0,
    before_pause: Callable[[Pause], None],
) -> None:
    """Call `passed` until it is true, with growing pauses between.

    `cap`: the longest pause in seconds, asked each time; `limit`: seconds for the whole, 0 = none.
    Raises `TimedOut` when the limit is reached; the last call is made at the limit, not before it.
    """
    began = time.monotonic()
    if not passed():
        gc_tuning.collect_normally()
        _again(passed, began, cap, limit, before_pause)


def _again(
    passed: Callable[[], bool],
    began: float,
    cap: Callable[[], float],
    limit: float,
    before_pause: Callable[[Pause], None],
) -> None:
    """The first call was in vain: tenacity gets it as its first attempt, and begins with a pause."""
    import random  # noqa: PLC0415 - most starts never wait: loading these would cost them a twentieth of their time

    import tenacity  # noqa: PLC0415 - likewise

    attempts = chain([False], starmap(passed, repeat(())))
    backoff = tenacity.wait_exponential(multiplier=INITIAL_PAUSE, max=86400)

    def elapsed() -> float:
        return time.monotonic() - began

    def length(state: tenacity.RetryCallState) -> float:
        pause = min(backoff(state), cap()) * random.uniform(MIN_JITTER, 1)  # noqa: S311 - spreads load, guards nothing
        return min(pause, max(0.0, limit - elapsed())) if limit else pause

    def tell(state: tenacity.RetryCallState) -> None:
        before_pause(Pause(elapsed(), state.next_action.sleep if state.next_action else 0))

    def give_up(_: tenacity.RetryCallState) -> None:
        raise TimedOut

    tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda done: not done),
        wait=length,
        stop=lambda _: 0 < limit <= elapsed(),
        before_sleep=tell,
        retry_error_callback=give_up,
        sleep=time.sleep,
    )(lambda: next(attempts))


def migrator_pause_cap(age: float) -> float:
    """The longest pause while a migrator is at work, so that its end is noticed soon after a short migration above all.

    `age`: seconds for which it has been seen at work; a pause takes about a tenth of that.
    """
    first, last = MIGRATOR_PAUSE_CAPS
    return min(max(first, MIGRATOR_PAUSE_SHARE * age), last)
