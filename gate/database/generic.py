"""Any engine that SQLAlchemy has a dialect for: it can be inspected and waited for.

MySQL and SQLite add a lock and a view of the migration's sessions. Each inspection uses a new connection, so it never
reads from an old snapshot (hazards.md 7).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, ClassVar

from sqlalchemy import URL, ColumnClause, Connection, case, column, create_engine, func, inspect, make_url, select
from sqlalchemy import table as table_clause
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from gate.database.location import Database, explain
from gate.database.lock import Lock, LockKey, Migrator
from gate.database.missing import Needs
from gate.database.sessions import Sessions
from gate.database.stamp import (
    MAX_OTHER_TABLES,
    MAX_ROW_LENGTH,
    MAX_ROWS,
    OtherTable,
    Stamp,
    TableName,
    stamped_rows,
)
from gate.errors import BadSettings, GateError
from gate.redaction import hide
from gate.settings.schema_source import SchemaSource
from gate.text import truncate

SYNC_DRIVERS = {"aiosqlite": "pysqlite", "aiomysql": "pymysql", "asyncmy": "pymysql"}
"""Asynchronous drivers -> a blocking one for gate's own connection."""

TIMEOUTS = {
    "pymysql": ("connect_timeout", "read_timeout", "write_timeout"),
    "mysqldb": ("connect_timeout", "read_timeout", "write_timeout"),
    "mysqlconnector": ("connection_timeout",),
}
"""Driver -> its time-out parameters, in whole seconds."""


def _reject_schemas(engine: str) -> BadSettings:
    return BadSettings(
        f"GATE_SCHEMAS needs PostgreSQL, where one connection reaches all schemas; this database is {engine}. Unset "
        "it, and run gate once for each database, with its own DATABASE_URL."
    )


