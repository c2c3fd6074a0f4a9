"""Polling: backoff, jitter and timeout, measured in real and short times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from gate.errors import DatabaseUnavailable
from gate.process import gc_tuning
from gate.waiting import backoff
from gate.waiting.backoff import INITIAL_PAUSE, MIN_JITTER, Deadline, Pause


def after(calls: int) -> Callable[[], bool]:
    remaining = iter([False] * (calls - 1) + [True])
    return lambda: next(remaining)


def poll(
    check: Callable[[], bool],
    max_pause: Callable[[], float],
    timeout: float | None = None,
    pauses: list[Pause] | None = None,
) -> bool:
    """Poll until the check returns True, and add each pause to `pauses`."""
    made = [] if pauses is None else pauses
    return backoff.poll(
        check, done=bool, max_pause=max_pause, before_pause=lambda _, pause: made.append(pause), timeout=timeout
    )


def test_a_check_that_passes_at_once_is_followed_by_no_pause() -> None:
    pauses: list[Pause] = []
    assert poll(after(1), lambda: 10, pauses=pauses)
    assert pauses == []


def test_each_pause_is_announced_before_it_and_twice_as_long_as_the_last_less_its_jitter() -> None:
    pauses: list[Pause] = []
    assert poll(after(4), lambda: 10, pauses=pauses)
    assert len(pauses) == 3
    for pause, full in zip(pauses, (INITIAL_PAUSE, 2 * INITIAL_PAUSE, 4 * INITIAL_PAUSE), strict=True):
        assert MIN_JITTER * full <= pause.length <= full
    for before, pause in pairwise(pauses):
        assert pause.elapsed >= before.elapsed + before.length


def test_each_pause_comes_with_the_result_before_it() -> None:
    results, announced = iter(range(5)), list[int]()
    last = backoff.poll(
        lambda: next(results),
        done=lambda result: result == 4,
        max_pause=lambda: 0.001,
        before_pause=lambda result, _: announced.append(result),
    )
    assert (announced, last) == ([0, 1, 2, 3], 4)


def test_the_maximum_is_read_each_time_and_never_exceeded() -> None:
    maxima = [0.02, 0.01, 0.03, 0.005]
    remaining = iter(maxima)
    pauses: list[Pause] = []
    poll(after(len(maxima) + 1), lambda: next(remaining), pauses=pauses)
    assert len(pauses) == len(maxima)
    for pause, maximum in zip(pauses, maxima, strict=True):
        assert MIN_JITTER * maximum <= pause.length <= maximum


def test_pauses_are_jittered_so_that_waiters_do_not_stay_in_step() -> None:
    pauses: list[Pause] = []
    poll(after(20), lambda: 0.002, pauses=pauses)
    assert len({pause.length for pause in pauses}) > 1


def test_a_waiter_collects_garbage_as_usual_else_checks_that_hang_exhaust_the_descriptors() -> None:
    gc_tuning.collect_rarely()
    poll(after(1), lambda: 10)
    assert gc.get_threshold()[0] == gc_tuning.STARTUP_THRESHOLD
    poll(after(2), lambda: 0)
    assert gc.get_threshold() == gc_tuning.DEFAULT_THRESHOLD


@pytest.mark.parametrize(("age", "pause"), [(0, 1), (10, 1), (15, 1.5), (20, 2), (86400, 2)])
def test_the_end_of_a_short_migration_is_noticed_sooner_than_that_of_a_long_one(age: float, pause: float) -> None:
    assert backoff.max_pause_during_migration(age) == pause


def test_at_the_timeout_it_checks_a_last_time_and_returns_that_result() -> None:
    began = time.monotonic()
    checks: list[float] = []

    def check() -> bool:
        checks.append(time.monotonic() - began)
        return False

    assert not poll(check, lambda: 0.1, timeout=0.3)
    assert checks[-1] >= 0.29
    assert checks[-2] < 0.3


def test_a_timeout_shorter_than_the_first_pause_is_kept() -> None:
    pauses: list[Pause] = []
    assert not poll(lambda: False, lambda: 10, timeout=0.05, pauses=pauses)
    assert pauses[0].length <= 0.05


def test_a_timeout_that_has_passed_still_allows_one_check() -> None:
    pauses: list[Pause] = []
    assert not poll(lambda: False, lambda: 10, timeout=0, pauses=pauses)
    assert poll(after(1), lambda: 10, timeout=0)
    assert pauses == []


def test_a_check_that_passes_at_the_timeout_has_passed() -> None:
    assert poll(after(2), lambda: 10, timeout=0.05)


@pytest.mark.parametrize("calls", [1, 2])
def test_an_error_ends_the_polling_at_once_and_unchanged(calls: int) -> None:
    error, checks = DatabaseUnavailable("gone"), list[None]()

    def check() -> bool:
        checks.append(None)
        if len(checks) == calls:
            raise error
        return False

    with pytest.raises(DatabaseUnavailable) as caught:
        poll(check, lambda: 0.001)
    assert caught.value is error


def test_a_deadline_counts_from_its_start_and_none_without_a_timeout() -> None:
    assert Deadline(0).remaining() is None
    assert Deadline(60, started=time.monotonic() - 120).remaining() == 0
    assert 0 < (Deadline(60).remaining() or 0) <= 60
