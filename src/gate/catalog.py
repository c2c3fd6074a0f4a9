"""The statements of a look, as texts, so that any connection can run them.

They ask PostgreSQL's catalog and never the table, so that neither a missing table nor a missing right raises, and a
caller's transaction is never poisoned. The rows are read only where the catalog has said that they may be.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.migrator import LOCK_CLASS, LockKey
from gate.sql_text import identifier, literal

MOST_ROWS = 1000
LONGEST_ROW = 255
"""Bounds for what a hostile or foreign table may make gate read; Alembic's column holds 32 characters. A longer row is
told by its beginning and three dots, so that it cannot be taken for the beginning of an id."""

MOST_SCHEMAS = 5
"""Schemas that a complaint names; where each tenant has one, there are thousands."""

TABLES = "('r','p','v','m','f')"
"""What may be a version table: pg_class.relkind of tables, partitioned and foreign ones, and views."""


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
        f"SELECT array_agg(CASE WHEN length(r.v) > {LONGEST_ROW} THEN left(r.v, {LONGEST_ROW}) || '...' ELSE r.v END)"
        f" FROM (SELECT coalesce(version_num::text, '') AS v FROM {identifier(schema)}.{identifier(table)}"
        f" LIMIT {MOST_ROWS}) r"
    )
