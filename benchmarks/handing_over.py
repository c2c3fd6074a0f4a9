"""How soon servers start: after the last migration, and twenty at once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.chapter import Chapter, Target
from benchmarks.project import Project
from benchmarks.stage import Database, Stage

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
    stage: Stage, project: Project, database: Database, *arguments: str, **settings: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        stage.gate(*arguments),
        cwd=project.folder,
        env=stage.environment(database, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _started_at(process: subprocess.Popen[str]) -> float:
    said, _ = process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return float(said or 0)


def replicas(stage: Stage) -> Chapter:
    size, long = (5, 4) if stage.quick else (20, 10)
    _all_started_after(stage, stage.project(100, SLEEP.format(0)), 1)
    project = stage.project(100, SLEEP.format(long))
    alone, crowd = (_all_started_after(stage, project, number) for number in (1, size))
    return Chapter(
        f"{size} replicas with RUN_MIGRATIONS=1 at once",
        f"A migration of {long} s, after one to warm up; from the start of the first process to the start of the last"
        " server.",
        ["replicas", "last server started after"],
        [["1", f"{alone:.2f} s"], [str(size), f"{crowd:.2f} s"]],
        [Target(f"{size} replicas / one alone, last start", crowd / alone, 1.5)],
    )


def _all_started_after(stage: Stage, project: Project, number: int) -> float:
    database = stage.database(*project.before)
    began = time.time()
    command = ("run", "--", *SERVER)
    running = [_start(stage, project, database, *command, RUN_MIGRATIONS="1") for _ in range(number)]
    return max(_started_at(each) for each in running) - began
