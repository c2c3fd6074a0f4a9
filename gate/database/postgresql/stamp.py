"""Read the stamp from PostgreSQL, with statements that any kind of connection can run.

The catalog is queried first and the version table only if it exists and may be read, so no statement fails for a
missing table or privilege: an error would abort the transaction that a caller's connection is in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.database.location import Database
from gate.database.lock import LOCK_CLASS, LockKey, Migrator
from gate.database.postgresql.connection import explained
from gate.database.postgresql.sql import identifier, literal
from gate.database.stamp import MAX_ROW_LENGTH, MAX_ROWS, Stamp, TableName, VersionTableLocked, lock_wait_timeout
from gate.errors import BadSettings, DatabaseUnavailable

if TYPE_CHECKING:
    from gate.database.postgresql.connection import Connection


SERVER_TIMEOUT_MARGIN = 0.2
"""Seconds by which statement_timeout ends before the inspection: only the server knows what a statement waited for."""

MIN_SERVER_TIMEOUT = 0.05
"""Seconds of statement_timeout, however late it is: 0 would disable it."""

MAX_SCHEMAS = 5
"""The number of schemas that an error message names; with one for each tenant, there are thousands."""

TABLE_KINDS = "('r','p','v','m','f')"
"""pg_class.relkind of what may be a version table: tables, partitioned and foreign tables, and views."""

Run = Callable[[str], Sequence[Any] | None]
"""Runs one statement without parameters and returns its first row."""


class Catalog(NamedTuple):
    """The row of `_catalog_statement`, in its order.

    `schema`: of the version table, None if none was found; `usable`, `has_column`, `readable`: whether this role may
    use that schema, whether the table has a column version_num, and whether this role may read it; `other_schemas`:
    where else such a table exists; `other_tables`: whether the schema of the version table has any other table.
    """

    database: str
    role: str
    current_schema: str | None
    standby: bool
    schema: str | None
    usable: bool | None
    has_column: bool | None
    readable: bool | None
    other_schemas: str | None
    other_tables: bool | None
    lock_pid: int | None


def read_through_psycopg(connection: Connection, table: TableName, database: Database, deadline: float) -> Stamp:
    """Read the stamp through psycopg, with a statement_timeout for each statement.

    `deadline`: in seconds of the monotonic clock. Time-out and statement are one message of the simple query protocol,
    which leaves no snapshot behind (hazards.md 7). Raises what `read_stamp` raises.
    """

    def run(statement: str) -> Sequence[Any] | None:
        left = deadline - SERVER_TIMEOUT_MARGIN - time.monotonic()
        milliseconds = round(1000 * max(MIN_SERVER_TIMEOUT, min(database.query_timeout, left)))
        cursor = connection.execute(f"SELECT set_config('statement_timeout', '{milliseconds}', true); {statement}")
        cursor.nextset()
        return cursor.fetchone()

    with explained(database):
        return read_stamp(run, table)


def read_stamp(run: Run, table: TableName) -> Stamp:
    """Read the stamp of the database, and who is migrating it.

    Raises `DatabaseUnavailable` for a table that this role may not use or read, with the GRANT; `VersionTableLocked` if
    a migration has locked it; `BadSettings` if env.py computes the name of the table and the default one is missing.
    """
    catalog = _read_catalog(run, table)
    migrator = None if catalog.lock_pid is None else _read_migrator(run, table.key, catalog.lock_pid)
    rows = None
    if catalog.schema is None:
        _reject_hidden(catalog, table)
    else:
        _reject_unreadable(catalog, table)
        rows = _read_rows(run, catalog, table, migrator)
    schema = catalog.schema or table.schema or catalog.current_schema or ""
    return Stamp(catalog.database, schema, rows, bool(catalog.other_tables), catalog.standby, migrator)


def _read_catalog(run: Run, table: TableName) -> Catalog:
    catalog = _query_catalog(run, _catalog_statement(table))
    if catalog.schema is not None:
        return catalog
    # The second row replaces the first: the version table may have been created in between.
    return _query_catalog(run, _catalog_statement(table, others=True))


def _query_catalog(run: Run, statement: str) -> Catalog:
    row = run(statement)
    assert row
    return Catalog(*row)


def _read_migrator(run: Run, key: LockKey, pid: int) -> Migrator:
    """Read the name of the lock's holder, which may have ended by now."""
    [name] = run(_name_statement(pid)) or [None]
    return Migrator.parse(name or "", key, pid)


def _reject_hidden(catalog: Catalog, table: TableName) -> None:
    """Raise unless the version table is certainly missing."""
    if table.computed:
        raise BadSettings(
            f"env.py computes the name or the schema of the version table, and there is no {table.table} in database "
            f"{catalog.database}: set GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
        )
    if catalog.other_schemas:
        raise DatabaseUnavailable(
            f"Role {catalog.role} finds no table {table.table} in database {catalog.database}, but schema "
            f"{catalog.other_schemas} has one and is not usable on the search_path. If that table belongs to this "
            f"application, GRANT USAGE ON SCHEMA {catalog.other_schemas} TO {catalog.role} and GRANT SELECT on the "
            "table, or add the schema to the search_path. Otherwise set GATE_VERSION_TABLE_SCHEMA to the schema of "
            "this application."
        )
    if table.schema is None and catalog.current_schema is None:
        raise DatabaseUnavailable(
            f"The search_path of role {catalog.role} contains no schema that it may use in database "
            f"{catalog.database}: GRANT USAGE ON SCHEMA, or correct the search_path."
        )


