"""The upgrade with Alembic's API, in a process of its own: `python -m gate.migration.child.upgrade REPORTS REQUEST`.

It reports to the descriptor REPORTS, one JSON object per line. REQUEST is an `UpgradeRequest` in JSON. Before the first
revision it verifies, on the migration's own connection, that env.py upgrades the one version table that gate inspected,
in the database where gate holds the lock. For that env.py runs twice: once without steps, then with them.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from gate.migration.child.dry_run import Output, run_forked
from gate.migration.child.fence import Fence
from gate.migration.child.lock_timeout import limit_lock_waits
from gate.migration.child.reporter import Reporter
from gate.migration.child.session_tags import (
    fence_transactions,
    is_autocommit,
    report_autocommit,
    report_closed,
    report_commits,
    report_opening,
    tag_sessions,
    watch_connections,
)
from gate.migration.child.statement_clock import StatementClock
from gate.migration.upgrade_request import UpgradeRequest


def main() -> None:
    """Upgrade to the targets; report an error and exit with code 1 if that fails."""
    reporter = Reporter(int(sys.argv[1]))
    if not run(UpgradeRequest(**json.loads(sys.argv[2])), reporter):
        sys.exit(1)


def run(request: UpgradeRequest, reporter: Reporter, directory: ScriptDirectory | None = None) -> bool:
    """Upgrade to the targets and return whether that succeeded; an error is reported.

    `directory`: the scripts, if they are loaded already.
    """
    sys.argv[:] = ["alembic", "upgrade", *request.targets]  # for an env.py that reads sys.argv
    try:
        watch_connections(StatementClock(*request.clock))
        tag_sessions(request.tag, reporter.report_connected, lambda: reporter.report("pooled"))
        fence_transactions(request.fence)
        report_autocommit(reporter.report_autocommit)
        report_commits(reporter.report_commit)
        report_closed(reporter.record_closed)
        report_opening(reporter.record_opened, reporter.record_unopened)
        limit_lock_waits(request.table_lock_timeout)
        succeeded = upgrade(request, reporter, directory)
    except BaseException as error:  # noqa: BLE001 - a migration can raise anything, SystemExit too; all is reported
        reporter.report_failure(error)
        succeeded = False
    if succeeded:
        reporter.report("done")
    return succeeded


def upgrade(request: UpgradeRequest, reporter: Reporter, directory: ScriptDirectory | None = None) -> bool:
    """Do what `alembic upgrade TARGET` does, after a dry run of env.py; return false if that has reported a failure."""
    config = Config(
        request.ini, toml_file=request.toml, ini_section=request.section, cmd_opts=command_line_options(request)
    )
    directory = directory or ScriptDirectory.from_config(config)
    reporter.script_folders = [str(directory.dir), *map(str, directory._version_locations)]  # noqa: SLF001 - resolved
    if request.dry_run:
        reporter.report("verifying")
        if not run_forked(lambda output: _verify(request, config, directory, output, reporter), reporter):
            return False
        reporter.report("verified")
    reporter.verified = True
    _upgrade(request, config, directory, reporter)
    return True


def _verify(
    request: UpgradeRequest, config: Config, directory: ScriptDirectory, output: Output, reporter: Reporter
) -> None:
    """Do the dry run, and report what it has imported where gate prepares for the upgrades of other schemas."""
    try:
        _verify_env_py(request, config, directory, output)
    finally:
        if request.report_imports:
            reporter.report("imported", modules=[*sys.modules], path=sys.path)


def _verify_env_py(request: UpgradeRequest, config: Config, directory: ScriptDirectory, output: Output) -> None:
    """Run env.py without any step, as `alembic current` does, and verify each version table that it configures."""
    fence = Fence(request)

    def no_steps(_: Any, context: MigrationContext) -> Iterator[Any]:
        fence.record(context)
        return iter(())

    target: Any = target_of(request)
    environment = EnvironmentContext(
        config, directory, fn=no_steps, as_sql=False, destination_rev=target, tag=None, dont_mutate=True
    )

    def run_migrations(**_: Any) -> None:
        fence.record(environment.get_context())
        output.set_aside()  # the second run prints the rest

    try:
        _run_env_py(environment, directory, run_migrations)
    except (Exception, SystemExit) as error:
        # What follows context.run_migrations() in env.py may need the tables that no step has created.
        if not fence.locations or _is_connection_error(error):
            raise
    fence.verify()


def _is_connection_error(error: BaseException) -> bool:
    """Whether a connection could not be opened, so that a further database of this run stays unknown."""
    return isinstance(error, OSError) or (isinstance(error, DBAPIError) and error.statement is None)


def _upgrade(request: UpgradeRequest, config: Config, directory: ScriptDirectory, reporter: Reporter) -> None:
    """Do what `alembic.command.upgrade` does, and report each revision."""
    fence, output = Fence(request), Output()
    target: Any = target_of(request)
    verified: list[MigrationContext] = []

    def verify(context: MigrationContext) -> None:
        fence.record(context)
        fence.verify()
        verified.append(context)

    def steps(heads: Any, context: MigrationContext) -> Iterator[Any]:
        if context not in verified:  # env.py called MigrationContext.run_migrations itself
            verify(context)
        upgrades = directory._upgrade_revs(target, heads)  # noqa: SLF001 - as alembic.command.upgrade does
        return reporter.report_steps(list(upgrades))

    environment = EnvironmentContext(config, directory, fn=steps, as_sql=False, destination_rev=target, tag=None)
    run_steps = environment.run_migrations

    def run_migrations(**arguments: Any) -> None:
        output.restore()
        context = environment.get_context()
        if context.connection is not None and is_autocommit(context.connection):
            reporter.report("autocommit", revision="")
        verify(context)
        run_steps(**arguments)

    if request.dry_run:
        output.set_aside()  # the first run has printed the beginning
    try:
        _run_env_py(environment, directory, run_migrations)
    except BaseException:
        output.restore(show=True)
        raise
    output.restore()
    if fence.refusal:
        raise fence.refusal


def _run_env_py(
    environment: EnvironmentContext, directory: ScriptDirectory, run_migrations: Callable[..., None]
) -> None:
    """Run env.py with another `context.run_migrations`.

    `alembic.context` is a proxy for the methods of EnvironmentContext itself, so a subclass's would not be called.
    """
    environment.run_migrations = run_migrations  # type: ignore[method-assign]
    with environment:
        directory.run_env()


def target_of(request: UpgradeRequest) -> str | tuple[str, ...]:
    """What to upgrade to, as Alembic's API takes it: unlike its command line, several revisions, too."""
    return request.targets[0] if len(request.targets) == 1 else tuple(request.targets)


def command_line_options(request: UpgradeRequest, *, revision: str = "", sql: bool = False) -> Namespace:
    """The parsed command line of `alembic upgrade`, which env.py can read (`context.get_x_argument`)."""
    return Namespace(
        config=[request.ini], name=request.section, x=request.x or None, raiseerr=False, quiet=False, verbose=False,
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]), revision=revision or " ".join(request.targets), sql=sql,
        tag=None,
    )  # fmt: skip


if __name__ == "__main__":
    main()
