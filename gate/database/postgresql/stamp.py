"""Read the stamp from PostgreSQL, with statements that any kind of connection can run.

The catalog is queried first and the version table only if it exists and may be read, so no statement fails for a
missing table or privilege: an error would abort the transaction that a caller's connection is in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.database.location import Database
from gate.database.lock import LOCK_CLASS, LockKey, Migrator
from gate.database.postgresql.connection import explained
from gate.database.postgresql.sql import identifier, literal
from gate.database.stamp import (
    MAX_OTHER_TABLES,
    MAX_ROW_LENGTH,
    MAX_ROWS,
    Namesake,
    OtherTable,
    Stamp,
    TableName,
    VersionTableLocked,
    lock_wait_timeout,
    stamped_rows,
)
from gate.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from gate.database.missing import Needs
    from gate.database.postgresql.connection import Connection
    from gate.database.postgresql.missing import RunWithNeeds


SERVER_TIMEOUT_MARGIN = 0.2
"""Seconds by which statement_timeout ends before the inspection: only the server knows what a statement waited for."""

MIN_SERVER_TIMEOUT = 0.05
"""Seconds of statement_timeout, however late it is: 0 would disable it."""

SEARCH_REMEDY = "This was the search for what the code needs, which GATE_EXPECTED=off skips."

MAX_SCHEMAS = 5
"""The number of schemas that an error message names; with one for each tenant, there are thousands."""

TABLE_KINDS = "('r','p','v','m','f')"
"""pg_class.relkind of what may be a version table: tables, partitioned and foreign tables, and views."""

STORED_KINDS = frozenset({"r", "p"})
"""The kinds of which a role that may read them sees every row, without row-level security."""

TEXT_TYPES = "(25,1042,1043)"
"""pg_type.oid of text, char and varchar. A cast of another type could run code of the type's owner."""

SYSTEM_SCHEMAS = "f.nspname NOT IN ('pg_catalog', 'information_schema') AND f.nspname !~ '^pg_(toast|temp)'"

Run = Callable[[str], Sequence[Any] | None]
"""Runs one statement without parameters and returns its first row."""


class Catalog(NamedTuple):
    """The row of `_catalog_statement`, in its order.

    `schema`: of the version table, None if none was found; `kind`: its pg_class.relkind; `has_policies`: whether
    row-level security is enabled for it; `usable`, `has_column`, `readable`: whether this role may use that schema,
    whether the table has a column version_num, and whether this role may read it; `namesakes`: other
    tables of this name, each as schema and whether this role may use it and read the table; `other_tables`: whether the
    schema of the version table has any other table; `schema_exists`: whether the configured schema does;
    `others`: other tables with a column version_num, each as schema, name and whether this role may read it.
    """

    database: str
    role: str
    current_schema: str | None
    standby: bool
    search_path: str
    schema: str | None
    kind: str | None
    has_policies: bool | None
    usable: bool | None
    has_column: bool | None
    readable: bool | None
    namesakes: list[list[str]] | None
    other_tables: bool | None
    schema_exists: bool | None
    others: list[list[str]] | None
    lock_pid: int | None


class PsycopgRunner:
    """Runs each statement in a transaction of its own, with a statement_timeout.

    `deadline`: in seconds of the monotonic clock. Time-out and statement are one message of the simple query protocol,
    which leaves no snapshot behind (hazards.md 7). The search_path is the role's own in this message: another client of
    a pooler may have left its own on the server's connection, which `found_path` is then.
    """

    def __init__(self, connection: Connection, database: Database, deadline: float) -> None:
        self._connection, self._database, self._deadline = connection, database, deadline
        # The URL or PGOPTIONS may set the search_path, and a pooler may do so later.
        self._sets_path = "search_path" in connection.info.options
        self.found_path = ""

    def run(self, statement: str, parameters: dict[str, str] | None = None) -> Sequence[Any] | None:
        """Run one statement and return its first row; raises psycopg's errors."""
        left = self._deadline - SERVER_TIMEOUT_MARGIN - time.monotonic()
        milliseconds = round(1000 * max(MIN_SERVER_TIMEOUT, min(self._database.query_timeout, left)))
        timeout = f"SELECT set_config('statement_timeout', '{milliseconds}', true), current_setting('search_path');"
        reset = "" if self._sets_path else "SET LOCAL search_path TO DEFAULT;"
        cursor = self._connection.execute(f"{timeout} {reset} {statement}", parameters)
        self.found_path = str((cursor.fetchone() or ("", ""))[1])
        for _ in range(1 if self._sets_path else 2):
            cursor.nextset()
        return cursor.fetchone()

    def run_with_needs(self, statement: str, names: str) -> Sequence[Any] | None:
        """Run the search for what the code needs; raises `DatabaseUnavailable`."""
        with explained(self._database, SEARCH_REMEDY):
            return self.run(statement.replace("%", "%%").replace(":needs", "%(needs)s"), {"needs": names})


