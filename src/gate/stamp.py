"""The database: what its version table says, read through the catalog.

Two statements on one connection. The first asks the catalog (never the table), so that neither a missing table
nor a missing right raises, and a caller's transaction is never poisoned; the second reads the rows only where
the first saw that it may. Texts of SQL are made here, so that any connection can run them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gate.errors import BadSettings, DatabaseUnavailable
from gate.migrator import LOCK_CLASS, LockKey, Migrator, VersionTableLocked, waited_in_vain
from gate.sql_text import identifier, literal

MOST_ROWS = 1000
LONGEST_ROW = 255
"""Bounds for what a hostile or foreign table may make gate read; Alembic's column holds 32 characters. A longer row is
told by its beginning and three dots, so that it cannot be taken for the beginning of an id."""

MOST_SCHEMAS = 5
"""Schemas that a complaint names; where each tenant has one, there are thousands."""

TABLES = "('r','p','v','m','f')"
"""What may be a version table: pg_class.relkind of tables, partitioned and foreign ones, and views."""

Run = Callable[[str], Sequence[Any] | None]
"""Runs one statement without parameters and gives its first row."""


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


class Stamp(NamedTuple):
    """What one look at a database saw. `rows` None = no version table; `schema` = where it is or would be."""

    database: str
    schema: str
    rows: tuple[str, ...] | None
    other_tables: bool = False
    standby: bool = False
    migrator: Migrator | None = None


class Catalog(NamedTuple):
    """The row of `catalog_statement`, in its order."""

    database: str
    role: str
    current_schema: str | None
    standby: bool
    schema: str | None
    usable: bool | None
    has_column: bool | None
    readable: bool | None
    elsewhere: str | None
    other_tables: bool | None
    lock_pid: int | None
    lock_name: str | None


def catalog_statement(name: TableName) -> str:
    """One statement that finds the version table, what else is there, and who holds the migration lock."""
    table, schema = literal(name.table), literal(name.schema)
    wanted = (
        f"to_regclass(quote_ident({table}))"
        if name.schema is None
        else "(SELECT w.oid FROM pg_catalog.pg_class w JOIN pg_catalog.pg_namespace v ON v.oid = w.relnamespace"
        f" WHERE w.relname = {table} AND v.nspname = {schema} AND w.relkind IN {TABLES})"
    )
    return f"""\
SELECT current_database()::text, current_user::text, current_schema()::text, pg_is_in_recovery(),
  n.nspname::text, has_schema_privilege(n.oid, 'USAGE'), a.attnum IS NOT NULL,
  CASE WHEN a.attnum IS NOT NULL THEN has_column_privilege(c.oid, a.attnum, 'SELECT') END,
  CASE WHEN c.oid IS NULL AND {schema} IS NULL THEN (
    SELECT string_agg(g.name, ', ') FROM (
      SELECT f.nspname::text AS name FROM pg_catalog.pg_class e
      JOIN pg_catalog.pg_namespace f ON f.oid = e.relnamespace
      WHERE e.relname = {table} AND e.relkind IN {TABLES}
        AND f.nspname NOT IN ('pg_catalog', 'information_schema') AND f.nspname !~ '^pg_(toast|temp)'
      ORDER BY 1 LIMIT {MOST_SCHEMAS}) g) END,
  CASE WHEN c.oid IS NULL THEN EXISTS (
    SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace p ON p.oid = o.relnamespace
    WHERE p.nspname = coalesce({schema}, current_schema()::text) AND o.relkind IN ('r','p','f') AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = o.oid AND d.deptype = 'e')) END,
  h.pid, h.application_name
FROM (SELECT {wanted}::oid AS oid) t
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN {TABLES}
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num' AND NOT a.attisdropped
LEFT JOIN ({holder_statement(name.key)} LIMIT 1) h ON true"""


def holder_statement(key: LockKey) -> str:
    """Who holds the lock in this database: pg_locks and application_name are readable for every role."""
    return f"""\
