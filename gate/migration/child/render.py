"""Renders revisions as SQL in Alembic's offline mode: `python -m gate.migration.child.render REPORTS REQUEST`.

It reports to the descriptor REPORTS, one JSON object per line, the statements of each revision or why it has none.
REQUEST is a `RenderRequest` in JSON. The process cannot connect to any database, so it changes none.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from gate.migration.child.connection_guard import ConnectionAttempt, refuse_connections, tries_to_connect
from gate.migration.child.failure import describe, location_of
from gate.migration.child.fence import Fence, FenceRefusal, Location
from gate.migration.child.reporter import Reporter
from gate.migration.child.upgrade import command_line_options, target_of
from gate.migration.render_request import RenderRequest

NOT_CALLED = (
    "env.py does not call context.run_migrations() in Alembic's offline mode (`context.is_offline_mode()`), so there "
    "is no SQL to show"
)

NO_CONNECTION = "gate lets nothing connect to a database while it renders SQL."

NO_QUERY = "Alembic's offline mode has no connection, so there is nothing that this could query."


def main() -> None:
    """Render; what has failed is reported, and the exit code is 0."""
    reporter = Reporter(int(sys.argv[1]))
    request = RenderRequest.from_json(sys.argv[2])
    sys.argv[:] = ["alembic", "upgrade", request.revision_argument, "--sql"]  # for an env.py that reads sys.argv
    try:
        refuse_connections()
    except OSError as error:
        reporter.report("unprotected", reason=error.strerror)
        _exit()
    try:
        render(request, reporter)
    except BaseException as error:  # noqa: BLE001 - env.py can raise anything, SystemExit too; all is reported
        reporter.report(
            "stopped",
            refused=isinstance(error, FenceRefusal),
            fatal=not (reporter.revision or tries_to_connect(error)),
            **_explained(error, reporter),
        )
    reporter.report("done")
    _exit()


def _exit() -> None:
    """Exit although a thread of the application is still running."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # env.py may have replaced, closed or removed it
            stream.flush()
    os._exit(0)


def render(request: RenderRequest, reporter: Reporter) -> None:
    """Do what `alembic upgrade FROM:TARGET --sql` does, from all stamped revisions at once."""
    upgrade = request.upgrade
    options = command_line_options(upgrade, revision=request.revision_argument, sql=True)
    config = Config(upgrade.ini, toml_file=upgrade.toml, ini_section=upgrade.section, cmd_opts=options)
    directory = ScriptDirectory.from_config(config)
    reporter.script_folders = [str(directory.dir), *map(str, directory._version_locations)]  # noqa: SLF001 - resolved
    renderer = _Renderer(request, directory, reporter)
    target: Any = target_of(upgrade)
    environment = EnvironmentContext(
        config, directory, fn=renderer.steps, as_sql=True, starting_rev=_starting_revision(request.rows),
        destination_rev=target, tag=None,
    )  # fmt: skip
    configure, fence = environment.configure, Fence(upgrade)

    def configure_offline(*arguments: Any, **named: Any) -> None:
        options = named | dict(zip(inspect.signature(configure).parameters, arguments, strict=False))
        _verify_version_table(fence, options, request)
        configure(**_offline_options(options, request, renderer.output))

    environment.configure = configure_offline  # type: ignore[method-assign] # as `upgrade._run_env_py` explains
    try:
        with environment:
            directory.run_env()
    except (Exception, SystemExit):
        # What follows context.run_migrations() in env.py may need the tables that no statement has created.
        if not renderer.finished:
            raise
    if fence.refusal:
        raise fence.refusal
    if not renderer.started:
        reporter.report("stopped", refused=False, fatal=False, message=NOT_CALLED, location=None, hint="")
    reporter.report("after", statements=renderer.output.take())


def _starting_revision(rows: list[str]) -> str | tuple[str, ...] | None:
    """Return the stamped revisions as Alembic's own commands pass a single one."""
    return tuple(rows) if len(rows) > 1 else next(iter(rows), None)


class _Statements:
    """The output of Alembic's offline mode: each write is one statement or comment."""

    def __init__(self) -> None:
        self._written: list[str] = []

    def write(self, text: str) -> None:
        self._written.append(text)

    def flush(self) -> None:
        """Nothing is buffered."""

    def take(self) -> list[str]:
        """Return what was written since the last time."""
        written, self._written = self._written, []
        return written