def read_through_psycopg(
    connection: Connection, table: TableName, database: Database, deadline: float, needs: Needs | None = None
) -> Stamp:
    """Read the stamp through psycopg, and search for `needs`, too; raises what `read_stamp` raises.

    `deadline`: in seconds of the monotonic clock.
    """
    runner = PsycopgRunner(connection, database, deadline)
    with explained(database):
        stamp = read_all(runner.run, runner.run_with_needs, table, needs)
    path = runner.found_path
    return stamp if path == stamp.search_path else stamp._replace(foreign_search_path=path)


def read_all(run: Run, run_with_needs: RunWithNeeds, table: TableName, needs: Needs | None) -> Stamp:
    """Read the stamp, and search for what is missing if there are needs; raises what `read_stamp` raises."""
    stamp = read_stamp(run, table)
    if needs is None:
        return stamp
    from gate.database.postgresql.missing import find_missing  # noqa: PLC0415 - many images have recorded no needs

    return stamp._replace(shortfall=find_missing(run_with_needs, needs))


def read_stamp(run: Run, table: TableName) -> Stamp:
    """Read the stamp of the database, and who is migrating it.

    Without a version table, or if env.py is uncertain about it, read the other tables with a column version_num, too.
    Raises `DatabaseUnavailable` for a table on the search_path that this role may not read, with the GRANT, or of which
    a policy hides rows; `VersionTableLocked` if a migration has locked it.
    """
    catalog = _read_catalog(run, table)
    migrator = None if catalog.lock_pid is None else _read_migrator(run, table.key, catalog.lock_pid)
    rows, schema_exists = None, catalog.schema_exists is not False
    if catalog.schema is None:
        if table.schema is None and catalog.current_schema is None:
            [schema_exists] = run(_path_exists_statement(catalog)) or [True]
            _reject_unusable_path(catalog, exists=schema_exists)
    else:
        reject_unreadable(catalog, table)
        if catalog.has_policies:
            reject_hidden_rows(run, catalog, table)
        rows = _read_rows(run, catalog, table, migrator)
        reject_empty_view(catalog, table, rows)
    return Stamp(
        catalog.database,
        catalog.schema or table.schema or catalog.current_schema or "",
        rows,
        bool(catalog.other_tables),
        catalog.standby,
        migrator,
        catalog.role,
        _read_others(run, catalog.others or []),
        schema_exists,
        catalog.search_path,
        namesakes=_namesakes(catalog),
    )


def _read_catalog(run: Run, table: TableName) -> Catalog:
    catalog = _query_catalog(run, _catalog_statement(table, others=table.is_uncertain))
    if catalog.schema is not None or table.is_uncertain:
        return catalog
    # The second row replaces the first: the version table may have been created in between.
    return _query_catalog(run, _catalog_statement(table, others=True))


def _query_catalog(run: Run, statement: str) -> Catalog:
    row = run(statement)
    assert row
    return Catalog(*row)


def _read_others(run: Run, others: list[list[str]]) -> tuple[OtherTable, ...]:
    """Read the rows of other tables in one statement."""
    rows: dict[int, list[str]] = {n: [] for n, (_, _, readable) in enumerate(others) if readable == "true"}
    if rows:
        [found] = run(_other_rows_statement({n: (others[n][0], others[n][1]) for n in rows})) or [None]
        for number, row in found or ():
            rows[int(number)].append(row)
    return tuple(
        OtherTable(schema, name, tuple(rows[n]) if n in rows else None) for n, (schema, name, _) in enumerate(others)
    )


