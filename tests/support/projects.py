"""Small Alembic projects for tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import RunningProgram, await_true

SYNC_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, make_url, pool

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+{driver}")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection{options})
    with context.begin_transaction():
        context.run_migrations()
"""

ASYNC_ENV = """
import asyncio, os
from alembic import context
from sqlalchemy import make_url, pool
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection{options})
    with context.begin_transaction():
        context.run_migrations()


async def main():
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+{driver}")
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
"""

OFFLINE_BRANCH = """
from alembic import context

if context.is_offline_mode():
    context.configure({offline})
    with context.begin_transaction():
        context.run_migrations()
else:
"""
"""The part of an env.py that Alembic's offline mode runs; `with_offline_branch` adds it."""

STOCK_OFFLINE = 'url=context.config.get_main_option("sqlalchemy.url"), literal_binds=True'
"""How Alembic's template configures the offline mode."""

SCRIPT = '''"""{message}"""

from alembic import op

revision = {id!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade():
{upgrade}


def downgrade():
    pass
'''


@dataclass(frozen=True)
class Project:
    """A folder with alembic.ini, env.py and migration scripts."""

    folder: Path

    @property
    def versions(self) -> Path:
        """The folder of the migration scripts."""
        return self.folder / "migrations" / "versions"

    def add(
        self,
        revision: str,
        down: str | tuple[str, ...] | None = None,
        upgrade: str = "pass",
        *,
        depends_on: str | tuple[str, ...] | None = None,
        labels: str | tuple[str, ...] | None = None,
        message: str = "",
    ) -> Path:
        """Write one migration script and return its path; `upgrade` is the body of its upgrade function."""
        body = "\n".join(f"    {line}" for line in upgrade.splitlines())
        text = SCRIPT.format(
            id=revision,
            down=down,
            labels=labels,
            depends_on=depends_on,
            message=message or f"make {revision}",
            upgrade=body,
        )
        path = self.versions / f"{revision}.py"
        path.write_text(text)
        return path

    def chain(self, *revisions: str, table: bool = True) -> Project:
        """Write a linear history; each revision creates the table `t_<revision>`, unless `table` is false."""
        down = None
        for revision in revisions:
            self.add(revision, down, f'op.execute("CREATE TABLE t_{revision} (id int)")' if table else "pass")
            down = revision
        return self


HELD = """
import pathlib
folder = pathlib.Path(__file__).parent
number = len(list(folder.glob("run*"))) + 1
(folder / f"run{{number}}").touch()
if number == {run}:
    (folder / "go").read_text()
"""


@dataclass(frozen=True)
class HeldEnvPy:
    """Holds one run of env.py before it connects: the first one is the dry run."""

    folder: Path
    run: int

    @classmethod
    def create(cls, project: Project, run: int) -> HeldEnvPy:
        """Put the lines that hold it in front of env.py; a pipe lets it go."""
        folder = project.folder / "migrations"
        env = folder / "env.py"
        env.write_text(HELD.format(run=run) + env.read_text())
        os.mkfifo(folder / "go")
        return cls(folder, run)

    def wait(self, migrating: RunningProgram) -> None:
        """Wait until that run is held."""
        await_true((self.folder / f"run{self.run}").exists, lambda: "".join(migrating.err), migrating.process)

    def release(self) -> None:
        """Let it go."""
        (self.folder / "go").write_text("")


def with_offline_branch(environment: str, offline: str = STOCK_OFFLINE) -> str:
    """Return an env.py that runs `environment` unless Alembic's offline mode runs it; `offline`: its arguments."""
    indented = "\n".join(f"    {line}" for line in environment.strip().splitlines())
    return f"{OFFLINE_BRANCH.format(offline=offline)}{indented}\n"


def wait_for_file(path: Path) -> str:
    """Return statements, for a migration script or env.py, that wait for a file."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.05)\n"


def make_project(
    folder: Path, *, driver: str = "psycopg", options: str = "", environment: str | None = None
) -> Project:
    """Create a project without migration scripts.

    env.py connects to DATABASE_URL with `driver` and appends `options` to the arguments of `context.configure`;
    `environment` replaces its whole text.
    """
    project = Project(folder)
    project.versions.mkdir(parents=True)
    template = ASYNC_ENV if driver == "asyncpg" else SYNC_ENV
    text = environment if environment is not None else template.format(driver=driver, options=options)
    (folder / "migrations" / "env.py").write_text(text)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
    return project
