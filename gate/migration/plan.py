"""The plan of an upgrade, and the request that gate passes to its child process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gate.image.alembic_config import Configuration

if TYPE_CHECKING:
    from gate.migration.progress import Progress


class Plan(NamedTuple):
    """The settings and arguments of an upgrade.

    `configuration`: the Alembic configuration; `version_table`: the name of the version table without its schema;
    `x`: the values of Alembic's option `-x`; `command`: GATE_UPGRADE_COMMAND in words, () = upgrade with Alembic's API;
    `timeout`: seconds for the whole upgrade, 0 = no limit; `locking`: false for GATE_LOCK=none; `dedicated`: whether
    MIGRATION_DATABASE_URL is set; `on_progress`: called when a revision starts, and every few seconds;
    `table_lock_timeout`: seconds that a statement may wait for a lock, 0 = no limit; `table_lock_retries`: how often an
    upgrade that lost a lock is tried again.
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


class UpgradeRequest(NamedTuple):
    """The request to `gate.migration.child.upgrade`.

    `ini`, `toml`, `section`: as in `Configuration`; `fence`, `tag`: as in `Lock`; `x`, `version_table`: as in `Plan`;
    `schema`: where gate found the version table under the lock, or where Alembic would create it, "" = it has none;
    `clock`: the descriptors of a `StatementClock`; `table_lock_timeout`: as in `Plan`.
    """

    ini: str
    toml: str
    section: str
    x: list[str]
    fence: str
    tag: str
    version_table: str
    schema: str
    clock: Sequence[int] = ()
    table_lock_timeout: float = 0

    def to_json(self) -> str:
        """Encode the request as a command-line argument; every user can read those, so it contains no URL."""
        return json.dumps(self._asdict())
