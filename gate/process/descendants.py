"""A process that dies with its parent, and one that leaves no descendant behind."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""linux/prctl.h"""

KILL_TIMEOUT = 2.0
"""Seconds in which killed descendants must be gone; one that may not be killed (setuid) is left alone then."""

POLL_INTERVAL = 0.01
"""Seconds between two looks whether they are."""


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent dies; end it at once if that has happened."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Let every descendant whose parent dies become a child of this process, instead of process 1's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> list[int]:
    """Kill all that this process started, directly or not, until nothing of it is left; give their process ids."""
    killed: set[int] = set()
    deadline = time.monotonic() + KILL_TIMEOUT
    while (living := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in living:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(living)
        _reap()
        time.sleep(POLL_INTERVAL)
    return sorted(killed)


def descendants(ancestor: int) -> list[int]:
    """The living processes below this one, by a scan of /proc: not every kernel lists a process's children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                children.setdefault(int(parent), []).extend([int(entry.name)] if state not in "ZX" else [])
    found, open_ = [], [ancestor]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
