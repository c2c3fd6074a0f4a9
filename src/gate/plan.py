"""How this image migrates: what settings and flags say of an upgrade."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gate.configuration import Configuration

if TYPE_CHECKING:
    from gate.progress import Progress


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
