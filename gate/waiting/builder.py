"""Builds a waiting loop from a project, its settings and the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gate.database.engine import engine_of
from gate.drift.project import Project
from gate.errors import BadSettings
from gate.migration.plan import Plan, command_for, reject_fixed_command, upgrade_targets
from gate.readiness.placeholder import Placeholder
from gate.settings.arguments import Arguments
from gate.settings.settings import Decision, Policy, Settings
from gate.waiting.announcer import Announcer
from gate.waiting.backoff import Deadline
from gate.waiting.loop import WaitLoop
from gate.waiting.other_migrator import OtherMigrator
from gate.waiting.termination_log import TerminationLog

if TYPE_CHECKING:
    from gate.database.location import Database
    from gate.drift.inspector import Inspector
    from gate.migration.progress import Progress


DEFAULT_LOCK_TIMEOUT = {"migrate": 900.0, "run": 0.0, "wait": 0.0}
"""The default of GATE_MIGRATION_LOCK_TIMEOUT in seconds, 0 = no limit: replicas outlast a healthy long migration."""

ACTIVITY = {
    "run": "gate waits and does not start the server",
    "wait": "gate waits",
    "migrate": "gate waits",
}
STAY_ACTIVITY = "gate keeps running (GATE_ON_FAILURE=stay) and does not start the server"


def may_migrate(arguments: Arguments, settings: Settings) -> bool:
    """Whether the user lets this command migrate."""
    return arguments.command == "migrate" or (arguments.command == "run" and settings.run_migrations)


def migrate_policy(settings: Settings, *, keep_going: bool = False) -> Policy:
    """Return the policy of `gate migrate`, which does not wait for what is missing: only another image creates it."""
    return Policy(
        migrating=True,
        on_unknown=settings.on_unknown,
        on_unstamped=settings.on_unstamped,
        on_incomplete=Decision.REFUSE,
        post_deploy=settings.post_deploy,
        keep_going=keep_going,
    )


class LoopBuilder(NamedTuple):
    """Builds the `WaitLoop` of one attempt.

    `inspect_only`: an earlier attempt has failed, so gate may not migrate. `section`: the history, where gate guards
    several.
    """

    project: Project
    arguments: Arguments
    inspect_only: bool
    section: str = ""

    def build(
        self,
        placeholder: Placeholder,
        termination: TerminationLog,
        deadline: Deadline,
        on_progress: Callable[[Progress], None],
    ) -> WaitLoop:
        """Put the loop together; raises `BadSettings` if no database is named or this project cannot be migrated."""
        wanted = may_migrate(self.arguments, self.project.settings)
        migrating = wanted and not self.inspect_only
        inspector = self.project.inspector(migrating=wanted)
        return WaitLoop(
            policy=self._policy(migrating=migrating, wanted=wanted),
            inspector=inspector,
            server_inspector=self.project.inspector() if wanted and self.project.has_separate_server_url else None,
            announcer=self._announcer(termination),
            placeholder=placeholder,
            other_migrator=self._other_migrator(inspector),
            plan=self._plan(inspector, on_progress) if migrating else None,
            deadline=deadline,
            section=self.section,
        )

    def _policy(self, *, migrating: bool, wanted: bool) -> Policy:
        """In stay mode, wait instead of refusing; after a failed upgrade, wait until the database is stamped."""
        settings = self.project.settings
        if self.arguments.command == "migrate":
            return migrate_policy(settings, keep_going=self.arguments.keep_going)
        chosen = (settings.on_unknown, settings.on_unstamped, settings.on_incomplete)
        if not self.inspect_only:
            return Policy(migrating, *chosen, settings.post_deploy, self.arguments.keep_going)
        unknown, unstamped, incomplete = (Decision.WAIT if each is Decision.REFUSE else each for each in chosen)
        return Policy(migrating, unknown, Decision.WAIT if wanted else unstamped, incomplete)

    def _announcer(self, termination: TerminationLog) -> Announcer:
        activity = STAY_ACTIVITY if self.inspect_only else ACTIVITY[self.arguments.command]
        return Announcer(termination, activity, inspect_only=self.inspect_only)

    def _other_migrator(self, inspector: Inspector) -> OtherMigrator:
        settings = self.project.settings
        timeout = settings.migration_lock_timeout
        if timeout is None:
            timeout = DEFAULT_LOCK_TIMEOUT[self.arguments.command]

        def termination_statement(pid: int) -> str:
            return engine_of(inspector.database).sessions(inspector.table.key).termination_statement(pid)

        return OtherMigrator(termination_statement, timeout, settings.poll_max)

    def _plan(self, inspector: Inspector, on_progress: Callable[[Progress], None]) -> Plan:
        settings = self.project.settings
        reject_unmigratable(self.project, inspector.database)
        if self.arguments.first is not None and settings.schemas is None:
            raise BadSettings("--first names a schema, and GATE_SCHEMAS is not set. Set it, or leave --first out.")
        return Plan(
            self.project.configuration,
            self.project.table.table,
            self.arguments.x,
            command_for(settings.upgrade_command, self.section),
            settings.migration_timeout,
            settings.use_lock,
            dedicated=self.project.has_migration_url,
            on_progress=on_progress,
            targets=upgrade_targets(self.project.image.graph, post_deploy=settings.post_deploy),
            post_deploy=settings.post_deploy,
            table_lock_timeout=settings.table_lock_timeout,
            table_lock_retries=settings.table_lock_retries,
            schema_argument=settings.schema_argument,
            jobs=self.arguments.jobs,
            first=self.arguments.first,
            keep_going=self.arguments.keep_going,
        )


def reject_unmigratable(project: Project, database: Database) -> None:
    """Raise `BadSettings` if gate cannot migrate this project with these settings, before it connects."""
    configuration = project.configuration
    reject_fixed_command(project.settings.upgrade_command, project.settings.target)
    if configuration.databases:
        raise BadSettings(
            f"{configuration.ini} uses Alembic's multidb template (databases = {configuration.databases}). One run "
            "would migrate several databases, and gate locks only one. Give each database a section of its own, "
            "and name them all: gate -n SECTION -n SECTION."
        )
    if not project.settings.upgrade_command:
        _reject_libpq_address(database)


def _reject_libpq_address(database: Database) -> None:
    """Raise `BadSettings` for an address that only libpq reads, before Alembic fails with it."""
    if spelling := database.url().sqlalchemy_spelling:
        name = database.source.variable if database.source else "sqlalchemy.url of the Alembic configuration"
        raise BadSettings(
            f"{name} has an address that libpq reads and SQLAlchemy does not, so gate can check this database and "
            f"Alembic cannot migrate it. Write it as {spelling}, which both read."
        )
