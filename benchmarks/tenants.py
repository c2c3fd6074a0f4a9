"""Migrating a schema for each tenant: gate, Alembic's cookbook in a loop, and the bare SQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import psycopg

from benchmarks.project import Project
from benchmarks.section import Section, Target, milliseconds, times
from benchmarks.workspace import Database, Workspace

SCHEMAS, SAMPLE = 200, 70
"""Schemas that gate migrates, and those of them for which the loop runs in each round."""

JOBS = 2
LIMIT = 0.1
BARE = "the same statements on open connections"
GATE = f"`gate migrate --jobs {JOBS}`"
LOOP = "a loop of `alembic upgrade heads`"
ALTER = "ALTER TABLE owner ADD COLUMN email text"

REASON = (
    "gate forks a process for each schema, which takes {} with {} jobs: env.py, the lock, the migration and gate's own"
    " checks before and after it."
)

COOKBOOK = """\
import os

from alembic import context
from sqlalchemy import create_engine, pool, text

tenant = context.get_x_argument(as_dictionary=True)["tenant"]
engine = create_engine(os.environ["DATABASE_URL"].replace("://", "+psycopg://", 1), poolclass=pool.NullPool)
with engine.connect() as connection:
    connection.execute(text('set search_path to "%s"' % tenant))
    connection.commit()
    connection.dialect.default_schema_name = tenant
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
"""The recipe "Rudimental Schema-Level Multi Tenancy" of Alembic's documentation."""


def measure(workspace: Workspace) -> Section:
    number, sample, rounds = (40, 20, 1) if workspace.quick else (SCHEMAS, SAMPLE, 3)
    project = workspace.project(10, f'op.execute("{ALTER}")')
    (project.folder / "plain" / "env.py").write_text(COOKBOOK)
    tenants = [f"tenant_{n:03}" for n in range(number)]
    measured = [_round(workspace, project, tenants, sample) for _ in range(rounds)]
    seconds = {name: median(each[name] for each in measured) for name in (BARE, GATE, LOOP)}
    cookbook, ideal = (median(each[GATE] / each[name] for each in measured) for name in (LOOP, BARE))
    return Section(
        f"Migrating {number} schemas by one revision",
        f"One database with a schema for each tenant; medians of {rounds} round(s), in which the three alternate;"
        " ratios within each round. gate's time includes its start. `alembic -x tenant=NAME upgrade heads` runs for"
        f" {sample} of the schemas; their time is multiplied for all, because its runs share nothing. The"
        f" statements run in {JOBS} threads with an open connection each; gate takes {ideal:.0f} times as long.",
        ["command", "in all", "for each schema", "÷ the loop"],
        [[name, f"{s:.1f} s", milliseconds(s / number), times(_share(measured, name))] for name, s in seconds.items()],
        []
        if workspace.quick
        else [
            Target(
                f"{number} schemas: gate / the loop of `alembic`",
                cookbook,
                LIMIT,
                reason=REASON.format(milliseconds(JOBS * seconds[GATE] / number), JOBS),
                remedy="more `--jobs` on more cores; one child for several schemas would risk what one env.py leaves"
                " behind for the next.",
                floor=f"the bare statements: {1 / ideal:.0%}",
            )
        ],
    )


def _round(workspace: Workspace, project: Project, tenants: Sequence[str], sample: int) -> dict[str, float]:
    """Return the seconds of each way for all tenants."""
    command = workspace.gate("migrate", "--schemas", "tenant_*", "--schema-argument", "tenant", "--jobs", str(JOBS))
    bare, gate = (_database(workspace, project, tenants) for _ in range(2))
    loop = _database(workspace, project, tenants[:sample])
    return {
        BARE: _bare(bare, project, tenants),
        GATE: _timed(workspace, gate, project, [command]),
        LOOP: _timed(workspace, loop, project, map(_alembic, tenants[:sample])) * len(tenants) / sample,
    }


def _share(rounds: Sequence[dict[str, float]], name: str) -> float:
    return median(each[name] / each[LOOP] for each in rounds)


def _database(workspace: Workspace, project: Project, tenants: Iterable[str]) -> Database:
    """Create a database with these schemas, each before the last revision."""
    database = workspace.database()
    with psycopg.connect(database.url, autocommit=True) as connection:
        for tenant in tenants:
            connection.execute(f"CREATE SCHEMA {tenant}")
            connection.execute(f"CREATE TABLE {tenant}.owner (id int PRIMARY KEY)")
            connection.execute(f"CREATE TABLE {tenant}.alembic_version (version_num varchar(32) PRIMARY KEY)")
            for row in project.before:
                connection.execute(f"INSERT INTO {tenant}.alembic_version VALUES ('{row}')")
    return database


def _alembic(tenant: str) -> list[str]:
    return [sys.executable, "-m", "alembic", "-x", f"tenant={tenant}", "upgrade", "heads"]


def _timed(workspace: Workspace, database: Database, project: Project, commands: Iterable[Sequence[str]]) -> float:
    """Run the commands one after the other."""
    environment = workspace.environment(database)
    began = time.monotonic()
    for command in commands:
        subprocess.run(command, cwd=project.folder, env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - began
    _verify(database, project)
    return seconds


def _bare(database: Database, project: Project, tenants: Sequence[str]) -> float:
    def migrate(share: Iterable[str]) -> None:
        with psycopg.connect(database.url, autocommit=True) as connection:
            for tenant in share:
                connection.execute(f'SET search_path TO "{tenant}"')
                with connection.transaction():
                    connection.execute(ALTER)
                    connection.execute("UPDATE alembic_version SET version_num = %s", (project.head,))

    began = time.monotonic()
    with ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(migrate, (tenants[n::JOBS] for n in range(JOBS))))
    seconds = time.monotonic() - began
    _verify(database, project)
    return seconds


def _verify(database: Database, project: Project) -> None:
    query = "SELECT count(*) FROM pg_attribute WHERE attrelid::regclass::text LIKE '%owner' AND attname = 'email'"
    [(migrated,)] = database.server.execute(query, database.name)
    [(schemas,)] = database.server.execute(
        "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant%'", database.name
    )
    if migrated != schemas:
        raise RuntimeError(f"{migrated} of {schemas} schemas are at {project.head}")