SELECT l.pid, s.application_name FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = {LOCK_CLASS} AND l.objid = {key.number} AND l.objsubid = 2
  AND l.granted AND l.database = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = current_database())"""


def rows_statement(schema: str, table: str) -> str:
    """The rows of a version table that is known to exist and to be readable, as one array."""
    return (
        f"SELECT array_agg(CASE WHEN length(r.v) > {LONGEST_ROW} THEN left(r.v, {LONGEST_ROW}) || '...' ELSE r.v END)"
        f" FROM (SELECT coalesce(version_num::text, '') AS v FROM {identifier(schema)}.{identifier(table)}"
        f" LIMIT {MOST_ROWS}) r"
    )


def read(run: Run, name: TableName) -> Stamp:
    """Look once, by whatever runs a statement.

    Raises `DatabaseUnavailable` for a table that this role may not see or read, naming it and the GRANT;
    `BadSettings` where env.py computes the table's name and the default one is not there.
    """
    row = run(catalog_statement(name))
    assert row
    found = Catalog(*row)
    migrator = None if found.lock_pid is None else Migrator.parse(found.lock_name or "", name.key, found.lock_pid)
    rows = None
    if found.schema is None:
        _refuse_out_of_sight(found, name)
    else:
        _refuse_unreadable(found, name)
        rows = _rows(run, found, name, migrator)
    schema = found.schema or name.schema or found.current_schema or ""
    return Stamp(found.database, schema, rows, bool(found.other_tables), found.standby, migrator)


def _rows(run: Run, found: Catalog, name: TableName, migrator: Migrator | None) -> tuple[str, ...]:
    assert found.schema is not None
    try:
        row = run(rows_statement(found.schema, name.table))
    except Exception as error:
        why = waited_in_vain(error)
        if migrator is None or not why:
            raise
        raise VersionTableLocked(
            f"The version table {name.table} of database {found.database} cannot be read, for a migration may hold it "
            f"locked. Migrating now: {migrator}. Nothing to do but wait for it.",
            migrator,
            why,
        ) from None
    return tuple((row or [None])[0] or ())


def _refuse_out_of_sight(found: Catalog, name: TableName) -> None:
    if name.computed:
        raise BadSettings(
            f"env.py computes the version table's name or schema, and there is no {name.table} in database "
            f"{found.database}; tell gate with GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
        )
    if found.elsewhere:
        raise DatabaseUnavailable(
            f"Role {found.role} sees no table {name.table} in database {found.database}, but one exists in "
            f"schema {found.elsewhere}, which is not usable on its search_path. If that is this application's: "
            f"GRANT USAGE ON SCHEMA {found.elsewhere} TO {found.role} and GRANT SELECT on the table, or put the "
            "schema on the search_path; else set GATE_VERSION_TABLE_SCHEMA to the schema that gate shall look in."
        )
    if name.schema is None and found.current_schema is None:
        raise DatabaseUnavailable(
            f"The search_path of role {found.role} names no schema that it may use in database {found.database}: "
            "GRANT USAGE ON SCHEMA, or correct the search_path."
        )


def _refuse_unreadable(found: Catalog, name: TableName) -> None:
    table = f"{found.schema}.{name.table}"
    if not found.usable:
        raise DatabaseUnavailable(
            f"Role {found.role} may not see the version table {table} of database {found.database}: "
            f"GRANT USAGE ON SCHEMA {found.schema} TO {found.role}."
        )
    if not found.has_column:
        raise DatabaseUnavailable(
            f"The table {table} of database {found.database} has no column version_num, so it is not Alembic's; "
            "set GATE_VERSION_TABLE or GATE_VERSION_TABLE_SCHEMA to the right one."
        )
    if not found.readable:
        raise DatabaseUnavailable(
            f"Role {found.role} may not read the version table {table} of database {found.database}: "
            f"GRANT SELECT ON {table} TO {found.role}."
        )
