"""The longest SELECT of an application while a migration waits for the lock on its table."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import psycopg

from benchmarks.section import Section, Target
from benchmarks.workspace import Database, Workspace

LIMIT = 1.0
ALTER = 'op.execute("ALTER TABLE owner ADD COLUMN email text")'
HEAD_START = 1.0
"""Seconds for which the application reads before the migration begins."""


class Scene(NamedTuple):
    """Seconds of the longest SELECT, and from the end of the holder's transaction to the end of the migration."""

    longest: float
    finished: float


def measure(workspace: Workspace) -> Section:
    held, rounds = (10.0, 1) if workspace.quick else (20.0, 3)
    alembic = [sys.executable, "-m", "alembic", "upgrade", "heads"]
    commands = {
        "`alembic upgrade heads`": (alembic, ""),
        "`gate migrate`": (workspace.gate("migrate"), ""),
        f"`gate migrate`, `GATE_TABLE_LOCK_TIMEOUT={LIMIT:g}`": (workspace.gate("migrate"), f"{LIMIT:g}"),
    }
    scenes: dict[str, list[Scene]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (command, limit) in commands.items():
            scenes[name].append(_scene(workspace, command, limit, held))
    *_, limited = scenes.values()
    return Section(
        "A migration that waits for a busy table",
        f"One transaction has read a table and stays open for {held:.0f} s after the migration has started; another"
        " connection reads the table every 10 ms. The migration adds a column to it. Medians of"
        f" {rounds} round(s); the longest SELECT is the longest of all rounds.",
        ["command", "longest SELECT", "end of the migration after that of the transaction"],
        [_row(name, each) for name, each in scenes.items()],
        [
            Target(
                "longest SELECT with the time-out",
                max(each.longest for each in limited),
                LIMIT + 1,
                "s",
                reason="the SELECT waits behind the migration's lock request until the time-out.",
                remedy="a shorter `GATE_TABLE_LOCK_TIMEOUT`.",
            )
        ],
    )


def _row(name: str, scenes: Sequence[Scene]) -> list[str]:
    longest, finished = max(each.longest for each in scenes), median(each.finished for each in scenes)
    return [name, f"{longest:.2f} s", f"{finished:.1f} s"]


def _scene(workspace: Workspace, command: Sequence[str], limit: str, held: float) -> Scene:
    project = workspace.project(10, ALTER)
    database = workspace.database(*project.before)
    environment = workspace.environment(database, GATE_TABLE_LOCK_TIMEOUT=limit)
    over, waits = threading.Event(), [0.0]
    reader = threading.Thread(target=_read, args=(database, over, waits))
    with psycopg.connect(database.url) as holder:
        holder.execute("SELECT * FROM owner")
        reader.start()
        time.sleep(HEAD_START)
        with subprocess.Popen(
            command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as migration:
            time.sleep(held)
            holder.rollback()
            released = time.monotonic()
            if code := migration.wait(120):
                raise RuntimeError(f"{command!r} exited with {code}")
    finished = time.monotonic() - released
    over.set()
    reader.join()
    return Scene(max(waits), finished)


def _read(database: Database, over: threading.Event, waits: list[float]) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        while not over.wait(0.01):
            began = time.monotonic()
            connection.execute("SELECT count(*) FROM owner")
            waits.append(time.monotonic() - began)