def _read_migrator(run: Run, key: LockKey, pid: int) -> Migrator:
    """Read the name of the lock's holder, which may have ended by now."""
    [name] = run(_name_statement(pid)) or [None]
    return Migrator.parse(name or "", key, pid)


def _namesakes(catalog: Catalog) -> tuple[Namesake, ...]:
    path = _path_schemas(catalog)
    return tuple(
        Namesake(schema, usable == "true", readable == "true", on_path=schema in path)
        for schema, usable, readable in catalog.namesakes or ()
    )


def _path_schemas(catalog: Catalog) -> list[str]:
    """The schemas on the search_path, also those that `current_schemas` omits since this role may not use them.

    The names are quoted as identifiers are (search_path, in PostgreSQL's manual).
    """
    names = (
        quoted.replace('""', '"') if quoted else plain.lower()
        for quoted, plain in re.findall(r'"((?:[^"]|"")*)"|([^", ]+)', catalog.search_path)
    )
    return [catalog.role if name == "$user" else name for name in names]


def _reject_unusable_path(catalog: Catalog, *, exists: bool) -> None:
    """Raise if schemas on the search_path exist, and this role may use none of them."""
    if exists and not catalog.namesakes:
        raise DatabaseUnavailable(
            f"Role {catalog.role} may use no schema of its search_path ({catalog.search_path}) in database "
            f"{catalog.database}: GRANT USAGE ON SCHEMA, or correct the search_path."
        )


def reject_unreadable(catalog: Catalog, table: TableName) -> None:
    """Raise for a version table that this role may not read, or that is not Alembic's."""
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


def reject_hidden_rows(run: Run, catalog: Catalog, table: TableName) -> None:
    """Raise if row-level security may hide rows from this role."""
    assert catalog.schema is not None
    [hides, policies] = run(_policies_statement(catalog.schema, table.table)) or [False, None]
    if hides:
        name = f"{catalog.schema}.{table.table}"
        cause = f"its policies ({policies})" if policies else "it has no policy, which"
        raise DatabaseUnavailable(
            f"Row-level security is enabled for the version table {name} of database {catalog.database}, and {cause} "
            f"may hide rows from role {catalog.role}, so its stamp is unknown. Add a policy that shows them all "
            f"(CREATE POLICY gate ON {name} FOR SELECT TO {catalog.role} USING (true)), or let gate connect as a role "
            "that owns the table or has BYPASSRLS, or disable row-level security for it."
        )


