"""How soon servers start: after the last migration, and twenty at once."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.chapter import Chapter, Target
from benchmarks.project import Project
from benchmarks.stage import COLD, WARM, Database, Stage

SERVER = ("date", "+%s.%N")
"""A server that says when it started."""

SLEEP = 'op.execute("SELECT pg_sleep({})")'
POLL_MAX = 10.0
LOOK = 1.0
"""Seconds that one look and the start of a process may take on a busy machine."""


def after_the_migration(stage: Stage) -> Chapter:
    waiters, settle, rounds, long = (4, 3.0, 1, 4) if stage.quick else (10, 20.0, 2, 12)
    watched = [each for _ in range(rounds) for each in _round(stage, waiters, settle, long)]
    unseen = _round(stage, rounds * waiters, settle, 0)
    return Chapter(
        "From the last commit to the server",
        f"`gate run` in waiters that have waited for {settle:.0f} s already, so that their pauses are long, then one"
        " `gate migrate`; the commit's time is the server's own (`pg_xact_commit_timestamp`). The second row is a"
        " migration that is over before a waiter can see the migrator: then only the longest pause bounds it.",
        ["migration", "starts", "median", "longest"],
        [
            _row(f"of {long} s: waiters see the migrator", watched),
            _row("without any duration: they do not", unseen),
        ],
        [
            Target("commit to start while a gate migrates, median", median(watched), 1.5, "s"),
            Target("commit to start, longest of all", max(*watched, *unseen), POLL_MAX + LOOK, "s"),
        ],
    )


def _row(what: str, seconds: Sequence[float]) -> list[str]:
    return [what, str(len(seconds)), f"{median(seconds):.2f} s", f"{max(seconds):.2f} s"]


def _round(stage: Stage, waiters: int, settle: float, migration: float) -> list[float]:
    project = stage.project(100, SLEEP.format(migration))
    database = stage.database(*project.before)
    waiting = [_start(stage, project, database, "run", "--", *SERVER) for _ in range(waiters)]
    time.sleep(settle)
    _started_at(_start(stage, project, database, "migrate"))
    started = [_started_at(each) for each in waiting]
    committed = database.committed_at()
    return [moment - committed for moment in started]


def _start(
    stage: Stage, project: Project, database: Database, *arguments: str, caches: str = WARM, **settings: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        stage.gate(*arguments),
        cwd=project.folder,
        env=stage.environment(database, caches, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _started_at(process: subprocess.Popen[str]) -> float:
    said, _ = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return float(said or 0)


@dataclass(frozen=True)
class Race:
    """Replicas that were started at once: when the last server started, and what CPU all of them took together."""

    last: float
    cpu: float


def replicas(stage: Stage) -> Chapter:
    size, long, rounds = (5, 4, 1) if stage.quick else (20, 10, 3)
    project = stage.project(100, SLEEP.format(long))
    races = {caches: _alternate(stage, project, (1, size), caches, rounds) for caches in (WARM, COLD)}
    return Chapter(
        f"{size} replicas with RUN_MIGRATIONS=1 at once",
        f"A migration of {long} s, after one to warm up; one replica and {size} of them in turn, medians of"
        f" {rounds} rounds; from the start of the first process to the start of"
        " the last server. All replicas share this one machine, so their starts wait for each other's imports; the"
        " CPU tells how much of that there is.",
        ["caches", "replicas", "last server started after", "× one", "CPU of all"],
        [
            [caches, str(number), f"{_last(each):.2f} s", f"{_times(each, one):.2f} ×", f"{_cpu(each):.1f} s"]
            for caches, (one, many) in races.items()
            for number, each in ((1, one), (size, many))
        ],
        [
            Target(f"{size} replicas / one alone, last start, {caches}", _times(many, one), 1.5, why=_why(many))
            for caches, (one, many) in races.items()
        ],
    )


def _last(races: Sequence[Race]) -> float:
    return median(race.last for race in races)


def _cpu(races: Sequence[Race]) -> float:
    return median(race.cpu for race in races)


def _times(many: Sequence[Race], one: Sequence[Race]) -> float:
    return median(a.last / b.last for a, b in zip(many, one, strict=True))


def _why(many: Sequence[Race]) -> str:
    return (
        f"together they use {_cpu(many):.1f} s of CPU on one machine, nearly all of it to import psycopg and, in the"
        " one that migrates, Alembic."
    )


def _alternate(
    stage: Stage, project: Project, sizes: tuple[int, int], caches: str, rounds: int
) -> tuple[list[Race], list[Race]]:
    _race(stage, stage.project(100, SLEEP.format(0)), 1, caches)
    races = [[_race(stage, project, size, caches) for size in sizes] for _ in range(rounds)]
    return [one for one, _ in races], [many for _, many in races]


def _race(stage: Stage, project: Project, number: int, caches: str) -> Race:
    database = stage.database(*project.before)
    command = ("run", "--", *SERVER)
    began, used = time.time(), _cpu_of_children()
    running = [_start(stage, project, database, *command, caches=caches, RUN_MIGRATIONS="1") for _ in range(number)]
    last = max(_started_at(each) for each in running) - began
    return Race(last, _cpu_of_children() - used)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
