"""The database: what its version table says.

Two statements on one connection: what the catalog knows of the table, then its rows; without a table, what else is
there. Who migrates is asked only while somebody does.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.database.lock import LockKey, Migrator
from gate.errors import DatabaseUnavailable

LOCK_WAIT_SQLSTATES = {"57014": "statement timeout", "55P03": "lock timeout"}
"""SQLSTATE of what ends a statement that waits for a lock."""


class VersionTableLocked(DatabaseUnavailable):
    """A migrator is at work, and the version table cannot be read: an ALTER TABLE of it locks it for that long."""

    def __init__(self, message: str, migrator: Migrator, why: str) -> None:
        super().__init__(message)
        self.migrator, self.why = migrator, why
        self.finding = migrator.revision


def lock_wait_timeout(error: Exception) -> str:
    """Which limit ended a statement that waited, "" if it ended otherwise; whatever driver and library it came by."""
    driver = getattr(error, "orig", None) or error
    return LOCK_WAIT_SQLSTATES.get(getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None) or "", "")


class Stamp(NamedTuple):
    """What one look at a database saw. `rows` None = no version table; `schema` = where it is or would be."""

    database: str
    schema: str
    rows: tuple[str, ...] | None
    other_tables: bool = False
    standby: bool = False
    migrator: Migrator | None = None


MAX_ROWS = 1000
MAX_ROW_LENGTH = 255
"""Bounds for what a hostile or foreign table may make gate read; Alembic's column holds 32 characters. A longer row is
told by its beginning and three dots, so that it cannot be taken for the beginning of an id."""


class TableName(NamedTuple):
    """The version table as configured. `schema` None = wherever the role's search_path finds it.

    `computed`: env.py computes a name or a schema, and no setting says what comes out.
    """

    table: str = "alembic_version"
    schema: str | None = None
    computed: bool = False

    @property
    def key(self) -> LockKey:
        """The lock under which this table is migrated."""
        return LockKey.of(self.schema, self.table)
