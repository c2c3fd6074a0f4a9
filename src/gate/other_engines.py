"""Looking at databases other than PostgreSQL, each time on a connection of its own: no old snapshot."""

from __future__ import annotations

import os

from sqlalchemy import URL, ColumnClause, Connection, column, func, inspect, select, table

from gate import dialects, mysql, sqlite_file
from gate.catalog import LONGEST_ROW, MOST_ROWS, TableName
from gate.database import Database, explain
from gate.dialects import connected, engine_url, original, refuse_missing_folder
from gate.errors import BadSettings, GateError
from gate.foreign import cut
from gate.migrator import UNNAMED, LockKey, Migrator
from gate.stamp import Stamp


def read(database: Database, name: TableName) -> Stamp:
    """Look once; raises `DatabaseUnavailable`, and `BadSettings` for a URL whose driver is not installed."""
    url = engine_url(database)
    if _is_missing_file(url):
        return Stamp(url.database or "", "main", None)
    with connected(database) as connection:
        try:
            return stamp_of(connection, name)
        except GateError:
            raise
        except Exception as error:  # noqa: BLE001 - a dialect that gate does not know may raise anything
            raise explain(original(error), database.url()) from None


def stamp_of(connection: Connection, name: TableName) -> Stamp:
    """Look through a connection of any dialect; raises `BadSettings` where env.py computes the table's name."""
    inspector = inspect(connection)
    schema = name.schema or inspector.default_schema_name or ""
    shown = connection.engine.url.database or ""
    migrator = _holder(connection, name.key)
    if inspector.has_table(name.table, schema=name.schema):
        return Stamp(shown, schema, _rows(connection, name), migrator=migrator)
    if name.computed:
        raise BadSettings(
            f"env.py computes the version table's name or schema, and there is no {name.table} in database {shown}; "
            "tell gate with GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
        )
    return Stamp(shown, schema, None, bool(inspector.get_table_names(schema=name.schema)), migrator=migrator)


def _rows(connection: Connection, name: TableName) -> tuple[str, ...]:
    """Bounded as on PostgreSQL, where the engine is known to have `substr`."""
    number: ColumnClause[str] = column("version_num")
    bounded = connection.dialect.name in {"mysql", "mariadb", "sqlite"}
    wanted = func.substr(number, 1, LONGEST_ROW + 1) if bounded else number
    rows = connection.scalars(
        select(wanted).select_from(table(name.table, number, schema=name.schema)).limit(MOST_ROWS)
    )
    return tuple(cut("" if row is None else str(row), LONGEST_ROW) for row in rows)


def _holder(connection: Connection, key: LockKey) -> Migrator | None:
    if connection.dialect.name in {"mysql", "mariadb"}:
        return mysql.holder(connection, key)
    path = dialects.sqlite_file(connection.engine.url) if connection.dialect.name == "sqlite" else None
    return UNNAMED if path and sqlite_file.is_held(path) else None


def _is_missing_file(url: URL) -> bool:
    """Connecting would make the file, and a look must leave nothing behind."""
    refuse_missing_folder(url)
    path = dialects.sqlite_file(url) if url.get_backend_name() == "sqlite" else None
    return path is not None and not os.path.exists(path)
