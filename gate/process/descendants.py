"""Linux process trees: a process that dies with its parent, and one that leaves no descendants behind."""

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
"""Seconds for which killed descendants are waited for; one that may not be killed (setuid) is then left alone."""

POLL_INTERVAL = 0.01
"""Seconds between two scans of /proc meanwhile."""


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent, a process id, dies; exit at once if it has died already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, instead of process 1 (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> list[int]:
    """Kill all descendants of this process until none is left, for at most `KILL_TIMEOUT`; return their process ids."""
    killed: set[int] = set()
    deadline = time.monotonic() + KILL_TIMEOUT
    while _reap() and (living := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in living:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(living)
        time.sleep(POLL_INTERVAL)
    return sorted(killed)


def descendants(ancestor: int) -> list[int]:
    """Return the living descendants of a process, by a scan of /proc: its `children` files are optional (proc(5))."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            state, parent = _status(int(entry.name))
            children.setdefault(parent, []).extend([int(entry.name)] if state not in "ZX" else [])
    result, unvisited = [], [ancestor]
    while unvisited:
        below = children.get(unvisited.pop(), [])
        result += below
        unvisited += below
    return result


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return _status(pid)[0] not in "ZX"


def _status(pid: int) -> tuple[str, int]:
    """Return the state of a process and its parent (proc(5)); state X is a dead process, and one that is not there."""
    with suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    return "X", 0


def _reap() -> bool:
    """Reap the children that have ended, and return whether any is left; without a child there is no descendant."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