class _Renderer:
    """Yields the steps of an upgrade to Alembic, and reports what it writes for each.

    `started`, `finished`: whether Alembic has asked for the first step, and has finished the last.
    """

    def __init__(self, request: RenderRequest, directory: ScriptDirectory, reporter: Reporter) -> None:
        self._request, self._directory, self._reporter = request, directory, reporter
        self.output = _Statements()
        self.started = self.finished = False

    def steps(self, heads: Any, _: object) -> Iterator[Any]:
        if self.started:  # env.py runs the migrations twice; the second time nothing is pending
            return
        self.started = True
        self._reporter.report("before", statements=self.output.take())
        try:
            target: Any = target_of(self._request.upgrade)
            steps = [*self._directory._upgrade_revs(target, heads)]  # noqa: SLF001 - as alembic.command.upgrade does
        except Exception as error:  # noqa: BLE001 - `gate migrate` would fail with it, too, and say which rows cause it
            self._reporter.report("stopped", refused=False, fatal=False, **_explained(error, self._reporter))
            steps = []
        for step in steps:
            yield from self._render(step)
        self.finished = True

    def _render(self, step: Any) -> Iterator[Any]:
        revision, failures = step.to_revisions[0], []
        upgrade, skipped = step.migration_fn, revision in self._request.skip
        opening: list[str] = []

        def run(**arguments: Any) -> None:
            opening.extend(self._opening(self.output.take()))
            if skipped:
                return
            try:
                upgrade(**arguments)
            except BaseException as error:  # noqa: BLE001 - a revision can raise anything; the others are rendered
                failures.append(error)

        step.migration_fn = run
        self._reporter.revision = revision
        self._reporter.report("started", revision=revision)
        yield step
        self._reporter.revision = None
        statements = [*opening, *self.output.take()]
        if failures:
            self._reporter.report("failed", revision=revision, **_explained(failures[0], self._reporter))
        elif not skipped:
            self._reporter.report("rendered", revision=revision, statements=statements)

    def _opening(self, written: list[str]) -> list[str]:
        """Leave out "-- Running upgrade", and the CREATE of a version table that exists but has no rows.

        Alembic's comment holds the revision's message, and a second line of that would not be a comment.
        """
        unwanted = ("-- Running ", *(["CREATE TABLE "] if self._request.has_table else []))
        return [text for text in written if not text.lstrip().startswith(unwanted)]


def _explained(error: BaseException, reporter: Reporter) -> dict[str, str | None]:
    """Return the error, the application's file and line, and what to know about it."""
    message = str(error) if isinstance(error, FenceRefusal | ConnectionAttempt) else describe(error)
    hint = ""
    if tries_to_connect(error):
        hint = NO_CONNECTION
    elif "MockConnection" in message or (isinstance(error, AttributeError) and "'NoneType'" in message):
        hint = NO_QUERY
    return {"message": message, "location": location_of(error, reporter.script_folders), "hint": hint}


def _verify_version_table(fence: Fence, options: dict[str, Any], request: RenderRequest) -> None:
    """Raise `FenceRefusal` if env.py names another version table than gate inspected; offline it may name none."""
    upgrade = request.upgrade
    schema, table = options.get("version_table_schema"), options.get("version_table")
    location = Location(request.database, True, schema or upgrade.schema, table or upgrade.version_table)  # noqa: FBT003
    if location not in fence.locations:
        fence.locations.append(location)
    fence.verify()


def _offline_options(options: dict[str, Any], request: RenderRequest, output: _Statements) -> dict[str, Any]:
    """Return the arguments of `context.configure` that give complete SQL for the inspected database.

    Without literal_binds, Alembic writes placeholders for values; with the paramstyle of a driver such as psycopg it
    doubles each percent sign. Where the offline branch of env.py names no database, or another engine's (the URL in
    alembic.ini is often a placeholder), the dialect is the inspected database's.
    """
    options = {name: value for name, value in options.items() if name not in {"output_encoding", "starting_rev"}}
    options |= {"output_buffer": output, "literal_binds": True}
    options |= {"dialect_opts": {"paramstyle": "named", **(options.get("dialect_opts") or {})}}
    options["version_table"] = options.get("version_table") or request.upgrade.version_table
    options["version_table_schema"] = options.get("version_table_schema") or request.configured_schema or None
    dialect = _dialect_name(f"{request.engine}://")
    named = options.get("url") or (options.get("dialect_name") and f"{options['dialect_name']}://")
    if options.get("connection") is None and _dialect_name(named) != dialect:
        options |= {"url": None, "dialect_name": dialect}
    return options


def _dialect_name(url: Any) -> str | None:
    try:
        return str(make_url(url).get_dialect().name)
    except Exception:  # noqa: BLE001 - no URL, a placeholder, or the dialect of a package that is not installed
        return None


if __name__ == "__main__":
    main()
