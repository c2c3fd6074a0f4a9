"""Calls in daemon threads: their results, their time-outs, and how many may hang."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from gate.process.threads import MAX_FROZEN, BackgroundCall, FrozenCalls, PeriodicCall, try_for
from tests.support.programs import await_true

LONG = 30.0
"""Seconds after which a test fails instead of waiting."""


def fail() -> None:
    """Raise what nothing should swallow."""
    raise KeyboardInterrupt


def test_a_thread_and_an_event_loop_wait_for_the_same_result() -> None:
    call = BackgroundCall(lambda: 42)

    async def wait() -> int:
        return await asyncio.wrap_future(call)

    assert (call.result(LONG), call.result(LONG), asyncio.run(wait())) == (42, 42, 42)


def test_any_error_is_raised_where_the_result_is_awaited() -> None:
    with pytest.raises(KeyboardInterrupt):
        BackgroundCall(fail).result(LONG)


def test_a_call_goes_on_after_its_caller_has_given_up() -> None:
    end = threading.Event()
    call = BackgroundCall(lambda: end.wait(LONG))
    with pytest.raises(TimeoutError):
        call.result(0)

    async def give_up() -> None:
        await asyncio.wait_for(asyncio.wrap_future(call), 0)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert (call.running(), call.done(), call.cancel()) == (True, False, False)
    end.set()
    assert call.result(LONG)


def test_a_forked_process_knows_that_the_thread_is_not_there() -> None:
    end = threading.Event()
    call = BackgroundCall(lambda: end.wait(LONG))
    child = os.fork()
    if child == 0:
        os._exit(call.running())
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), call.running()) == (0, True)
    end.set()


def test_a_call_that_fails_or_takes_too_long_gives_none() -> None:
    end = threading.Event()
    assert try_for(LONG, lambda: 42) == 42
    assert try_for(LONG, lambda: 1 // 0) is None
    assert try_for(0, lambda: end.wait(LONG)) is None
    end.set()


def test_only_so_many_calls_may_be_frozen() -> None:
    end, frozen = threading.Event(), FrozenCalls[BackgroundCall[bool]]()
    calls = [BackgroundCall(lambda: end.wait(LONG)) for _ in range(MAX_FROZEN)]
    for call in calls:
        assert frozen.oldest_if_full() is None
        frozen.add(call)
    assert frozen.oldest_if_full() is calls[0]
    end.set()
    await_true(lambda: frozen.oldest_if_full() is None, lambda: "the calls still run")


def test_a_periodic_call_never_overlaps_itself_and_raises_what_it_raised() -> None:
    begun, end = threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        end.wait(LONG)
        raise LookupError

    periodic = PeriodicCall(work, LONG)

    def attended() -> bool:
        periodic.attend()
        return False

    attended()
    assert begun.acquire(timeout=LONG)
    periodic.soon()
    periodic.attend()
    assert not begun.acquire(blocking=False)
    end.set()
    with pytest.raises(LookupError):
        await_true(attended, lambda: "the error is not raised")
    periodic.attend()
    assert begun.acquire(timeout=LONG)
