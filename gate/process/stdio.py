"""Standard streams: what `gate check` says on them, and those that were closed before the start."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from gate.text import printable

STANDARD = (0, 1, 2)

_opened: set[int] = set()


def print_result(text: str) -> bool:
    """Print on standard output; whether it could be written. Who closed the pipe has read enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return True
    except OSError as error:
        print_error(f"standard output cannot be written: {error.strerror}.")
        return False
    return True


def print_error(*lines: str) -> None:
    """Print lines on standard error, each as one; where that is closed or full, nobody can be told."""
    with suppress(OSError):
        for line in lines:
            print(f"gate: {printable(line)}", file=sys.stderr, flush=True)


def open_closed_streams() -> None:
    """Put /dev/null where nothing is: the next file, lock or connection would take that number and be printed into."""
    for descriptor in STANDARD:
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno == errno.EBADF:
                _opened.add(os.open(os.devnull, os.O_RDWR))  # the lowest number that is free
                os.set_inheritable(descriptor, True)  # noqa: FBT003 - gate's children write and read, too
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False, encoding="utf-8")


def close_opened_streams() -> None:
    """Let the server find closed what gate found closed; until then gate can still say that it did not start."""
    for descriptor in _opened:
        with suppress(OSError):
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - as the standard library has it
