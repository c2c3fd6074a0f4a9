"""Standard streams: prints results and errors, and opens those that were closed when gate started."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gate.redaction import hide_in_message
from gate.text import printable

STANDARD_DESCRIPTORS = (0, 1, 2)

_opened: set[int] = set()
_prefix = ""


def print_result(text: str) -> bool:
    """Print on standard output, and return whether that worked. A closed pipe counts as read."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return True
    except OSError as error:
        print_error(f"standard output cannot be written: {error.strerror}.")
        return False
    return True


def print_error(*lines: str) -> None:
    """Print lines on standard error, redacted, and ignore that it is closed or full."""
    with suppress(OSError):
        for line in lines:
            print(f"gate: {_prefix}{printable(hide_in_message(line))}", file=sys.stderr, flush=True)


@contextmanager
def about(section: str) -> Iterator[None]:
    """Name the history that each line on standard error in this block is about; "" = there is only one."""
    global _prefix  # noqa: PLW0603 - gate works on one history at a time
    before, _prefix = _prefix, f"[{printable(section)}] " if section else ""
    try:
        yield
    finally:
        _prefix = before


def open_closed_streams() -> None:
    """Open /dev/null for each closed standard stream.

    Otherwise the next file, lock or connection would get its number, and output would be written into it.
    """
    for descriptor in STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno == errno.EBADF:
                _opened.add(os.open(os.devnull, os.O_RDWR))  # gets the lowest free number (open(2)): this one
                os.set_inheritable(descriptor, True)  # noqa: FBT003 - the children of gate use it, too
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False, encoding="utf-8")


def close_opened_streams() -> None:
    """Let the exec close what `open_closed_streams` opened; an exec that fails can still be reported."""
    for descriptor in _opened:
        with suppress(OSError):
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - the parameter of os.set_inheritable is positional
