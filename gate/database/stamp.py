"""The stamp of a database: the name of its version table, and what an inspection reads."""

from __future__ import annotations

from typing import NamedTuple

from gate.database.lock import LockKey, Migrator
from gate.errors import DatabaseUnavailable

MAX_ROWS = 1000
"""The number of rows that gate reads: the table may be another application's, or hostile."""

MAX_ROW_LENGTH = 255
"""Characters of a row that gate reads; Alembic's column holds 32. Three dots follow a row that was cut, so that it is
never taken for a partial revision id."""

LOCK_WAIT_SQLSTATES = {"57014": "statement timeout", "55P03": "lock timeout"}
"""SQLSTATE -> the time-out that ended a statement which waited for a lock."""


class TableName(NamedTuple):
    """The version table as configured. `schema` None = wherever the role's search_path finds it.

    `computed`: env.py computes the name or the schema, and no setting names it.
    """

    table: str = "alembic_version"
    schema: str | None = None
    computed: bool = False

    @property
    def key(self) -> LockKey:
        """The lock under which this table is migrated."""
        return LockKey.of(self.schema, self.table)


class Stamp(NamedTuple):
    """What one inspection of a database read.

    `schema`: the schema of the version table, or the one where it would be; `rows`: its rows, None if there is no
    version table; `other_tables`: whether that schema has any other table; `standby`: whether the server is one;
    `migrator`: the holder of the migration lock.
    """

    database: str
    schema: str
    rows: tuple[str, ...] | None
    other_tables: bool = False
    standby: bool = False
    migrator: Migrator | None = None


class VersionTableLocked(DatabaseUnavailable):
    """The version table cannot be read while a migration has locked it, with an ALTER TABLE for example.

    `migrator`: who is migrating; `reason`: the time-out that ended the statement.
    """

    def __init__(self, message: str, migrator: Migrator, reason: str) -> None:
        super().__init__(message)
        self.migrator, self.reason = migrator, reason
        self.finding = migrator.revision


def lock_wait_timeout(error: Exception) -> str:
    """Return the time-out that ended a statement, "" if another error did.

    `error`: from psycopg, psycopg2 or asyncpg, or SQLAlchemy's wrapper of it.
    """
    driver_error = getattr(error, "orig", None) or error
    sqlstate = getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    return LOCK_WAIT_SQLSTATES.get(sqlstate or "", "")