def _reject_unreadable(catalog: Catalog, table: TableName) -> None:
    name = f"{catalog.schema}.{table.table}"
    if not catalog.usable:
        raise DatabaseUnavailable(
            f"Role {catalog.role} may not use the schema of the version table {name} in database {catalog.database}: "
            f"GRANT USAGE ON SCHEMA {catalog.schema} TO {catalog.role}."
        )
    if not catalog.has_column:
        raise DatabaseUnavailable(
            f"The table {name} of database {catalog.database} has no column version_num, so Alembic did not create it: "
            "set GATE_VERSION_TABLE or GATE_VERSION_TABLE_SCHEMA to the version table."
        )
    if not catalog.readable:
        raise DatabaseUnavailable(
            f"Role {catalog.role} may not read the version table {name} of database {catalog.database}: "
            f"GRANT SELECT ON {name} TO {catalog.role}."
        )


def _read_rows(run: Run, catalog: Catalog, table: TableName, migrator: Migrator | None) -> tuple[str, ...]:
    assert catalog.schema is not None
    try:
        row = run(_rows_statement(catalog.schema, table.table))
    except Exception as error:
        reason = lock_wait_timeout(error)
        if migrator is None or not reason:
            raise
        raise VersionTableLocked(
            f"The version table {table.table} of database {catalog.database} cannot be read: a migration has probably "
            f"locked it. Migrating now: {migrator}. Wait until it has finished.",
            migrator,
            reason,
        ) from None
    return tuple((row or [None])[0] or ())


def _catalog_statement(table: TableName, *, others: bool = False) -> str:
    """Find the version table and the holder of the migration lock.

    `others`: search for other tables, too. That is needed only without a version table, and doubles the planning time.
    """
    name, schema = literal(table.table), literal(table.schema)
    oid = (
        f"to_regclass(quote_ident({name}))"
        if table.schema is None
        else "(SELECT w.oid FROM pg_catalog.pg_class w JOIN pg_catalog.pg_namespace v ON v.oid = w.relnamespace"
        f" WHERE w.relname = {name} AND v.nspname = {schema} AND w.relkind IN {TABLE_KINDS})"
    )
    other_schemas, other_tables = _search_expressions(name, schema) if others else ("NULL::text", "NULL::bool")
    return f"""\
SELECT current_database()::text, current_user::text, current_schema()::text, pg_is_in_recovery(),
  n.nspname::text, has_schema_privilege(n.oid, 'USAGE'), a.attnum IS NOT NULL,
  CASE WHEN a.attnum IS NOT NULL THEN has_column_privilege(c.oid, a.attnum, 'SELECT') END,
  {other_schemas}, {other_tables}, l.pid
FROM (SELECT {oid}::oid AS oid) t
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN {TABLE_KINDS}
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num' AND NOT a.attisdropped
LEFT JOIN ({_holder_statement(table.key)} LIMIT 1) l ON true"""


def _search_expressions(name: str, schema: str) -> tuple[str, str]:
    """Two expressions: the other schemas with a table of this name, and whether this schema has any other table."""
    other_schemas = f"""\
  CASE WHEN c.oid IS NULL AND {schema} IS NULL THEN (
    SELECT string_agg(g.name, ', ') FROM (
      SELECT f.nspname::text AS name FROM pg_catalog.pg_class e
      JOIN pg_catalog.pg_namespace f ON f.oid = e.relnamespace
      WHERE e.relname = {name} AND e.relkind IN {TABLE_KINDS}
        AND f.nspname NOT IN ('pg_catalog', 'information_schema') AND f.nspname !~ '^pg_(toast|temp)'
      ORDER BY 1 LIMIT {MAX_SCHEMAS}) g) END"""
    # Tables that belong to an extension do not count (pg_depend.deptype 'e').
    other_tables = f"""\
  CASE WHEN c.oid IS NULL THEN EXISTS (
    SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace p ON p.oid = o.relnamespace
    WHERE p.nspname = coalesce({schema}, current_schema()::text) AND o.relkind IN ('r','p','f') AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = o.oid AND d.deptype = 'e')) END"""
    return other_schemas, other_tables


def _holder_statement(key: LockKey) -> str:
    """Find the backend that holds the lock in this database; every role may read pg_locks."""
    return f"""\
SELECT l.pid FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.classid = {LOCK_CLASS} AND l.objid = {key.number} AND l.objsubid = 2
  AND l.granted AND l.database = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = current_database())"""


def _name_statement(pid: int) -> str:
    """Read the application_name of a backend; every role may read it in pg_stat_activity."""
    return f"SELECT s.application_name FROM pg_catalog.pg_stat_activity s WHERE s.pid = {pid}"


def _rows_statement(schema: str, table: str) -> str:
    """Read the rows of a version table that exists and is readable, as one array."""
    return (
        f"SELECT array_agg(CASE WHEN length(r.v) > {MAX_ROW_LENGTH} THEN left(r.v, {MAX_ROW_LENGTH}) || '...'"
        " ELSE r.v END)"
        f" FROM (SELECT coalesce(version_num::text, '') AS v FROM {identifier(schema)}.{identifier(table)}"
        f" LIMIT {MAX_ROWS}) r"
    )
