"""The child that upgrades: Alembic's API in a process of its own, `python -m gate.upgrade FD JOB`.

It tells gate what happens, one JSON object a line on the descriptor FD. Before the first step it proves, on the
migration's own connection, that the lock is held in this very database.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import time
import traceback
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from gate.migration.child.session_tags import is_autocommit, report_autocommit, tag_sessions
from gate.migration.plan import UpgradeRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection


MAX_ERROR_LENGTH = 20_000
"""Characters of an error that are told; the parent shortens them after it has hidden the passwords."""


class WrongDatabase(Exception):
    """The lock is not held in the database that env.py connects to."""


class Reporter:
    """The parent's view: what is running now, and every step."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.revision: str | None = None

    def tell(self, what: str, **fields: object) -> None:
        """Send one line; a migration may have closed the descriptor, and a parent that is gone ends this process."""
        with suppress(OSError):
            os.write(self._descriptor, json.dumps({"what": what, **fields}).encode() + b"\n")

    def steps(self, steps: list[Any]) -> Iterator[Any]:
        """Hand the steps to Alembic one by one, which asks for the next when it has applied the last."""
        self.tell("plan", total=len(steps))
        for number, step in enumerate(steps, start=1):
            self.revision = step.to_revisions[0]
            began = time.monotonic()
            self.tell("started", revision=self.revision, step=number)
            yield step
            self.tell("applied", revision=self.revision, step=number, seconds=round(time.monotonic() - began, 3))
        self.revision = None

    def autocommit(self) -> None:
        """Say that the revision at work commits by itself; what env.py does beside all of them is its own affair."""
        if self.revision:
            self.tell("autocommit", revision=self.revision)

    def failed(self, error: BaseException) -> None:
        """Say what happened without a traceback and without parameters of a statement."""
        original = getattr(error, "orig", None) or error
        self.tell(
            "failed",
            kind="database" if isinstance(error, WrongDatabase) else "migration",
            revision=self.revision,
            message=_describe(error, original),
            where=_innermost_frame(error),
            sqlstate=getattr(original, "sqlstate", None) or getattr(original, "pgcode", None),
        )


class Fence:
    """A look at the migration's own connection before anything runs on it."""

    def __init__(self, environment: EnvironmentContext, job: UpgradeRequest, report: Reporter) -> None:
        self._environment, self._job, self._report = environment, job, report
        self._run_migrations = environment.run_migrations
        self._proved = self._ran = False
        # Alembic's proxy modules know EnvironmentContext itself and no subclass, so the one instance is changed.
        environment.run_migrations = self.run_migrations  # type: ignore[method-assign]

    def run_migrations(self, **arguments: Any) -> None:
        """What env.py calls: Alembic's own, after the fence."""
        context = self._environment.get_context()
        connection = context.connection
        if not self._ran and context.version_table != self._job.table:
            raise WrongDatabase(
                f"env.py keeps its stamp in the table {context.version_table}, and gate looks for {self._job.table}: "
                f"set GATE_VERSION_TABLE={context.version_table}, or let env.py begin with the other if it keeps both."
            )
        self._ran = True
        if connection is not None and is_autocommit(connection):
            self._report.tell("autocommit", revision="")
        if self._job.fence and connection is not None:
            self._prove(connection)
        self._run_migrations(**arguments)

    def _prove(self, connection: Connection) -> None:
        began_here = not connection.in_transaction()
        database, held = self._look(connection)
        if not held and self._proved:
            raise WrongDatabase(
                "env.py migrates more than one database in one run (Alembic's multidb template). Give each database a "
                "section of alembic.ini and a gate of its own: gate -n SECTION."
            )
        if not held:
            raise WrongDatabase(
                f"env.py connects to the database {database}, where gate holds no lock: it is another one than gate "
                "looked at. Let env.py take its URL from DATABASE_URL, or set MIGRATION_DATABASE_URL to env.py's."
            )
        self._proved = True
        if began_here:
            connection.rollback()

    def _look(self, connection: Connection) -> tuple[str, bool]:
        try:
            database, held = connection.exec_driver_sql(self._job.fence).one()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            kind = connection.dialect.name
            raise WrongDatabase(
                f"env.py connects to another kind of database ({kind}) than gate looked at: {error.orig}."
            ) from None
        return database, bool(held)


def main() -> None:
    """Upgrade to the heads, or report why not and exit 1."""
    report = Reporter(int(sys.argv[1]))
    job = UpgradeRequest(**json.loads(sys.argv[2]))
    sys.argv[:] = ["alembic", "upgrade", "heads"]  # what env.py would see, should it look
    try:
        tag_sessions(job.tag, lambda pid: report.tell("connected", pid=pid), lambda: report.tell("pooled"))
        report_autocommit(report.autocommit)
        upgrade(job, report)
        report.tell("done")
    except BaseException as error:  # noqa: BLE001 - a migration may raise anything, and all of it is told
        report.failed(error)
        sys.exit(1)


def upgrade(job: UpgradeRequest, report: Reporter) -> None:
    """What `alembic upgrade heads` does, with its steps told one by one."""
    config = Config(job.ini, toml_file=job.toml, ini_section=job.section, cmd_opts=_options(job))
    directory = ScriptDirectory.from_config(config)

    def steps(heads: Any, _: MigrationContext) -> Iterator[Any]:
        return report.steps(list(directory._upgrade_revs("heads", heads)))  # noqa: SLF001 - as alembic.command does

    environment = EnvironmentContext(config, directory, fn=steps, as_sql=False, destination_rev="heads", tag=None)
    Fence(environment, job, report)
    with environment:
        directory.run_env()


def _options(job: UpgradeRequest) -> Namespace:
    """The parsed command line, which env.py may ask for (`context.get_x_argument`)."""
    chosen = (command.upgrade, ["revision"], ["sql", "tag"])
    return Namespace(
        config=[job.ini], name=job.section, x=job.x or None, raiseerr=False, quiet=False, verbose=False,
        cmd=chosen, revision="heads", sql=False, tag=None,
    )  # fmt: skip


def _describe(error: BaseException, original: BaseException) -> str:
    if isinstance(error, WrongDatabase):
        return str(error)
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    text = " ".join(str(original).split())[:MAX_ERROR_LENGTH]
    statement = " ".join(str(getattr(error, "statement", None) or "").split())[:120]
    return f"{type(original).__name__}: {text}" + (f" (in: {statement})" if statement else "")


def _innermost_frame(error: BaseException) -> str | None:
    """File and line of the innermost frame that is neither a library's nor gate's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_library(f.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


def _is_library(path: str) -> bool:
    """Not by `sys.prefix`: that is /usr for a system's Python, and the application may be in /usr/src."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own = (os.path.dirname(__file__), *folders)
    return path.startswith(("<", *(f"{folder}{os.sep}" for folder in own))) or "-packages" in path


if __name__ == "__main__":
    main()
