"""Waiting: backoff, jitter and deadline, measured in real and short times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from gate.errors import DatabaseUnavailable, TimedOut
from gate.process import gc_tuning
from gate.waiting import backoff
from gate.waiting.backoff import INITIAL_PAUSE, MIN_JITTER, Pause


def after(calls: int) -> Callable[[], bool]:
    remaining = iter([False] * (calls - 1) + [True])
    return lambda: next(remaining)


def test_what_passes_at_once_is_never_paused_for() -> None:
    pauses: list[Pause] = []
    backoff.until(after(1), cap=lambda: 10, before_pause=pauses.append)
    assert pauses == []


def test_each_pause_is_told_before_it_and_twice_as_long_as_the_last_less_its_jitter() -> None:
    pauses: list[Pause] = []
    backoff.until(after(4), cap=lambda: 10, before_pause=pauses.append)
    assert len(pauses) == 3
    for pause, full in zip(pauses, (INITIAL_PAUSE, 2 * INITIAL_PAUSE, 4 * INITIAL_PAUSE), strict=True):
        assert MIN_JITTER * full <= pause.length <= full
    for before, pause in pairwise(pauses):
        assert pause.elapsed >= before.elapsed + before.length


def test_the_cap_is_asked_each_time_and_never_exceeded() -> None:
    caps = [0.02, 0.01, 0.03, 0.005]
    asked = iter(caps)
    pauses: list[Pause] = []
    backoff.until(after(len(caps) + 1), cap=lambda: next(asked), before_pause=pauses.append)
    assert len(pauses) == len(caps)
    for pause, cap in zip(pauses, caps, strict=True):
        assert MIN_JITTER * cap <= pause.length <= cap


def test_pauses_are_jittered_so_that_waiters_do_not_stay_in_step() -> None:
    pauses: list[Pause] = []
    backoff.until(after(20), cap=lambda: 0.002, before_pause=pauses.append)
    assert len({pause.length for pause in pauses}) > 1


def test_who_waits_collects_garbage_as_usual_else_looks_that_hang_cost_all_descriptors() -> None:
    gc_tuning.collect_rarely()
    backoff.until(after(1), cap=lambda: 10, before_pause=lambda _: None)
    assert gc.get_threshold()[0] == gc_tuning.STARTUP_THRESHOLD
    backoff.until(after(2), cap=lambda: 0, before_pause=lambda _: None)
    assert gc.get_threshold() == gc_tuning.DEFAULT_THRESHOLD


@pytest.mark.parametrize(("age", "cap"), [(0, 1), (10, 1), (15, 1.5), (20, 2), (86400, 2)])
def test_the_end_of_a_short_migration_is_noticed_sooner_than_that_of_a_long_one(age: float, cap: float) -> None:
    assert backoff.migrator_pause_cap(age) == cap


def test_at_the_limit_it_looks_a_last_time_and_gives_up_with_the_settings_name() -> None:
    began = time.monotonic()
    looks: list[float] = []

    def passed() -> bool:
        looks.append(time.monotonic() - began)
        return False

    with pytest.raises(TimedOut, match="GATE_TIMEOUT"):
        backoff.until(passed, cap=lambda: 0.1, limit=0.3, before_pause=lambda _: None)
    assert looks[-1] >= 0.29
    assert looks[-2] < 0.3


def test_a_limit_shorter_than_the_first_pause_is_kept() -> None:
    pauses: list[Pause] = []
    with pytest.raises(TimedOut):
        backoff.until(lambda: False, cap=lambda: 10, limit=0.05, before_pause=pauses.append)
    assert pauses[0].length <= 0.05


def test_what_passes_at_the_limit_has_passed() -> None:
    backoff.until(after(2), cap=lambda: 10, limit=0.05, before_pause=lambda _: None)


def test_an_error_ends_the_waiting_at_once_and_unchanged() -> None:
    error = DatabaseUnavailable("gone")

    def fails() -> bool:
        raise error

    with pytest.raises(DatabaseUnavailable) as caught:
        backoff.until(fails, cap=lambda: 10, before_pause=lambda _: None)
    assert caught.value is error
