"""A database with a schema for each tenant, and env.py's for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import psycopg
from psycopg import sql

from tests.support.programs import ProgramResult
from tests.support.projects import Project

COOKBOOK_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, make_url, pool, text
{imports}

tenant = context.get_x_argument(as_dictionary=True)[{argument!r}]
url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+{driver}")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    quoted = '"' + tenant.replace('"', '""') + '"'
    {before}
    connection.execute(text("SELECT set_config('search_path', :path, false)"), {{"path": quoted}})
    connection.commit()
    connection.dialect.default_schema_name = tenant
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
"""The recipe "Rudimental Schema-Level Multi Tenancy" of Alembic's cookbook; it quotes names as SQL does."""

LOGGED = "op.execute(\"INSERT INTO public.applied VALUES ('{}', current_schema())\")"
"""The body of a revision that records that it ran, in which schema."""


class HasUrl(Protocol):
    @property
    def url(self) -> str: ...


def cookbook_env(*, argument: str = "schema", driver: str = "psycopg", imports: str = "", before: str = "pass") -> str:
    """Return env.py. `before`: a statement that runs before the search_path is set."""
    return COOKBOOK_ENV.format(argument=argument, driver=driver, imports=imports, before=before)


def use_cookbook_env(project: Project, **options: str) -> None:
    (project.folder / "migrations" / "env.py").write_text(cookbook_env(**options))


def add_logged(project: Project, revision: str, down: str | None, more: str = "") -> None:
    """Add a revision that records each schema in which it ran."""
    project.add(revision, down, f"{LOGGED.format(revision)}\n{more}")


def create_tenants(database: HasUrl, names: Iterable[str], *revisions: str) -> None:
    """Create schemas with a version table that holds these revisions; without one they have no version table."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.applied (revision text, schema text)")
        for name in names:
            schema = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            if revisions:
                connection.execute(
                    sql.SQL("CREATE TABLE {}.alembic_version (version_num varchar(32) PRIMARY KEY)").format(schema)
                )
            for revision in revisions:
                connection.execute(sql.SQL("INSERT INTO {}.alembic_version VALUES ({})").format(schema, revision))


def stamps(database: HasUrl, names: Iterable[str]) -> dict[str, str]:
    """Return the stamp of each schema, "" without one."""
    found = {}
    with psycopg.connect(database.url, autocommit=True) as connection:
        for name in names:
            try:
                rows = connection.execute(
                    sql.SQL("SELECT version_num FROM {}.alembic_version").format(sql.Identifier(name))
                ).fetchall()
            except psycopg.errors.UndefinedTable:
                rows = []
            found[name] = ",".join(sorted(row[0] for row in rows))
    return found


def applied(database: HasUrl) -> Sequence[tuple[str, str]]:
    """Return what has run, each as revision and schema, sorted."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        return sorted(connection.execute("SELECT revision, schema FROM public.applied").fetchall())


def migrated(result: ProgramResult) -> list[str]:
    """Return the schemas that a gate has migrated, in order."""
    return [event["schema"] for event in result.events if event["event"] == "gate.schema_migrated"]


def only_in(schema: str, statements: str) -> str:
    """Return statements of a revision that run in one schema only."""
    lines = "\n".join(f"    {line}" for line in statements.strip().splitlines())
    return f'if op.get_bind().exec_driver_sql("SELECT current_schema()").scalar() == {schema!r}:\n{lines}'
