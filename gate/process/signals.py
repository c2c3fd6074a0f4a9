"""Signals: handled at once while gate runs, and reset before the server starts."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from gate.errors import Interrupted

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)), so each of these gets one."""


def install_handlers() -> None:
    """Let each termination signal raise `Interrupted` in the main thread.

    A signal that is ignored already, as under nohup, stays ignored, except for SIGTERM.
    """
    for number in TERMINATION_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def restore_defaults() -> None:
    """Reset ignored signals to their default and clear the signal mask, since both survive an exec.

    The kernel resets handlers at the exec. Any process but process 1 drops them here, so that a signal just before the
    exec ends it; process 1 keeps them, since it would miss a signal without a handler.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        current = signal.getsignal(number)
        if current is signal.SIG_IGN or (callable(current) and os.getpid() != 1):
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
