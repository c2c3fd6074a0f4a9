"""Garbage collection: rarely while gate starts, as usual once it stays.

Of the CPU of a `gate check` with 100 revisions, collecting at the default threshold takes a twentieth.
"""

from __future__ import annotations

import gc

STARTUP_THRESHOLD = 100_000
"""New objects between two collections. Most objects of a start are modules, which stay; mypy does the same."""

DEFAULT_THRESHOLD = gc.get_threshold()


def collect_rarely() -> None:
    """Collect rarely, for a start or a single check."""
    gc.set_threshold(STARTUP_THRESHOLD)


def collect_normally() -> None:
    """Collect as usual, for a process that stays.

    The exception of a connection that hangs refers to itself through its traceback, and keeps the socket open until it
    is collected: a process that checks for days would run out of file descriptors.
    """
    gc.freeze()
    gc.set_threshold(*DEFAULT_THRESHOLD)
