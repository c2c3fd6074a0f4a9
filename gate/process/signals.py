"""Signals: handled at once while gate runs, and reset before the server starts.

Only the first signal interrupts. Those that follow, even fifty within a millisecond, do not disturb what ends gate.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from gate.errors import Interrupted

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)), so each of these gets one."""

END_TIMEOUT = 6.0
"""Seconds after the first signal in which gate ends. Then it exits without further ado, as it does when standard error
is a full pipe; docker stop waits for 10 s."""

RETRY_DELAY = 0.001
"""Seconds until an interruption that was lost is raised again."""


@dataclass(slots=True)
class _State:
    """`arrivals`: a pipe with the numbers of all signals, in their order; `first`: the first one, 0 = none.

    `raised`: whether `Interrupted` was raised, or is not raised any more; `lost`: whether it must be raised again.
    """

    arrivals: int = -1
    first: int = 0
    raised: bool = False
    lost: bool = False


_state = _State()


def install_handlers() -> None:
    """Let the first termination signal raise `Interrupted` in the main thread.

    A signal that is ignored already, as under nohup, stays ignored, except for SIGTERM. A blocked signal is unblocked:
    nothing could end gate otherwise.
    """
    _record_arrivals()
    sys.unraisablehook = _raise_again
    signal.signal(signal.SIGALRM, _end_now)
    for number in TERMINATION_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*TERMINATION_SIGNALS, signal.SIGALRM))


def _record_arrivals() -> None:
    """Let the interpreter write each signal to a pipe: it calls handlers in the order of the signals' numbers."""
    with suppress(OSError):  # without a file descriptor that order will do
        _state.arrivals, writing_end = os.pipe()
        for descriptor in (_state.arrivals, writing_end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)


def first_of(number: int) -> int:
    """Return the termination signal that arrived first; `number`: the one whose handler was called."""
    if not _state.first:
        arrivals = b""
        with suppress(OSError):
            arrivals = os.read(_state.arrivals, 512)
        _state.first = next((each for each in arrivals if each in set(TERMINATION_SIGNALS)), number)
    return _state.first


def _interrupt(number: int, _: FrameType | None) -> None:
    first = first_of(number)
    signal.setitimer(signal.ITIMER_REAL, END_TIMEOUT)
    if not _state.raised:
        _state.raised = True
        raise Interrupted(first)


def interruption() -> Interrupted | None:
    """Return what the first signal has raised, None if none has arrived."""
    return Interrupted(_state.first) if _state.first else None


def raise_in_thread() -> None:
    """Raise `Interrupted` if a signal has arrived and this is not the main thread, where a handler raises it."""
    if _state.first and threading.current_thread() is not threading.main_thread():
        raise Interrupted(_state.first)


def finish() -> None:
    """Raise nothing from now on: gate ends already. A signal still limits the time for that to `END_TIMEOUT`."""
    _state.raised = True


def _raise_again(unraisable: UnraisableHookArgs) -> None:
    """Raise `Interrupted` again where Python had to drop it, because the signal came during a finalizer."""
    if isinstance(unraisable.exc_value, Interrupted):
        _state.lost = True
        signal.setitimer(signal.ITIMER_REAL, RETRY_DELAY)
    else:
        sys.__unraisablehook__(unraisable)


def _end_now(_: int, __: FrameType | None) -> None:
    if not _state.lost:
        os._exit(Interrupted(_state.first).exit_code)
    _state.lost = False
    signal.setitimer(signal.ITIMER_REAL, END_TIMEOUT)
    raise Interrupted(_state.first)


def restore_defaults() -> None:
    """Reset ignored signals to their default and clear the signal mask, since both survive an exec.

    Raises `Interrupted` for a signal that has arrived already, so that the server does not start after it.

    The kernel resets handlers at the exec. Any process but process 1 drops them here, so that a signal just before the
    exec ends it; process 1 keeps them, since it would miss a signal without a handler.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATION_SIGNALS)
    if signal.sigpending() & set(TERMINATION_SIGNALS):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATION_SIGNALS)  # the handler raises here
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        current = signal.getsignal(number)
        if current is signal.SIG_IGN or (callable(current) and os.getpid() != 1):
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