def reject_empty_view(catalog: Catalog, table: TableName, rows: tuple[str, ...]) -> None:
    """Raise for a view without rows: its query, or the rights of its owner, may hide those that there are."""
    if not rows and catalog.kind not in STORED_KINDS:
        raise DatabaseUnavailable(
            f"The version table {catalog.schema}.{table.table} of database {catalog.database} is a view or a foreign "
            f"table and shows no row to role {catalog.role}, which may not be all that there is. Set "
            "GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA to the table behind it; REFRESH a materialized view."
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
    return stamped_rows((row or [None])[0] or (), f"{catalog.schema}.{table.table}", catalog.database)


def _catalog_statement(table: TableName, *, others: bool = False) -> str:
    """Find the version table and the holder of the migration lock.

    `others`: search for other tables, too. That is needed only without a version table, or if env.py is uncertain about
    it, and takes longer. A temporary table never counts; `to_regclass`, which is fast, would find it first, so the
    search for others also walks along the search_path.
    """
    name = literal(table.table)
    oid = f"to_regclass(quote_ident({name}))"
    if others or table.schema is not None:
        oid = _oid_expression(name, table.schema)
    more = _search_expressions(table) if others else "NULL::text, NULL::bool, NULL::bool, NULL::text[]"
    return f"""\
SELECT current_database()::text, current_user::text, current_schema()::text, pg_is_in_recovery(),
  current_setting('search_path'), n.nspname::text, c.relkind::text, c.relrowsecurity,
  has_schema_privilege(n.oid, 'USAGE'), a.attnum IS NOT NULL,
  CASE WHEN a.attnum IS NOT NULL THEN has_column_privilege(c.oid, a.attnum, 'SELECT') END,
  {more}, l.pid
FROM (SELECT {oid}::oid AS oid) t
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN {TABLE_KINDS} AND c.relpersistence <> 't'
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num' AND NOT a.attisdropped
LEFT JOIN ({_holder_statement(table.key)} LIMIT 1) l ON true"""


def _oid_expression(name: str, schema: str | None) -> str:
    """Find a table in its schema, or along the search_path, of which pg_temp is no part here."""
    tables = f"""\
pg_catalog.pg_class w JOIN pg_catalog.pg_namespace v ON v.oid = w.relnamespace
    AND w.relname = {name} AND w.relkind IN {TABLE_KINDS} AND w.relpersistence <> 't'"""
    if schema is not None:
        return f"(SELECT w.oid FROM {tables} AND v.nspname = {literal(schema)})"
    path = "unnest(current_schemas(false)) WITH ORDINALITY s(name, n)"
    return f"(SELECT w.oid FROM {path} JOIN ({tables}) ON v.nspname = s.name ORDER BY s.n LIMIT 1)"


def _search_expressions(table: TableName) -> str:
    """Four expressions, which say where else the version table may be.

    They are the namesakes; whether this schema has any other table; whether the schema exists; and the tables of
    `_others_expression`.
    """
    name, schema = literal(table.table), literal(table.schema)
    own = f"(SELECT p.oid FROM pg_catalog.pg_namespace p WHERE p.nspname = coalesce({schema}, current_schema()::text))"
    return f"""\
  CASE WHEN c.oid IS NULL AND {schema} IS NULL THEN (
    SELECT array_agg(ARRAY[g.name, g.usable::text, g.readable::text]) FROM (
      SELECT f.nspname::text AS name, has_schema_privilege(f.oid, 'USAGE') AS usable,
        has_schema_privilege(f.oid, 'USAGE') AND has_any_column_privilege(e.oid, 'SELECT') AS readable
      FROM pg_catalog.pg_class e
      JOIN pg_catalog.pg_namespace f ON f.oid = e.relnamespace
      WHERE e.relname = {name} AND e.relkind IN {TABLE_KINDS} AND e.relpersistence <> 't' AND {SYSTEM_SCHEMAS}
      ORDER BY 1 LIMIT {MAX_SCHEMAS}) g) END,
  CASE WHEN c.oid IS NULL THEN {has_other_tables(own)} END,
  CASE WHEN c.oid IS NULL AND {schema} IS NOT NULL THEN EXISTS (
    SELECT FROM pg_catalog.pg_namespace p WHERE p.nspname = {schema}) END,
  ({_others_expression(table, name, schema)})"""


def has_other_tables(schema: str) -> str:
    """Whether a schema, given by its oid, has any table; those of an extension do not count (pg_depend.deptype 'e')."""
    return f"""\
EXISTS (SELECT FROM pg_catalog.pg_class o
  WHERE o.relnamespace = {schema} AND o.relkind IN ('r','p','f') AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = o.oid AND d.deptype = 'e'))"""


def _others_expression(table: TableName, name: str, schema: str) -> str:
    """Find other tables with a column version_num: those that this role may read first, and the likeliest of them.

    What a setting names, where it was found, is certain. A view runs the functions in it with the rights of this role,
    so only one of this role or of a superuser is read; a policy would do so as well.
    """
    same_table = f"AND (c.oid IS NULL OR e.relname = {name})" if table.table_is_set else ""
    same_schema = f"AND (c.oid IS NULL OR f.nspname = {schema})" if table.schema_is_set else ""
    return f"""\
    SELECT array_agg(ARRAY[x.schema, x.name, x.readable::text]) FROM (
      SELECT f.nspname::text AS schema, e.relname::text AS name,
        has_schema_privilege(f.oid, 'USAGE') AND has_column_privilege(e.oid, b.attnum, 'SELECT')
          AND NOT {hides_rows("e")} AND (e.relkind <> 'm' OR e.relispopulated) AS readable
      FROM pg_catalog.pg_attribute b
      JOIN pg_catalog.pg_class e ON e.oid = b.attrelid
      JOIN pg_catalog.pg_namespace f ON f.oid = e.relnamespace
      WHERE b.attname = 'version_num' AND NOT b.attisdropped AND b.atttypid IN {TEXT_TYPES}
        AND e.relkind IN ('r','p','v','m') AND e.relpersistence <> 't' AND {SYSTEM_SCHEMAS}
        AND (e.relkind <> 'v' OR EXISTS (SELECT FROM pg_catalog.pg_roles q WHERE q.oid = e.relowner
          AND (q.rolsuper OR q.rolname = current_user)))
        AND e.oid IS DISTINCT FROM c.oid {same_table} {same_schema}
      ORDER BY 3 DESC, lower(e.relname) = lower({name}) DESC, e.relnatts = 1 DESC,
        f.nspname = ANY (current_schemas(false)) DESC, 1, 2
      LIMIT {MAX_OTHER_TABLES}) x"""


def hides_rows(alias: str) -> str:
    """Whether row-level security applies to this role (`row_security_active`, which other servers may lack)."""
    return (
        f"({alias}.relrowsecurity AND ({alias}.relforcerowsecurity OR NOT pg_has_role({alias}.relowner, 'USAGE'))"
        " AND NOT (SELECT u.rolsuper OR u.rolbypassrls FROM pg_catalog.pg_roles u WHERE u.rolname = current_user))"
    )


def _path_exists_statement(catalog: Catalog) -> str:
    """Whether any schema on the search_path exists."""
    names = ", ".join(literal(name) for name in _path_schemas(catalog)) or "NULL"
    return f"SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace p WHERE p.nspname IN ({names}))"


def _policies_statement(schema: str, table: str) -> str:
    """Whether row-level security may hide rows of a table from this role, and the names of its policies.

    It hides none if a permissive policy for this role has the expression `true`, and no restrictive one applies.
    """
    applies = """\
p.polrelid = c.oid AND p.polcmd IN ('r','*') AND EXISTS (
      SELECT FROM unnest(p.polroles) m(oid) WHERE CASE WHEN m.oid = 0 THEN true ELSE pg_has_role(m.oid, 'USAGE') END)"""
    return f"""\
SELECT {hides_rows("c")} AND (
    NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE {applies}
      AND p.polpermissive AND pg_get_expr(p.polqual, p.polrelid) = 'true')
    OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE {applies} AND NOT p.polpermissive)),
  (SELECT string_agg(g.name, ', ') FROM (
    SELECT p.polname::text AS name FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid
    ORDER BY 1 LIMIT {MAX_SCHEMAS}) g)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = {literal(table)} AND n.nspname = {literal(schema)}"""


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
    return f"SELECT array_agg({cut_expression('r.v')}) FROM ({values_statement(schema, table)}) r"


def _other_rows_statement(tables: dict[int, tuple[str, str]]) -> str:
    """Read the rows of several tables, each with the number of its table, as one array."""
    parts = (f"SELECT '{n}' AS n, z.v FROM ({values_statement(*name)}) z" for n, name in tables.items())
    return (
        f"SELECT array_agg(ARRAY[r.n, {cut_expression('r.v')}]) FROM ({' UNION ALL '.join(parts)}) r"
        " WHERE r.v IS NOT NULL"
    )


def values_statement(schema: str, table: str) -> str:
    """Read the column as a client sees it: a cast to text, unlike `concat`, would drop the padding of type char."""
    return (
        "SELECT CASE WHEN version_num IS NOT NULL THEN concat(version_num) END AS v"
        f" FROM {identifier(schema)}.{identifier(table)} LIMIT {MAX_ROWS}"
    )


def cut_expression(value: str) -> str:
    """Cut a long row, so that a hostile table does not fill the memory."""
    return (
        f"CASE WHEN length({value}) > {MAX_ROW_LENGTH} THEN left({value}, {MAX_ROW_LENGTH}) || '...' ELSE {value} END"
    )