class GenericEngine:
    """An engine that gate knows only through SQLAlchemy."""

    transactional_ddl: ClassVar[bool] = False
    has_substr: ClassVar[bool] = False
    """Whether the engine is known to have SQL's `substr`, so that long rows are cut in the server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load_driver(self) -> None:
        """Import the dialect and its driver; `connect` explains what cannot be imported, or is no URL."""
        with suppress(Exception):
            _with_blocking_driver(engine_url(self._database)).get_dialect().import_dbapi()

    def read_stamp(
        self,
        table: TableName,
        deadline: float,  # noqa: ARG002 - the driver's time-outs apply
        needs: Needs | None = None,
    ) -> Stamp:
        """Inspect on a new connection; raises `BadSettings` for a URL whose driver is not installed."""
        url = engine_url(self._database)
        if self.is_absent(url):
            return Stamp(url.database or "", "main", None, shortfall=needs and needs.all_missing())
        with self.connect() as connection:
            try:
                return self.read_stamp_through(connection, table, needs)
            except GateError:
                raise
            except Exception as error:  # noqa: BLE001 - an unknown dialect may raise anything
                raise explain(driver_error(error), self._database.url()) from None

    @classmethod
    def read_stamp_through(cls, connection: Any, table: TableName, needs: Needs | None = None) -> Stamp:
        """Inspect through any SQLAlchemy connection, and search for what is missing if there are needs."""
        stamp = cls._read_stamp(connection, table)
        if needs is None:
            return stamp
        from gate.database.reflection import Reflection  # noqa: PLC0415 - many images have recorded no needs

        return stamp._replace(shortfall=Reflection(connection).find_missing(needs))

    def read_schemas(
        self, source: SchemaSource, table: TableName, deadline: float, needs: Needs | None = None
    ) -> tuple[Stamp, ...]:
        """Raise `BadSettings`: a schema for each tenant is a database of its own here."""
        del source, table, deadline, needs
        raise _reject_schemas(self._database.url().engine)

    @classmethod
    def read_schemas_through(
        cls, connection: Any, source: SchemaSource, table: TableName, needs: Needs | None = None
    ) -> tuple[Stamp, ...]:
        """Raise `BadSettings` likewise."""
        del source, table, needs
        raise _reject_schemas(connection.dialect.name)

    @classmethod
    def _read_stamp(cls, connection: Connection, table: TableName) -> Stamp:
        """Read the stamp.

        Without a version table, or if env.py is uncertain about it, read the other tables with a column version_num.
        """
        inspector = inspect(connection)
        schema = table.schema or inspector.default_schema_name or ""
        database = connection.engine.url.database or ""
        migrator = cls.read_migrator(connection, table.key)
        if inspector.has_table(table.table, schema=table.schema):
            found = cls._read_rows(connection, table.table, table.schema)
            rows = stamped_rows(found, f"{schema}.{table.table}", database)
            others = cls._read_others(connection, table, found=True)
            return Stamp(database, schema, rows, migrator=migrator, other_version_tables=others)
        exists = table.schema is None or table.schema in inspector.get_schema_names()
        other_tables = exists and bool(inspector.get_table_names(schema=table.schema))
        others = cls._read_others(connection, table, found=False)
        return Stamp(
            database, schema, None, other_tables, migrator=migrator, other_version_tables=others, schema_exists=exists
        )

    @classmethod
    def _read_rows(cls, connection: Connection, table: str, schema: str | None) -> list[str | None]:
        version_num: ColumnClause[str] = column("version_num")
        value = func.substr(version_num, 1, MAX_ROW_LENGTH + 1) if cls.has_substr else version_num
        version_table = table_clause(table, version_num, schema=schema)
        rows = connection.scalars(select(value).select_from(version_table).limit(MAX_ROWS))
        return [None if row is None else truncate(str(row), MAX_ROW_LENGTH) for row in rows]

    @classmethod
    def _read_others(cls, connection: Connection, table: TableName, *, found: bool) -> tuple[OtherTable, ...]:
        """Read the other tables with a column version_num; what a setting names, where it was found, is certain."""
        if found and not table.is_uncertain:
            return ()
        own = table.schema or inspect(connection).default_schema_name
        names = [
            (schema, name)
            for schema, name in cls.named_with_version_num(connection, table)
            if (schema or own, name) != (own, table.table)
            and not (found and table.table_is_set and name != table.table)
            and not (found and table.schema_is_set and (schema or own) != own)
        ]
        names.sort(key=lambda each: (each[1].lower() != table.table.lower(), "version" not in each[1].lower(), each[1]))
        return tuple(
            OtherTable(
                schema or inspect(connection).default_schema_name or "",
                name,
                tuple(filter(None, cls._read_rows(connection, name, schema))),
            )
            for schema, name in names[:MAX_OTHER_TABLES]
        )

    def acquire(self, key: LockKey) -> AbstractContextManager[Lock]:  # noqa: ARG002 - there is no lock
        """Raise `BadSettings`: no lock of this engine is known to keep two migrators apart."""
        raise BadSettings(
            f"gate knows no lock that keeps two migrators apart on {self._database.url().engine}. Migrate with one "
            "single Job and set GATE_LOCK=none for it."
        )

    def sessions(self, key: LockKey, tag: str = "") -> Sessions:  # noqa: ARG002 - nothing is known of them
        """Nothing is visible."""
        return Sessions()

    # ---- what an engine with more to offer overrides

    def is_absent(self, url: URL) -> bool:  # noqa: ARG002 - most engines have a server
        """Whether the database does not exist, and connecting would create it."""
        return False

    @classmethod
    def read_migrator(cls, connection: Connection, key: LockKey) -> Migrator | None:  # noqa: ARG003 - likewise
        """The holder of the migration lock, as far as this engine shows it."""
        return None

    @classmethod
    def named_with_version_num(cls, connection: Connection, table: TableName) -> list[tuple[str | None, str]]:
        """The tables with a column version_num, as schema and name (schema None = the default one).

        SQL's information_schema answers in one statement, where reflecting the columns of thousands of tables would
        take minutes. An engine that has neither shows no other table.
        """
        schemas = {table.schema, inspect(connection).default_schema_name} - {None}
        columns = table_clause(
            "columns", *map(column, ("table_schema", "table_name", "column_name")), schema="information_schema"
        )
        likely = case((columns.c.table_name.like("%version%"), 0), else_=1)
        statement = (
            select(columns.c.table_schema, columns.c.table_name)
            .where(columns.c.column_name == "version_num", columns.c.table_schema.in_(schemas))
            .order_by(likely, columns.c.table_name)
            .limit(2 * MAX_OTHER_TABLES)
        )
        with suppress(DBAPIError):
            return [(str(schema), str(name)) for schema, name in connection.execute(statement)]
        return []

    def prepare(self, connection: Connection) -> None:
        """Configure gate's own new connection."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection for the block.

        Raises `DatabaseUnavailable`, and `BadSettings` for a URL that is wrong or whose driver is not installed.
        """
        url = _with_blocking_driver(engine_url(self._database))
        self.is_absent(url)
        try:
            timeouts = TIMEOUTS.get(url.get_dialect().driver, ())
            arguments = dict.fromkeys(timeouts, math.ceil(self._database.connect_timeout))
            connection = create_engine(url, poolclass=NullPool, connect_args=arguments).connect()
            self.prepare(connection)
        except Exception as error:  # noqa: BLE001 - an unknown dialect may raise anything
            raise _explain_connect_error(error, self._database) from None
        with connection:
            yield connection


def engine_url(database: Database) -> URL:
    """The URL as SQLAlchemy reads it; raises `BadSettings` if it cannot."""
    try:
        return make_url(database.url().verbatim)
    except (SQLAlchemyError, ValueError):
        raise _malformed(database, "it is not of the form engine://user:password@host:port/database") from None


def driver_error(error: Exception) -> Exception:
    """Return the driver's error that SQLAlchemy has wrapped."""
    return getattr(error, "orig", None) or error


def _with_blocking_driver(url: URL) -> URL:
    name, _, driver = url.drivername.partition("+")
    return url.set(drivername=f"{name}+{SYNC_DRIVERS[driver]}") if driver in SYNC_DRIVERS else url


def _explain_connect_error(error: Exception, database: Database) -> Exception:
    if isinstance(error, ImportError):
        return BadSettings(
            f"The driver for {database.url().display} is not installed for {sys.executable}, which runs gate: {error}."
        )
    if isinstance(error, SQLAlchemyError) and "load plugin" in str(error):
        return BadSettings(f"SQLAlchemy has no dialect for {database.url().display}: {error}. Correct DATABASE_URL.")
    if isinstance(error, TypeError | ValueError):  # the driver does not accept one of its parameters
        return _malformed(database, hide(str(error), database.url().secrets))
    return explain(driver_error(error), database.url())


def _malformed(database: Database, reason: str) -> BadSettings:
    name = database.source.variable if database.source else "sqlalchemy.url of the Alembic configuration"
    return BadSettings(f"{name} is not a valid URL of {database.url().display}: {reason}. Correct it.")
