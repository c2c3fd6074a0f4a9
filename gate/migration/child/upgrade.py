"""The upgrade with Alembic's API, in a process of its own: `python -m gate.migration.child.upgrade REPORTS REQUEST`.

It reports to the descriptor REPORTS, one JSON object per line. REQUEST is an `UpgradeRequest` in JSON. Before the first
revision it verifies, on the migration's own connection, that gate holds the lock in this database.
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

import gate
from gate.migration.child.session_tags import is_autocommit, report_autocommit, tag_sessions
from gate.migration.plan import UpgradeRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection


MAX_ERROR_LENGTH = 20_000
"""Characters of an error that are reported; gate shortens them further after it has redacted the passwords."""

MAX_STATEMENT_LENGTH = 20_000
"""Characters of the failed statement that are reported; gate shortens it likewise."""


def main() -> None:
    """Upgrade to the heads; report an error and exit with code 1 if that fails."""
    reporter = Reporter(int(sys.argv[1]))
    request = UpgradeRequest(**json.loads(sys.argv[2]))
    sys.argv[:] = ["alembic", "upgrade", "heads"]  # for an env.py that reads sys.argv
    try:
        tag_sessions(request.tag, lambda pid: reporter.report("connected", pid=pid), lambda: reporter.report("pooled"))
        report_autocommit(reporter.report_autocommit)
        upgrade(request, reporter)
        reporter.report("done")
    except BaseException as error:  # noqa: BLE001 - a migration can raise anything, SystemExit too; all is reported
        reporter.report_failure(error)
        sys.exit(1)


def upgrade(request: UpgradeRequest, reporter: Reporter) -> None:
    """Do what `alembic upgrade heads` does (`alembic.command.upgrade`), and report each revision."""
    config = Config(request.ini, toml_file=request.toml, ini_section=request.section, cmd_opts=_options(request))
    directory = ScriptDirectory.from_config(config)

    def steps(heads: Any, _: MigrationContext) -> Iterator[Any]:
        upgrades = directory._upgrade_revs("heads", heads)  # noqa: SLF001 - as alembic.command.upgrade does
        return reporter.report_steps(list(upgrades))

    environment = EnvironmentContext(config, directory, fn=steps, as_sql=False, destination_rev="heads", tag=None)
    Fence(environment, request, reporter)
    with environment:
        directory.run_env()


def _options(request: UpgradeRequest) -> Namespace:
    """The parsed command line of `alembic upgrade heads`, which env.py can read (`context.get_x_argument`)."""
    return Namespace(
        config=[request.ini], name=request.section, x=request.x or None, raiseerr=False, quiet=False, verbose=False,
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]), revision="heads", sql=False, tag=None,
    )  # fmt: skip


class WrongDatabase(Exception):
    """The fence refuses the database or the version table of env.py; the message says why and what to do."""


class Fence:
    """Verifies env.py's connection and version table before a migration runs on that connection."""

    def __init__(self, environment: EnvironmentContext, request: UpgradeRequest, reporter: Reporter) -> None:
        self._environment, self._request, self._reporter = environment, request, reporter
        self._run_migrations = environment.run_migrations
        self._verified = self._called = False
        # `alembic.context` is a proxy for the methods of EnvironmentContext itself, so a subclass would not be called.
        environment.run_migrations = self.run_migrations  # type: ignore[method-assign]

    def run_migrations(self, **arguments: Any) -> None:
        """Replace `context.run_migrations`, which env.py calls: verify first, then run Alembic's own."""
        context = self._environment.get_context()
        if not self._called:
            self._verify_version_table(context.version_table)
        self._called = True
        connection = context.connection
        if connection is not None and is_autocommit(connection):
            self._reporter.report("autocommit", revision="")
        if connection is not None and self._request.fence:
            self._verify_database(connection)
        self._run_migrations(**arguments)

    def _verify_version_table(self, table: str) -> None:
        if table != self._request.version_table:
            raise WrongDatabase(
                f"env.py uses the version table {table}, but gate reads {self._request.version_table}. Set "
                f"GATE_VERSION_TABLE={table}; if env.py uses both, let it run the migrations of "
                f"{self._request.version_table} first."
            )

    def _verify_database(self, connection: Connection) -> None:
        began_here = not connection.in_transaction()
        database, is_locked = self._query_fence(connection)
        if not is_locked and self._verified:
            raise WrongDatabase(
                "env.py migrates more than one database in one run, as Alembic's multidb template does. Give each "
                "database its own section in alembic.ini, and run gate once for each: gate -n SECTION."
            )
        if not is_locked:
            raise WrongDatabase(
                f"env.py connects to database {database}, where gate does not hold the lock: gate checked another "
                "database. Let env.py take its URL from DATABASE_URL, or set MIGRATION_DATABASE_URL to env.py's URL."
            )
        self._verified = True
        if began_here:
            connection.rollback()

    def _query_fence(self, connection: Connection) -> tuple[str, bool]:
        try:
            database, is_locked = connection.exec_driver_sql(self._request.fence).one()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            raise WrongDatabase(
                f"env.py connects to another kind of database ({connection.dialect.name}) than gate checked: "
                f"{error.orig}. Let env.py take its URL from DATABASE_URL."
            ) from None
        return database, bool(is_locked)


