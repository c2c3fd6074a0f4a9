"""Signals: answered at once while gate works, and as gate found them when it hands over."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from gate.errors import Interrupted

TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""As PID 1 gate is deaf to every signal without a handler, so each that means "end" gets one."""


def install_handlers() -> None:
    """Let a signal raise `Interrupted` in the main thread; one that was ignored (nohup) stays so, but for SIGTERM."""
    for number in TERMINATION_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def restore_defaults() -> None:
    """Ignored signals back to default, the mask cleared.

    A handler is reset by the kernel at the exec. An ordinary process drops its own before, so that a signal between
    here and there ends it as it should; PID 1 would be deaf to it then, and keeps its handlers.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        current = signal.getsignal(number)
        if current is signal.SIG_IGN or (callable(current) and os.getpid() != 1):
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
