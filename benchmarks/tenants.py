"""Migrating many schemas by one revision, compared with Alembic's cookbook: one process for each tenant."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from benchmarks.project import Project
from benchmarks.section import Section, Target
from benchmarks.workspace import Database, Workspace

LIMIT = 0.1
JOBS = 2
GATE, COOKBOOK, IDEAL = f"`gate migrate --jobs {JOBS}`", "`alembic -x schema=NAME upgrade head` for each", "ideal"
ADD_COLUMN = "ALTER TABLE orders ADD COLUMN note text"

IN_SCHEMA = """\
    schema = context.get_x_argument(as_dictionary=True)["schema"]
    connection.exec_driver_sql(f'SET search_path TO "{schema}"')
    connection.commit()
    connection.dialect.default_schema_name = schema
    context.configure("""
"""What Alembic's cookbook adds to env.py for a schema of each tenant."""


class Run(NamedTuple):
    """Seconds that a way of migrating takes for all schemas."""

    name: str
    seconds: list[float]


def measure(workspace: Workspace) -> Section:
    number, rounds = (20, 1) if workspace.quick else (200, 3)
    project = workspace.project(10, last=f"op.execute({ADD_COLUMN!r})")
    environment = project.folder / "plain" / "env.py"
    environment.write_text(environment.read_text().replace("    context.configure(", IN_SCHEMA))
    template = workspace.database()
    _create(template, number, project.before[0])
    ways: dict[str, Callable[[Database], float]] = {
        GATE: lambda database: _gate(workspace, project, database),
        COOKBOOK: lambda database: _cookbook(workspace, project, database, number),
        IDEAL: lambda database: _ideal(database, number, project),
    }
    runs = [Run(name, []) for name in ways]
    for turn in range(rounds):
        for run in runs:
            if turn == 0 or run.name != COOKBOOK:  # it takes minutes
                run.seconds.append(ways[run.name](_copy(workspace, template)))
    seconds = {run.name: median(run.seconds) for run in runs}
    return Section(
        "Migrating many schemas",
        f"{number} schemas, each migrated by one revision that adds a column. Ideal: one connection executes the same"
        " SQL in one transaction for each schema, with neither a lock nor a check. Medians of"
        f" {rounds} round(s); the loop of processes ran once.",
        ["way", "time", "for each schema", "× the loop of processes"],
        [
            [name, f"{total:.1f} s", f"{1000 * total / number:.0f} ms", f"{total / seconds[COOKBOOK]:.3f} ×"]
            for name, total in seconds.items()
        ],
        [Target(f"migrating {number} schemas / one process for each", seconds[GATE] / seconds[COOKBOOK], LIMIT)],
    )


def _create(database: Database, number: int, revision: str) -> None:
    statements = (
        f"CREATE SCHEMA tenant_{n}; CREATE TABLE tenant_{n}.orders (id int PRIMARY KEY);"
        f" CREATE TABLE tenant_{n}.alembic_version (version_num varchar(32) PRIMARY KEY);"
        f" INSERT INTO tenant_{n}.alembic_version VALUES ('{revision}');"
        for n in range(number)
    )
    database.server.execute(f"DO $$BEGIN {''.join(statements)} END$$", database.name)


def _copy(workspace: Workspace, template: Database) -> Database:
    copy = workspace.database()
    workspace.server.execute(f"DROP DATABASE {copy.name}")
    workspace.server.execute(f"CREATE DATABASE {copy.name} TEMPLATE {template.name}")
    return copy


def _gate(workspace: Workspace, project: Project, database: Database) -> float:
    words = workspace.gate("migrate", "--schemas", "tenant_*", "--jobs", str(JOBS))
    return workspace.timer.run(workspace.command(project, workspace.environment(database), *words)).wall


def _cookbook(workspace: Workspace, project: Project, database: Database, number: int) -> float:
    alembic = str(Path(sys.executable).with_name("alembic"))
    environment = workspace.environment(database)
    return sum(
        workspace.timer.run(
            workspace.command(project, environment, alembic, "-x", f"schema=tenant_{n}", "upgrade", "head")
        ).wall
        for n in range(number)
    )


def _ideal(database: Database, number: int, project: Project) -> float:
    with psycopg.connect(database.url, autocommit=True) as connection:
        began = time.monotonic()
        for n in range(number):
            connection.execute(
                f"BEGIN; SET LOCAL search_path TO tenant_{n}; {ADD_COLUMN};"
                f" UPDATE alembic_version SET version_num = '{project.head}'; COMMIT"
            )
        return time.monotonic() - began
