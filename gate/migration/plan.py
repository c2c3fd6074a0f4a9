"""How this image migrates: what settings and flags say of an upgrade."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gate.image.alembic_config import Configuration

if TYPE_CHECKING:
    from gate.migration.progress import Progress


class UpgradeRequest(NamedTuple):
    """What a migrating gate asks of its upgrading child.

    `fence`, `mark`: as `Lock` has them; `table`: the version table's name.
    """

    ini: str
    toml: str
    section: str
    x: list[str]
    fence: str
    tag: str
    table: str

    def to_json(self) -> str:
        """As the child's argument; it holds no URL, since every user of a machine can read it."""
        return json.dumps(self._asdict())


class Plan(NamedTuple):
    """How to upgrade.

    `table` = the version table's name; `command` = what upgrades in place of Alembic's API; `dedicated` =
    MIGRATION_DATABASE_URL is set.
    """

    configuration: Configuration
    table: str
    x: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = 0
    locking: bool = True
    dedicated: bool = False
    on_progress: Callable[[Progress], None] = lambda _: None
