"""Read the stamps of many schemas of one PostgreSQL database, each with a version table of its own.

The catalog is queried for all schemas at once, which locks no table. Their rows are read in batches, each in a
transaction of its own: PostgreSQL's table of locks has an entry for each table that a transaction reads, and room for
some 6,400 of them by default (max_locks_per_transaction).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.database.lock import LOCK_CLASS, LockKey, Migrator
from gate.database.postgresql.sql import literal
from gate.database.postgresql.stamp import (
    TABLE_KINDS,
    TEXT_TYPES,
    Catalog,
    Run,
    cut_expression,
    has_other_tables,
    hides_rows,
    reject_empty_view,
    reject_hidden_rows,
    reject_unreadable,
    values_statement,
)
from gate.database.stamp import (
    OtherTable,
    Stamp,
    TableName,
    VersionTableLocked,
    lock_wait_timeout,
    sqlstate_of,
    stamped_rows,
)
from gate.errors import BadSettings, DatabaseUnavailable
from gate.redaction import shorten
from gate.settings.schema_source import SchemaSource, is_system_schema
from gate.text import truncate

if TYPE_CHECKING:
    from gate.database.missing import Needs
    from gate.database.postgresql.missing import RunWithNeeds

BATCH_SIZE = 500
"""Schemas whose rows are read in one transaction."""

MAX_SCHEMAS = 100_000
"""Schemas of one database: more names are a mistake, a SELECT of the wrong table for example."""

MAX_OTHER_TABLES_READ = 20
"""Tables with a column version_num that are read in schemas without a version table."""

MAX_RETRIES = 20
"""How many version tables may be dropped and created again while they are read."""

DROPPED = frozenset({"42P01", "3F000", "42703"})
"""SQLSTATEs of a table, a schema and a column that were dropped after the catalog was read."""

MISTAKES = re.compile(r"(?!42P01|42501)(42|22|21|0A|25006).*")
"""SQLSTATEs of a SELECT that is wrong and stays so: syntax, types, and more. A missing table may still be created."""

MAX_ERROR_LENGTH = 300
"""Characters of the server's error about the SELECT."""


class _Schema(NamedTuple):
    """A row of `_catalog_statement`, in its order; what is about the version table is None or false without one.

    `others`: other tables with a column version_num, each with whether this role may read it, read only without a
    version table.
    """

    name: str
    exists: bool
    usable: bool | None
    kind: str | None
    has_column: bool
    readable: bool | None
    hides: bool | None
    other_tables: bool | None
    others: list[tuple[str, bool]] | None


class _Server(NamedTuple):
    """What holds for all schemas; `migrators`: the holders of gate's locks by the number of the lock's key."""

    database: str
    role: str
    standby: bool
    search_path: str
    migrators: dict[int, Migrator]


def read_all(
    run: Run, run_with_needs: RunWithNeeds, source: SchemaSource, table: TableName, needs: Needs | None
) -> tuple[Stamp, ...]:
    """Read the stamp of each schema, and search the first one for what is missing if there are needs.

    `run`: runs each statement in a transaction of its own, or below a savepoint. Raises what `list_schemas` and
    `read_stamps` raise.
    """
    first, *others = read_stamps(run, list_schemas(run, source), table) or (None,)
    if first is None:
        return ()
    if needs is not None and first.rows is not None:
        from gate.database.postgresql.missing import find_missing  # noqa: PLC0415 - many images have recorded no needs

        first = first._replace(shortfall=find_missing(run_with_needs, needs._replace(home=first.schema)))
    return (first, *others)


def list_schemas(run: Run, source: SchemaSource) -> tuple[str, ...]:
    """Return the names of the schemas, each once: those that are named first, as given, and then the others.

    A name that is given, or that the SELECT returns, need not exist. Raises `BadSettings` for a SELECT that is wrong,
    and `DatabaseUnavailable` for one that fails now.
    """
    names = [*source.names]
    if source.patterns:
        names += (run(_pattern_statement(source.patterns)) or [None])[0] or []
    if source.query:
        names += _queried_names(run, source.query)
    if len(names) > MAX_SCHEMAS:
        raise BadSettings(
            f"GATE_SCHEMAS names more than {MAX_SCHEMAS:,} schemas. Let its SELECT return the name of each schema once."
        )
    return tuple(dict.fromkeys(names))


LIKE_SPELLINGS: dict[str, str] = {"%": r"\%", "_": r"\_", "\\": r"\\", "*": "%", "?": "_"}
"""Characters of a pattern, and how LIKE spells them."""


