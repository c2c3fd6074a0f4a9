"""The stamp of a database: the name of its version table, and what an inspection reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gate.database.lock import LockKey, Migrator
from gate.database.missing import Shortfall
from gate.errors import DatabaseUnavailable
from gate.image.env_py import VersionTable
from gate.image.revision_graph import MAX_ID_LENGTH

MAX_ROWS = 1000
"""The number of rows that gate reads: the table may be another application's, or hostile."""

MAX_ROW_LENGTH = MAX_ID_LENGTH
"""Characters of a row that gate reads; Alembic's column holds 32. Three dots follow a row that was cut, so that it is
never taken for a partial revision id."""

MAX_OTHER_TABLES = 20
"""The number of other tables with a column version_num that gate reads where it cannot be sure of the version table."""

LOCK_WAIT_SQLSTATES = {"57014": "statement timeout", "55P03": "lock timeout"}
"""SQLSTATE -> the time-out that ended a statement which waited for a lock."""


class TableName(NamedTuple):
    """The version table as configured. `schema` None = wherever the role's search_path finds it.

    `table_is_set`, `schema_is_set`: whether a setting of gate names it; `env_py`: what env.py says about it.
    """

    table: str = "alembic_version"
    schema: str | None = None
    table_is_set: bool = False
    schema_is_set: bool = False
    env_py: VersionTable = VersionTable()

    @property
    def key(self) -> LockKey:
        """The lock under which this table is migrated."""
        return LockKey.of(self.schema, self.table)

    @property
    def table_is_uncertain(self) -> bool:
        """Whether env.py may name another table: it computes the name, or its text does not show it."""
        return not self.table_is_set and bool(self.env_py.computed_table or self.env_py.unseen)

    @property
    def schema_is_uncertain(self) -> bool:
        """Whether env.py may name another schema."""
        return not self.schema_is_set and bool(self.env_py.computed_schema or self.env_py.unseen)

    @property
    def is_computed(self) -> bool:
        """Whether env.py computes the table or the schema, and no setting names it: the default is only a guess."""
        computed_table = self.env_py.computed_table and not self.table_is_set
        computed_schema = self.env_py.computed_schema and not self.schema_is_set
        return bool(computed_table or computed_schema)

    @property
    def is_uncertain(self) -> bool:
        """Whether another table may be the version table although this one exists."""
        return self.table_is_uncertain or self.schema_is_uncertain


class OtherTable(NamedTuple):
    """Another table with a column version_num; `rows`: None if this role may not read them, or a policy hides some."""

    schema: str
    table: str
    rows: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The table with its schema, for messages."""
        return f"{self.schema}.{self.table}" if self.schema else self.table


class Namesake(NamedTuple):
    """A table with the configured name that the role's search_path does not lead to.

    `usable`, `readable`: whether the role may use the schema, and read the table; `on_path`: whether the schema is on
    the search_path, so that it is not usable.
    """

    schema: str
    usable: bool
    readable: bool
    on_path: bool


class Stamp(NamedTuple):
    """What one inspection of a database read.

    `schema`: the schema of the version table, or the one where it would be; `rows`: its rows, None if there is no
    version table; `other_tables`: whether that schema has any other table; `standby`: whether the server is one;
    `migrator`: the holder of the migration lock; `role`: who inspected, "" if that is not known;
    `other_version_tables`: what else may be the version table, read only without one or where env.py is uncertain;
    `schema_exists`: whether the schema does or, if none is configured, any on the search_path, known only without a
    version table; `search_path`: of the role, and `foreign_search_path`: the one that another client of a pooler left
    on this connection instead, "" if none did; `namesakes`: the first few, read only without a version table;
    `shortfall`: what is missing of what the code needs, None if that was not searched for.
    """

    database: str
    schema: str
    rows: tuple[str, ...] | None
    other_tables: bool = False
    standby: bool = False
    migrator: Migrator | None = None
    role: str = ""
    other_version_tables: tuple[OtherTable, ...] = ()
    schema_exists: bool = True
    search_path: str = ""
    foreign_search_path: str = ""
    namesakes: tuple[Namesake, ...] = ()
    shortfall: Shortfall | None = None


class VersionTableLocked(DatabaseUnavailable):
    """The version table cannot be read while a migration has locked it, with an ALTER TABLE for example.

    `migrator`: who is migrating; `reason`: the time-out that ended the statement.
    """

    def __init__(self, message: str, migrator: Migrator, reason: str) -> None:
        super().__init__(message)
        self.migrator, self.reason = migrator, reason
        self.topic = migrator.revision


def stamped_rows(rows: Sequence[str | None], name: str, database: str) -> tuple[str, ...]:
    """Return the rows of the version table `name`.

    Raises `DatabaseUnavailable` for a row without a revision: Alembic takes NULL for a database without any revision.
    """
    if not all(rows):
        raise DatabaseUnavailable(
            f"The version table {name} of database {database} holds a row without a revision (NULL or an empty text), "
            "which Alembic never writes, so the revision of the schema is unknown. Delete that row (DELETE FROM "
            f"{name} WHERE version_num IS NULL OR version_num = ''), and if no row remains, record the revision with "
            "`alembic stamp REVISION`."
        )
    return tuple(row for row in rows if row)


def lock_wait_timeout(error: Exception) -> str:
    """Return the time-out that ended a statement, "" if another error did.

    `error`: from psycopg, psycopg2 or asyncpg, or SQLAlchemy's wrapper of it.
    """
    return LOCK_WAIT_SQLSTATES.get(sqlstate_of(error), "")


def sqlstate_of(error: Exception) -> str:
    """Return the SQLSTATE of an error from psycopg, psycopg2 or asyncpg, or of SQLAlchemy's wrapper; "" without one."""
    driver_error = getattr(error, "orig", None) or error
    return getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None) or ""
