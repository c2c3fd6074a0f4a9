"""The statements of a look, as texts, so that any connection can run them.

They ask PostgreSQL's catalog and never the table, so that neither a missing table nor a missing right raises, and a
caller's transaction is never poisoned. The rows are read only where the catalog has said that they may be.
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


Run = Callable[[str], Sequence[Any] | None]
"""Runs one statement without parameters and gives its first row."""


def read_stamp(run: Run, name: TableName) -> Stamp:
    """Look once, by whatever runs a statement.

    Raises `DatabaseUnavailable` for a table that this role may not see or read, naming it and the GRANT;
    `BadSettings` where env.py computes the table's name and the default one is not there.
    """
    found = _catalog(run, name)
    migrator = None if found.lock_pid is None else _migrator(run, name.key, found.lock_pid)
    rows = None
    if found.schema is None:
        _reject_invisible(found, name)
    else:
        _reject_unreadable(found, name)
        rows = _read_rows(run, found, name, migrator)
    schema = found.schema or name.schema or found.current_schema or ""
    return Stamp(found.database, schema, rows, bool(found.other_tables), found.standby, migrator)


def _catalog(run: Run, name: TableName) -> Catalog:
    found = _query_catalog(run, catalog_statement(name))
    if found.schema is not None:
        return found
    return _query_catalog(
        run, catalog_statement(name, around=True)
    )  # judged by itself: the table may have come meanwhile


def _query_catalog(run: Run, statement: str) -> Catalog:
    row = run(statement)
    assert row
    return Catalog(*row)


def _migrator(run: Run, key: LockKey, pid: int) -> Migrator:
    """Whoever holds the lock, though its name may be gone by now."""
    [name] = run(name_statement(pid)) or [None]
    return Migrator.parse(name or "", key, pid)


def _read_rows(run: Run, found: Catalog, name: TableName, migrator: Migrator | None) -> tuple[str, ...]:
    assert found.schema is not None
    try:
        row = run(rows_statement(found.schema, name.table))
    except Exception as error:
        why = lock_wait_timeout(error)
        if migrator is None or not why:
            raise
        raise VersionTableLocked(
            f"The version table {name.table} of database {found.database} cannot be read, for a migration may hold it "
            f"locked. Migrating now: {migrator}. Nothing to do but wait for it.",
            migrator,
            why,
        ) from None
    return tuple((row or [None])[0] or ())


def _reject_invisible(found: Catalog, name: TableName) -> None:
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


def _reject_unreadable(found: Catalog, name: TableName) -> None:
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


MOST_SCHEMAS = 5
"""Schemas that a complaint names; where each tenant has one, there are thousands."""

TABLES = "('r','p','v','m','f')"
"""What may be a version table: pg_class.relkind of tables, partitioned and foreign ones, and views."""


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


def catalog_statement(name: TableName, *, around: bool = False) -> str:
    """One statement that finds the version table and the holder of the migration lock.

    `around`: also what else is there, which matters only without a table and takes the server as long again to plan.
    """
    table, schema = literal(name.table), literal(name.schema)
    wanted = (
        f"to_regclass(quote_ident({table}))"
        if name.schema is None
        else "(SELECT w.oid FROM pg_catalog.pg_class w JOIN pg_catalog.pg_namespace v ON v.oid = w.relnamespace"
        f" WHERE w.relname = {table} AND v.nspname = {schema} AND w.relkind IN {TABLES})"
    )
    elsewhere, other_tables = _around(table, schema) if around else ("NULL::text", "NULL::bool")
    return f"""\
SELECT current_database()::text, current_user::text, current_schema()::text, pg_is_in_recovery(),
  n.nspname::text, has_schema_privilege(n.oid, 'USAGE'), a.attnum IS NOT NULL,
  CASE WHEN a.attnum IS NOT NULL THEN has_column_privilege(c.oid, a.attnum, 'SELECT') END,
  {elsewhere}, {other_tables}, l.pid
FROM (SELECT {wanted}::oid AS oid) t
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN {TABLES}
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num' AND NOT a.attisdropped
LEFT JOIN ({holder_statement(name.key)} LIMIT 1) l ON true"""


def _around(table: str, schema: str) -> tuple[str, str]:
    """Other schemas that have such a table, and whether this one has any other table, each as an expression."""
    elsewhere = f"""\
  CASE WHEN c.oid IS NULL AND {schema} IS NULL THEN (
    SELECT string_agg(g.name, ', ') FROM (
      SELECT f.nspname::text AS name FROM pg_catalog.pg_class e
      JOIN pg_catalog.pg_namespace f ON f.oid = e.relnamespace
      WHERE e.relname = {table} AND e.relkind IN {TABLES}
        AND f.nspname NOT IN ('pg_catalog', 'information_schema') AND f.nspname !~ '^pg_(toast|temp)'
      ORDER BY 1 LIMIT {MOST_SCHEMAS}) g) END"""
    other_tables = f"""\
  CASE WHEN c.oid IS NULL THEN EXISTS (
    SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace p ON p.oid = o.relnamespace
    WHERE p.nspname = coalesce({schema}, current_schema()::text) AND o.relkind IN ('r','p','f') AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = o.oid AND d.deptype = 'e')) END"""
    return elsewhere, other_tables


def holder_statement(key: LockKey) -> str:
    """The backend that holds the lock in this database: pg_locks is readable for every role."""
    return f"""\
SELECT l.pid FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.classid = {LOCK_CLASS} AND l.objid = {key.number} AND l.objsubid = 2
  AND l.granted AND l.database = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = current_database())"""


def name_statement(pid: int) -> str:
    """How this backend calls itself: application_name is readable for every role, too."""
    return f"SELECT s.application_name FROM pg_catalog.pg_stat_activity s WHERE s.pid = {pid}"


def rows_statement(schema: str, table: str) -> str:
    """The rows of a version table that is known to exist and to be readable, as one array."""
    return (
        f"SELECT array_agg(CASE WHEN length(r.v) > {MAX_ROW_LENGTH} THEN left(r.v, {MAX_ROW_LENGTH}) || '...'"
        " ELSE r.v END)"
        f" FROM (SELECT coalesce(version_num::text, '') AS v FROM {identifier(schema)}.{identifier(table)}"
        f" LIMIT {MAX_ROWS}) r"
    )


SERVER_LIMIT_MARGIN = 0.2
"""Seconds by which the server's limit comes before a look's own: the server can say what it waited for."""

MIN_SERVER_LIMIT = 0.05
"""Seconds of the server's limit, however late it is; 0 would mean none."""


def read_through_psycopg(connection: Connection, table: TableName, place: Database, deadline: float) -> Stamp:
    """Read the stamp through psycopg; one simple message for each statement, with its limit in front (hazards.md 7)."""

    def run(statement: str) -> Sequence[Any] | None:
        limit = max(MIN_SERVER_LIMIT, min(place.query_timeout, deadline - SERVER_LIMIT_MARGIN - time.monotonic()))
        cursor = connection.execute(
            f"SELECT set_config('statement_timeout', '{round(1000 * limit)}', true); {statement}"
        )
        cursor.nextset()
        return cursor.fetchone()

    with explained(place):
        return read_stamp(run, table)