class Reporter:
    """Reports the upgrade to gate. `revision`: the one that runs now, None between the revisions."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.revision: str | None = None

    def report(self, type_: str, **fields: object) -> None:
        """Write one line of JSON; errors are ignored, since a migration may have closed the descriptor."""
        with suppress(OSError):
            os.write(self._descriptor, json.dumps({"type": type_, **fields}).encode() + b"\n")

    def report_steps(self, steps: list[Any]) -> Iterator[Any]:
        """Yield the steps and report each; Alembic asks for the next step when it has applied the last."""
        self.report("plan", total=len(steps))
        for number, step in enumerate(steps, start=1):
            self.revision = step.to_revisions[0]
            began = time.monotonic()
            self.report("started", revision=self.revision, step=number)
            yield step
            self.report("applied", revision=self.revision, step=number, seconds=round(time.monotonic() - began, 3))
        self.revision = None

    def report_autocommit(self) -> None:
        """Report that the current revision uses AUTOCOMMIT; env.py may use it outside the revisions."""
        if self.revision:
            self.report("autocommit", revision=self.revision)

    def report_failure(self, error: BaseException) -> None:
        """Report an error without its traceback and without the parameters of its statement, which may be secret."""
        original = getattr(error, "orig", None) or error
        self.report(
            "failed",
            kind="database" if isinstance(error, WrongDatabase) else "migration",
            revision=self.revision,
            message=_describe(error, original),
            location=_innermost_frame(error),
            sqlstate=getattr(original, "sqlstate", None) or getattr(original, "pgcode", None),
        )


def _describe(error: BaseException, original: BaseException) -> str:
    if isinstance(error, WrongDatabase):
        return str(error)
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    text = " ".join(str(original).split())[:MAX_ERROR_LENGTH]
    statement = " ".join(str(getattr(error, "statement", None) or "").split())[:MAX_STATEMENT_LENGTH]
    return f"{type(original).__name__}: {text}" + (f" (in: {statement})" if statement else "")


def _innermost_frame(error: BaseException) -> str | None:
    """The file and line of the innermost frame that is the application's own, not gate's or a library's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_library(f.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


def _is_library(path: str) -> bool:
    """Whether a file is gate's, Python's or an installed package's.

    `sys.prefix` cannot decide that: it is /usr for a distribution's Python, and an application may be in /usr/src.
    """
    installed = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    folders = (os.path.dirname(gate.__file__), *installed)
    return path.startswith(("<", *(f"{folder}{os.sep}" for folder in folders))) or "-packages" in path


if __name__ == "__main__":
    main()
