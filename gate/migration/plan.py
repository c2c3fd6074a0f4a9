"""The plan of an upgrade: what the settings and the arguments say about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gate.drift.comparison import Drift
from gate.drift.messages import deferred_text
from gate.errors import BadSettings
from gate.image.alembic_config import Configuration
from gate.image.revision_graph import ALL_HEADS, RevisionGraph
from gate.text import join_ids, short_name

if TYPE_CHECKING:
    from gate.migration.progress import Progress
    from gate.migration.template import Template


class Plan(NamedTuple):
    """The settings and arguments of an upgrade.

    `configuration`: the Alembic configuration; `version_table`: the name of the version table without its schema;
    `x`: the values of Alembic's option `-x`; `command`: GATE_UPGRADE_COMMAND in words, () = upgrade with Alembic's API;
    `timeout`: seconds for the whole upgrade, 0 = no limit; `locking`: false for GATE_LOCK=none; `dedicated`: whether
    MIGRATION_DATABASE_URL is set; `on_progress`: called when a revision starts, and every few seconds;
    `table_lock_timeout`: seconds that a statement may wait for a lock, 0 = no limit; `table_lock_retries`: how often an
    upgrade that lost a lock is tried again; `targets`: what to upgrade to, one address in Alembic's syntax or
    several ids; `post_deploy`: whether that includes the revisions that may wait until after the deployment.

    With GATE_SCHEMAS, `schema_argument`: the name under which env.py gets the schema by `-x`; `jobs`: how many schemas
    to upgrade at once; `first`: the one to upgrade before all others, None = none; `keep_going`: whether a failed
    schema leaves the others alone; `tenant`: the schema of this upgrade, "" = not one of GATE_SCHEMAS; `template`: the
    process to fork for it, None = start one; `dry_run`: run env.py without steps first.
    """

    configuration: Configuration
    version_table: str
    x: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = 0
    locking: bool = True
    dedicated: bool = False
    on_progress: Callable[[Progress], None] = lambda _: None
    table_lock_timeout: float = 0
    table_lock_retries: int = 0
    targets: tuple[str, ...] = (ALL_HEADS,)
    post_deploy: bool = False
    schema_argument: str = "schema"
    jobs: int = 1
    first: str | None = None
    keep_going: bool = False
    tenant: str = ""
    template: Template | None = None
    dry_run: bool = True

    def verify_first(self, schemas: Collection[str]) -> None:
        """Raise `BadSettings` if `first` is none of these schemas."""
        if self.first is not None and self.first not in schemas:
            raise BadSettings(
                f"--first names {short_name(self.first)}, which is none of the {len(schemas):,} schemas of "
                "GATE_SCHEMAS. Correct the name, or leave --first out. Nothing was applied."
            )

    def for_schema(self, name: str, on_progress: Callable[[Progress], None]) -> Plan:
        """Return the plan to upgrade one of GATE_SCHEMAS."""
        return self._replace(
            tenant=name,
            x=(*self.x, f"{self.schema_argument}={name}"),
            command=tuple(word.replace(SCHEMA_PLACEHOLDER, name) for word in self.command),
            on_progress=on_progress,
        )

    def planned(self, drift: Drift) -> Drift:
        """Return the drift with all revisions pending that this upgrade will apply."""
        return drift.including_deferred() if self.post_deploy else drift

    def with_target(self, drift: Drift) -> Plan:
        """Replace `{target}` in GATE_UPGRADE_COMMAND.

        Raises `BadSettings` if the command cannot apply what is required only.
        """
        if not self.command:
            return self
        if not any(TARGET_PLACEHOLDER in word for word in self.command):
            if drift.deferred and not self.post_deploy:
                raise BadSettings(
                    f"GATE_UPGRADE_COMMAND cannot leave out what may wait: {deferred_text(drift)}. {USE_PLACEHOLDER} "
                    "Nothing was applied."
                )
            return self
        target = self._only_target(drift)
        return self._replace(command=tuple(word.replace(TARGET_PLACEHOLDER, target) for word in self.command))

    def _only_target(self, drift: Drift) -> str:
        """Return the one revision to which `alembic upgrade` takes a database with this drift."""
        if len(self.targets) == 1:
            return self.targets[0]
        pending = [target for target in self.targets if target in drift.pending]
        if len(pending) > 1:
            raise BadSettings(
                f"This upgrade goes to {len(pending)} revisions ({join_ids(pending)}), and {TARGET_PLACEHOLDER} in "
                "GATE_UPGRADE_COMMAND names one. Unset GATE_UPGRADE_COMMAND, merge the branches, or set GATE_TARGET to "
                "one branch after the other. Nothing was applied."
            )
        return pending[0] if pending else self.targets[0]


TARGET_PLACEHOLDER = "{target}"
"""gate replaces it in GATE_UPGRADE_COMMAND by the revision to upgrade to."""

SCHEMA_PLACEHOLDER = "{schema}"
"""gate replaces it in GATE_UPGRADE_COMMAND by the schema to upgrade, one of GATE_SCHEMAS."""

USE_PLACEHOLDER = (
    f"Write {TARGET_PLACEHOLDER} where the command names the revision, as in `alembic upgrade {TARGET_PLACEHOLDER}`."
)


SECTION_PLACEHOLDER = "{section}"
"""gate replaces it in GATE_UPGRADE_COMMAND by the history to upgrade, where it guards several."""


def command_for(command: Sequence[str], section: str) -> tuple[str, ...]:
    """Return GATE_UPGRADE_COMMAND for one history; `section`: which, "" = there is only one.

    Raises `BadSettings` if the command cannot know which of several it upgrades: gate would run it for each.
    """
    if command and section and not any(SECTION_PLACEHOLDER in word for word in command):
        raise BadSettings(
            f"GATE_UPGRADE_COMMAND would run for each history, and does not name the one that it upgrades. Write "
            f"{SECTION_PLACEHOLDER} where the command names it, as in `alembic -n {SECTION_PLACEHOLDER} upgrade "
            "heads`, or give each history a gate of its own: gate run -n A --upgrade-command … -- gate run -n B "
            "--upgrade-command … -- CMD."
        )
    return tuple(word.replace(SECTION_PLACEHOLDER, section) if section else word for word in command)


def upgrade_targets(graph: RevisionGraph, *, post_deploy: bool) -> tuple[str, ...]:
    """Return what to upgrade to: GATE_TARGET as it is, unless some revisions on the way to it may wait."""
    if post_deploy or graph.expected == graph.targets:
        return (graph.target,)
    return graph.expected


def reject_fixed_command(command: Sequence[str], target: str) -> None:
    """Raise `BadSettings` for a command that cannot know GATE_TARGET."""
    if command and target != ALL_HEADS and not any(TARGET_PLACEHOLDER in word for word in command):
        raise BadSettings(f"GATE_UPGRADE_COMMAND does not name GATE_TARGET ({target}). {USE_PLACEHOLDER}")
