"""Memory: whether the kernel has killed a process for lack of it, by its own counters.

SIGKILL alone does not say who sent it. The kernel counts each process that it kills for lack of memory: for the cgroup
of that process (`memory.events` of cgroup v2, `memory.oom_control` of v1) and for the machine (`/proc/vmstat`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MAX_LIMIT = 1 << 60
"""Bytes: a higher limit of cgroup v1 means that there is none."""

MIB = 1 << 20

COUNTER = "oom_kill"

MOUNT_POINT, SUPER_OPTIONS = 4, 2
"""Positions in a line of mountinfo: in its first part, and in the part behind the hyphen."""


class OomKills(NamedTuple):
    """How many processes the kernel has killed for lack of memory, None where it does not say.

    `group`: in gate's own cgroup, which is that of its container; `machine`: on the whole machine; `limit`: the memory
    limit of the cgroup in bytes, None without one.
    """

    group: int | None = None
    machine: int | None = None
    limit: int | None = None


def count_oom_kills(root: str = "/") -> OomKills:
    """Read the counters. `root`: the folder with `proc`, and below which the mounts of `proc/self/mountinfo` are."""
    group, limit = _of_cgroup(root)
    return OomKills(group, _counter(os.path.join(root, "proc/vmstat")), limit)


def explain_oom_kill(before: OomKills, after: OomKills) -> str:
    """Say that memory was the cause, and what to do; "" if the counters do not show it."""
    if before.group is not None and after.group is not None:
        if after.group <= before.group:
            return ""
        limit = f", which is {after.limit / MIB:.0f} MiB now" if after.limit else ""
        remedy = f"Raise the memory limit of the container{limit}"
        return f"Memory was the cause: the kernel killed a process of this container, which had none left. {remedy}."
    if before.machine is not None and after.machine is not None and after.machine > before.machine:
        return (
            "Memory is the likely cause: the kernel killed a process on this machine meanwhile, which had no memory "
            "left (oom_kill in /proc/vmstat). Raise the memory limit of the container, or give the machine more."
        )
    return ""


class OomWatch:
    """Watches the counters from now on."""

    def __init__(self) -> None:
        self._before = count_oom_kills()

    def explain(self) -> str:
        """Say that the kernel has killed a process for lack of memory since then, "" if it has not."""
        return explain_oom_kill(self._before, count_oom_kills())


def _of_cgroup(root: str) -> tuple[int | None, int | None]:
    """Return the counter and the limit of this process's cgroup."""
    for folder, counter, limit in _candidates(root):
        number = _counter(os.path.join(folder, counter))
        if number is not None:
            return number, _limit(os.path.join(folder, limit))
    return None, None


def _candidates(root: str) -> list[tuple[str, str, str]]:
    """The folders in which the cgroup may be: below its mount, or the mount itself, where a container has only its own.

    The memory controller belongs to version 1 wherever that is mounted with it (cgroups(7)).
    """
    paths = {}
    for line in _lines(os.path.join(root, "proc/self/cgroup")):
        _, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
        paths["memory" if "memory" in controllers.split(",") else controllers] = path
    version1, version2 = [], []
    for line in _lines(os.path.join(root, "proc/self/mountinfo")):
        top, mount, kind, options = _mount(line)
        mount = os.path.join(root, mount.lstrip("/"))
        if kind == "cgroup" and "memory" in options.split(",") and "memory" in paths:
            folders = _folders(mount, top, paths["memory"])
            version1 += [(folder, "memory.oom_control", "memory.limit_in_bytes") for folder in folders]
        elif kind == "cgroup2" and "" in paths:
            version2 += [(folder, "memory.events", "memory.max") for folder in _folders(mount, top, paths[""])]
    return version1 + version2


def _mount(line: str) -> tuple[str, str, str, str]:
    """The root, the mount point, the file system and its options of a line of mountinfo (proc(5))."""
    place, _, filesystem = line.partition(" - ")
    places, filesystems = place.split(" "), filesystem.split(" ")
    if len(places) <= MOUNT_POINT or len(filesystems) <= SUPER_OPTIONS:
        return "", "", "", ""
    return places[MOUNT_POINT - 1], places[MOUNT_POINT], filesystems[0], filesystems[SUPER_OPTIONS]


def _folders(mount: str, top: str, path: str) -> list[str]:
    below = path.removeprefix(top.rstrip("/")).lstrip("/") if path.startswith(top.rstrip("/")) else ""
    return list(dict.fromkeys((os.path.join(mount, below).rstrip("/"), mount)))


def _counter(path: str) -> int | None:
    for line in _lines(path):
        name, _, value = line.partition(" ")
        if name == COUNTER and value.isdecimal():
            return int(value)
    return None


def _limit(path: str) -> int | None:
    value = "".join(_lines(path))
    return int(value) if value.isdecimal() and int(value) < MAX_LIMIT else None


def _lines(path: str) -> list[str]:
    with suppress(OSError):
        return Path(path).read_text(errors="replace").splitlines()
    return []
