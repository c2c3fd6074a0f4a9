"""What a killed migrator left behind: a statement that still runs in the server."""

from __future__ import annotations

import time

from gate import log
from gate.backends import Backends
from gate.errors import DatabaseUnavailable

PATIENCE = 10.0
"""Seconds in which an ended backend must be gone; it took 2 to 20 ms."""

NOTICE_WITHIN = 0.05
"""Seconds between two looks whether it is."""


def end_predecessors(backends: Backends) -> list[int]:
    """End what a killed migrator left running, and wait until it is gone. Gives the backends' process ids.

    To be called with the lock held: then no living migrator can carry the mark. Raises `DatabaseUnavailable` if a
    backend may not be ended or does not go: gate never migrates beside it.
    """
    found = backends.strangers()
    backends.end(found)
    deadline = time.monotonic() + PATIENCE
    while left := backends.strangers() if found else []:
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"A killed migrator's statement still runs in backend {left[0]}, and this role may not end it. "
                f"gate does not migrate beside it: {backends.how_to_end(left[0])} as its owner or a superuser."
            )
        time.sleep(NOTICE_WITHIN)
    return found


def end_late_predecessors(backends: Backends) -> None:
    """End what a killed migrator began only after `end_predecessors`: its env.py may have taken its time."""
    for pid in (found := backends.strangers()):
        text = f"A killed migrator's upgrade connected late, in backend {pid}; gate ended that."
        log.emit("warning", "gate.predecessor_ended", text, backend=pid)
    backends.end(found)
