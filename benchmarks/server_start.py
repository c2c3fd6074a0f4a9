"""How soon servers start: after a migration, and with twenty replicas at once."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.floors import Floors
from benchmarks.project import Project
from benchmarks.section import Section, Target
from benchmarks.workspace import COLD, WARM, Database, Workspace

SERVER = ("date", "+%s.%N")
"""A server that prints the time of its start."""

SLEEP = 'op.execute("SELECT pg_sleep({})")'
POLL_MAX = 10.0
CHECK_ALLOWANCE = 1.0
"""Seconds for one check and the start of a process on a busy machine."""


def after_the_migration(workspace: Workspace) -> Section:
    waiters, settle, rounds, duration = (4, 3.0, 1, 4) if workspace.quick else (10, 20.0, 2, 12)
    visible = [each for _ in range(rounds) for each in _round(workspace, waiters, settle, duration)]
    invisible = _round(workspace, rounds * waiters, settle, 0)
    return Section(
        "From the commit to the server start",
        f"Several `gate run` have waited for {settle:.0f} s, so their pauses are long; then `gate migrate` runs. The"
        " time of the commit is that of the database (`pg_xact_commit_timestamp`). In the second row the migration ends"
        " before a waiter can see the migrator, so only the longest pause is a limit.",
        ["migration", "starts", "median", "longest"],
        [
            _row(f"{duration} s: the waiters see the migrator", visible),
            _row("immediate: the waiters do not see it", invisible),
        ],
        [
            Target(
                "commit to start while a gate migrates, median",
                median(visible),
                1.5,
                "s",
                reason="a waiter pauses up to 1 to 2 s between its checks while it sees a migrator.",
                remedy="shorter pauses while a migrator is there.",
            ),
            Target(
                "commit to start, longest",
                max(*visible, *invisible),
                POLL_MAX + CHECK_ALLOWANCE,
                "s",
                reason="a waiter that sees no migrator pauses up to `GATE_POLL_MAX`.",
                remedy="a shorter `GATE_POLL_MAX`.",
            ),
        ],
    )


def _row(name: str, seconds: Sequence[float]) -> list[str]:
    return [name, str(len(seconds)), f"{median(seconds):.2f} s", f"{max(seconds):.2f} s"]


def _round(workspace: Workspace, waiters: int, settle: float, migration: float) -> list[float]:
    project = workspace.project(100, SLEEP.format(migration))
    database = workspace.database(*project.before)
    waiting = [_start(workspace, project, database, "run", "--", *SERVER) for _ in range(waiters)]
    time.sleep(settle)
    _started_at(_start(workspace, project, database, "migrate"))
    started = [_started_at(each) for each in waiting]
    committed = database.committed_at()
    return [moment - committed for moment in started]


def _start(
    workspace: Workspace, project: Project, database: Database, *arguments: str, caches: str = WARM, **settings: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        workspace.gate(*arguments),
        cwd=project.folder,
        env=workspace.environment(database, caches, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _started_at(process: subprocess.Popen[str]) -> float:
    output, _ = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} exited with {process.returncode}")
    return float(output or 0)


@dataclass(frozen=True)
class Race:
    """Replicas started at once: seconds until the last server started, and CPU seconds of all of them."""

    last: float
    cpu: float


def replicas(workspace: Workspace, floors: Floors) -> Section:
    size, duration, rounds = (5, 4, 1) if workspace.quick else (20, 10, 3)
    project = workspace.project(100, SLEEP.format(duration))
    races = {caches: _alternate(workspace, project, (1, size), caches, rounds) for caches in (WARM, COLD)}
    return Section(
        f"{size} replicas with RUN_MIGRATIONS=1 at once",
        f"A migration of {duration} s, after one warm-up; one replica and {size} replicas alternate; medians of"
        f" {rounds} rounds; from the start of the first process to the start of the last server. All replicas share"
        " this machine, so they compete for CPU while they import; the last column shows how much.",
        ["caches", "replicas", "last server start", "× one", "CPU of all"],
        [
            [caches, str(number), f"{_last(each):.2f} s", f"{_times(each, one):.2f} ×", f"{_cpu(each):.1f} s"]
            for caches, (one, many) in races.items()
            for number, each in ((1, one), (size, many))
        ],
        [
            _target(f"{size} replicas / one alone, last start, {caches}", one, many, size * floors.seconds(caches))
            for caches, (one, many) in races.items()
        ],
    )


def _last(races: Sequence[Race]) -> float:
    return median(race.last for race in races)


def _cpu(races: Sequence[Race]) -> float:
    return median(race.cpu for race in races)


def _times(many: Sequence[Race], one: Sequence[Race]) -> float:
    return median(a.last / b.last for a, b in zip(many, one, strict=True))


def _target(name: str, one: Sequence[Race], many: Sequence[Race], imports: float) -> Target:
    """Compare many replicas with one; `imports` is the time for which all of them import psycopg, in seconds."""
    cores = os.cpu_count() or 1
    return Target(
        name,
        _times(many, one),
        1.5,
        reason=f"the replicas use {_cpu(many):.1f} s of CPU time on {cores} cores of one machine, mostly to import"
        " psycopg and, in the migrating replica, Alembic.",
        remedy="an image with bytecode caches, more cores, or replicas on several machines.",
        floor=f"imports of psycopg on {cores} cores: {imports / cores:.1f} s, {imports / cores / _last(many):.0%}",
    )


def _alternate(
    workspace: Workspace, project: Project, sizes: tuple[int, int], caches: str, rounds: int
) -> tuple[list[Race], list[Race]]:
    _race(workspace, workspace.project(100, SLEEP.format(0)), 1, caches)
    races = [[_race(workspace, project, size, caches) for size in sizes] for _ in range(rounds)]
    return [one for one, _ in races], [many for _, many in races]


def _race(workspace: Workspace, project: Project, number: int, caches: str) -> Race:
    database = workspace.database(*project.before)
    command = ("run", "--", *SERVER)
    started, cpu = time.time(), _cpu_of_children()
    running = [_start(workspace, project, database, *command, caches=caches, RUN_MIGRATIONS="1") for _ in range(number)]
    last = max(_started_at(each) for each in running) - started
    return Race(last, _cpu_of_children() - cpu)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