def _pattern_statement(patterns: Sequence[str]) -> str:
    likes = ("".join(LIKE_SPELLINGS.get(character, character) for character in pattern) for pattern in patterns)
    condition = " OR ".join(f"n.nspname LIKE {literal(like)}" for like in likes)
    return (
        'SELECT array_agg(n.nspname::text ORDER BY n.nspname COLLATE "C") FROM pg_catalog.pg_namespace n'
        f" WHERE ({condition}) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    )


def _queried_names(run: Run, query: str) -> list[str]:
    statement = (
        "SELECT array_agg(q.name) FROM (SELECT CAST(x.name AS text) AS name FROM (\n"
        f"{query}\n) AS x(name) LIMIT {MAX_SCHEMAS + 1}) q"
    )
    try:
        names: list[str | None] = (run(statement) or [None])[0] or []
    except Exception as error:  # noqa: BLE001 - the drivers have no class in common
        raise _explain_query(error) from None
    for name in names:
        if not name or is_system_schema(name):
            shown = "NULL" if name is None else repr(truncate(name))
            raise BadSettings(
                f"The SELECT of GATE_SCHEMAS returns {shown}, which is no schema of an application. Its first column "
                "must be the name of each schema; leave out other rows with WHERE."
            )
    return [name for name in names if name]


def _explain_query(error: Exception) -> Exception:
    sqlstate = sqlstate_of(error)
    if not sqlstate or sqlstate.startswith(("08", "57P")):
        return error
    text = re.sub(r"\s*LINE \d+:.*?\^", ";", shorten(str(getattr(error, "orig", None) or error), MAX_ERROR_LENGTH))
    text = text.rstrip(".; ")
    if MISTAKES.fullmatch(sqlstate):
        return BadSettings(
            f"The SELECT of GATE_SCHEMAS is wrong: {text}. Correct it; its first column names the schemas."
        )
    return DatabaseUnavailable(f"The SELECT of GATE_SCHEMAS failed: {text}.")


def read_stamps(run: Run, names: Sequence[str], table: TableName) -> tuple[Stamp, ...]:
    """Read the stamp of each schema.

    `schema_exists` of a stamp is false for a schema that does not exist. Raises what `read_stamp` raises.
    """
    if not names:
        return ()
    server, schemas = _read_catalog(run, names, table)
    rows, dropped = _read_rows(run, server, schemas, table)
    found = [dropped.get(schema.name, schema) for schema in schemas]
    others = _read_others(run, found)
    return tuple(_stamp(server, schema, rows.get(schema.name), others, table) for schema in found)


def _stamp(
    server: _Server,
    schema: _Schema,
    rows: tuple[str, ...] | None,
    others: dict[tuple[str, str], tuple[str, ...]],
    table: TableName,
) -> Stamp:
    return Stamp(
        server.database,
        schema.name,
        rows,
        bool(schema.other_tables),
        server.standby,
        server.migrators.get(LockKey.of(schema.name, table.table).number),
        server.role,
        tuple(OtherTable(schema.name, name, others.get((schema.name, name))) for name, _ in schema.others or ()),
        schema.exists,
        server.search_path,
    )


def _read_catalog(run: Run, names: Sequence[str], table: TableName) -> tuple[_Server, list[_Schema]]:
    row = run(_catalog_statement(names, table))
    assert row
    database, role, standby, search_path, holders, schemas = row
    migrators = {
        int(number): Migrator.parse(name or "", LockKey(int(number)), pid)
        for number, pid, name in json.loads(holders or "[]")
    }
    server = _Server(database, role, standby, search_path, migrators)
    found = [_without_dropped(_Schema(*each)) for each in json.loads(schemas)]
    for schema in found:
        _reject_unreadable(run, server, schema, table)
    return server, found


def _without_dropped(schema: _Schema) -> _Schema:
    """Leave out what was dropped while the statement ran: a function about a privilege returns NULL then."""
    if schema.exists and schema.usable is None:
        return schema._replace(exists=False, kind=None, other_tables=False, others=None)
    if schema.has_column and schema.readable is None:
        return schema._replace(kind=None)
    return schema


def _catalog_statement(names: Sequence[str], table: TableName) -> str:
    """Find the version table of each schema, and the holders of all locks of gate in this database."""
    name, array = literal(table.table), ",".join(literal(each) for each in names)
    return f"""\
SELECT current_database()::text, current_user::text, pg_is_in_recovery(), current_setting('search_path'),
  (SELECT json_agg(json_build_array(l.objid, l.pid, h.application_name))::text
   FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity h USING (pid)
   WHERE l.locktype = 'advisory' AND l.classid = {LOCK_CLASS} AND l.objsubid = 2 AND l.granted
     AND l.database = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = current_database())),
  (SELECT json_agg(json_build_array(
     s.name, n.oid IS NOT NULL, has_schema_privilege(n.oid, 'USAGE'), c.relkind, a.attnum IS NOT NULL,
     CASE WHEN a.attnum IS NOT NULL THEN has_column_privilege(c.oid, a.attnum, 'SELECT') END,
     CASE WHEN c.relrowsecurity THEN {hides_rows("c")} END,
     CASE WHEN n.oid IS NOT NULL AND c.oid IS NULL THEN {has_other_tables("n.oid")} END,
     CASE WHEN n.oid IS NOT NULL AND c.oid IS NULL THEN {_others_expression("n.oid")} END) ORDER BY s.i)::text
   FROM unnest(ARRAY[{array}]::text[]) WITH ORDINALITY s(name, i)
   LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = s.name
   LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = {name}
     AND c.relkind IN {TABLE_KINDS} AND c.relpersistence <> 't'
   LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num' AND NOT a.attisdropped)"""


def _others_expression(schema: str) -> str:
    return f"""(
       SELECT json_agg(json_build_array(e.relname, has_column_privilege(e.oid, b.attnum, 'SELECT')
         AND has_schema_privilege(e.relnamespace, 'USAGE') AND e.relkind IN ('r','p') AND NOT {hides_rows("e")}))
       FROM pg_catalog.pg_class e JOIN pg_catalog.pg_attribute b ON b.attrelid = e.oid AND b.attname = 'version_num'
       WHERE e.relnamespace = {schema} AND NOT b.attisdropped AND b.atttypid IN {TEXT_TYPES}
         AND e.relkind IN ('r','p') AND e.relpersistence <> 't')"""


def _reject_unreadable(run: Run, server: _Server, schema: _Schema, table: TableName) -> None:
    """Raise for a version table that exists and whose rows this role cannot all read."""
    if schema.kind is None or (schema.usable and schema.has_column and schema.readable and not schema.hides):
        return
    catalog = _catalog_of(server, schema)
    reject_unreadable(catalog, table)
    reject_hidden_rows(run, catalog, table)


def _catalog_of(server: _Server, schema: _Schema) -> Catalog:
    return Catalog(
        server.database, server.role, None, server.standby, server.search_path, schema.name, schema.kind, schema.hides,
        schema.usable, schema.has_column, schema.readable, None, None, None, None, None,
    )  # fmt: skip


def _read_rows(
    run: Run, server: _Server, schemas: Sequence[_Schema], table: TableName
) -> tuple[dict[str, tuple[str, ...]], dict[str, _Schema]]:
    """Read the rows of the version tables; return also the schemas from which one was dropped meanwhile."""
    rows: dict[str, tuple[str, ...]] = {}
    dropped: dict[str, _Schema] = {}
    stamped = [schema for schema in schemas if schema.kind is not None]
    batches = [stamped[start : start + BATCH_SIZE] for start in range(0, len(stamped), BATCH_SIZE)]
    retries = MAX_RETRIES
    while batches:
        batch = batches.pop()
        found = _try_batch(run, server, batch, table)
        if found is not None:
            rows.update(found)
        elif len(batch) > 1:
            middle = len(batch) // 2
            batches += [batch[:middle], batch[middle:]]
        else:
            _, [schema] = _read_catalog(run, [batch[0].name], table)
            retries -= schema.kind is not None
            if schema.kind is None:
                dropped[schema.name] = schema
            elif retries:
                batches.append([schema])  # it was created again
            else:
                raise DatabaseUnavailable(
                    f"The schemas of database {server.database} change faster than gate can read them: the version "
                    f"table of schema {schema.name} was dropped and created again. gate tries again."
                )
    return rows, dropped


def _try_batch(
    run: Run, server: _Server, batch: Sequence[_Schema], table: TableName
) -> dict[str, tuple[str, ...]] | None:
    """Read the rows of each schema; return None if one of the tables was dropped meanwhile."""
    try:
        found = _union_rows(run, [(schema.name, table.table) for schema in batch])
    except Exception as error:
        _reject_locked(error, server, table)
        if sqlstate_of(error) not in DROPPED:
            raise
        return None
    rows = {}
    for schema, values in zip(batch, found, strict=True):
        rows[schema.name] = stamped_rows(values, f"{schema.name}.{table.table}", server.database)
        reject_empty_view(_catalog_of(server, schema), table, rows[schema.name])
    return rows


def _reject_locked(error: Exception, server: _Server, table: TableName) -> None:
    """Raise `VersionTableLocked` if somebody migrates and a statement has waited for a lock."""
    reason = lock_wait_timeout(error)
    if reason and server.migrators:
        migrator = next(iter(server.migrators.values()))
        raise VersionTableLocked(
            f"The version tables {table.table} of database {server.database} cannot all be read: a migration has "
            f"probably locked one. Migrating now: {migrator}. Wait until it has finished.",
            migrator,
            reason,
        ) from None


def _read_others(run: Run, schemas: Sequence[_Schema]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Read the first of the other tables with a column version_num, by schema and table."""
    tables = [(schema.name, name) for schema in schemas for name, readable in schema.others or () if readable]
    tables = tables[:MAX_OTHER_TABLES_READ]
    rows = _union_rows(run, tables) if tables else []
    return {table: tuple(filter(None, values)) for table, values in zip(tables, rows, strict=True)}


def _union_rows(run: Run, tables: Sequence[tuple[str, str]]) -> list[list[str | None]]:
    """Read the rows of several tables in one statement."""
    parts = (f"SELECT {n} AS n, z.v FROM ({values_statement(*name)}) z" for n, name in enumerate(tables))
    statement = (
        f"SELECT json_agg(json_build_array(r.n, {cut_expression('r.v')}))::text FROM ({' UNION ALL '.join(parts)}) r"
    )
    rows: list[list[str | None]] = [[] for _ in tables]
    for number, value in _values(run(statement)):
        rows[number].append(value)
    return rows


def _values(row: Sequence[Any] | None) -> Iterator[tuple[int, str | None]]:
    yield from json.loads((row or [None])[0] or "[]")
