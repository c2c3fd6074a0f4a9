"""Databases other than PostgreSQL, through SQLAlchemy: looking at any, locking MySQL, MariaDB and SQLite.

Each look is a connection of its own in AUTOCOMMIT, so that no poll reads from an old snapshot (FACTS 7).
"""

from __future__ import annotations

import fcntl
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, ColumnClause, Connection, column, create_engine, inspect, make_url, select, table, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from gate.database import Database, explain
from gate.errors import BadSettings, DatabaseUnavailable, LockBusy, LockLost
from gate.lock import Lock
from gate.migrator import LockKey, Migrator
from gate.stamp import MOST_ROWS, Stamp, TableName

SYNC_DRIVERS = {"aiosqlite": "pysqlite", "aiomysql": "pymysql", "asyncmy": "pymysql"}
"""Asynchronous drivers -> a blocking one for gate's own look."""

TIMEOUT_ARGUMENT = {"pymysql": "connect_timeout", "mysqldb": "connect_timeout", "mysqlconnector": "connection_timeout"}

LONGEST_NAME = 64
"""Characters of a MySQL lock's name."""


def read(database: Database, name: TableName) -> Stamp:
    """Look once; raises `DatabaseUnavailable`, and `BadSettings` for a URL whose driver is not installed."""
    url = make_url(database.url().verbatim)
    if _is_missing_file(url):
        return Stamp(url.database or "", "main", None)
    with _connection(database) as connection:
        try:
            return stamp_of(connection, name)
        except SQLAlchemyError as error:
            raise explain(_original(error), database.url()) from None


def stamp_of(connection: Connection, name: TableName) -> Stamp:
    """Look through a connection of any dialect; raises `BadSettings` where env.py computes the table's name."""
    inspector = inspect(connection)
    schema = name.schema or inspector.default_schema_name or ""
    shown = connection.engine.url.database or ""
    migrator = _holder(connection, name.key)
    if inspector.has_table(name.table, schema=name.schema):
        number: ColumnClause[str] = column("version_num")
        rows = connection.scalars(
            select(number).select_from(table(name.table, number, schema=name.schema)).limit(MOST_ROWS)
        )
        return Stamp(shown, schema, tuple(map(str, rows)), migrator=migrator)
    if name.computed:
        raise BadSettings(
            f"env.py computes the version table's name or schema, and there is no {name.table} in database {shown}; "
            "tell gate with GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
        )
    return Stamp(shown, schema, None, bool(inspector.get_table_names(schema=name.schema)), migrator=migrator)


@contextmanager
def hold(database: Database, key: LockKey) -> Iterator[Lock]:
    """Take this engine's lock by one try; raises `LockBusy`, and `BadSettings` for an engine without a known one."""
    engine = database.url().engine
    if engine == "sqlite":
        with _hold_file(database, key) as lock:
            yield lock
    elif engine in {"mysql", "mariadb"}:
        with _hold_name(database, key) as lock:
            yield lock
    else:
        raise BadSettings(
            f"gate knows no lock that keeps two migrators apart on {engine}. Migrate with one single Job and set "
            "GATE_LOCK=none for it."
        )


@dataclass(slots=True)
class _NamedLock(Lock):
    """MySQL's GET_LOCK: server-wide, so the database's name is part of it; its result must be checked."""

    connection: Connection | None = None
    name: str = ""

    def keep(self) -> None:
        assert self.connection is not None
        try:
            held = self.connection.execute(text("SELECT IS_USED_LOCK(:n) = CONNECTION_ID()"), {"n": self.name}).scalar()
        except SQLAlchemyError as error:
            raise LockLost(f"The connection that holds the migration lock was lost ({_original(error)})") from None
        if not held:
            raise LockLost("The server gave the migration lock to somebody else")


@contextmanager
def _hold_name(database: Database, key: LockKey) -> Iterator[Lock]:
    with _connection(database) as connection:
        connection.execute(text("SET SESSION wait_timeout = 31536000"))  # an idle holder must not lose it
        name = _lock_name(connection, key)
        if connection.execute(text("SELECT GET_LOCK(:n, 0)"), {"n": name}).scalar() != 1:
            raise LockBusy
        holder = connection.execute(text("SELECT CONNECTION_ID()")).scalar_one()
        fence = f"SELECT CONNECTION_ID(), DATABASE(), IS_USED_LOCK('{name}') = {int(holder)} AND DATABASE() = '{{}}'"
        fence = fence.format(str(connection.engine.url.database or "").replace("'", "''"))
        try:
            yield _NamedLock(key, database, fence=fence, transactional=False, connection=connection, name=name)
        finally:
            connection.invalidate()  # ends the connection, and with it the lock


def _lock_name(connection: Connection, key: LockKey) -> str:
    schema = str(connection.execute(text("SELECT DATABASE()")).scalar() or "")
    return f"{key.tag}/{zlib.crc32(schema.encode()):08x}"[:LONGEST_NAME]


@contextmanager
def _hold_file(database: Database, key: LockKey) -> Iterator[Lock]:
    """A lock file beside the database file: SQLite's own locks would lock gate itself out (FACTS 7)."""
    path = _sqlite_path(database)
    descriptor = os.open(f"{path}.gate-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _flock(descriptor)
        fence = "SELECT 0, file, file = '{}' FROM pragma_database_list WHERE name = 'main'"
        yield Lock(key, database, fence=fence.format(path.replace("'", "''")))
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockBusy from None


def _sqlite_path(database: Database) -> str:
    path = make_url(database.url().verbatim).database
    if not path or path == ":memory:":
        raise BadSettings("An SQLite database in memory belongs to one process; gate can only migrate one in a file.")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK):
        raise BadSettings(
            f"The folder {folder} of the SQLite database is not writable for this user, so it cannot be locked."
        )
    return os.path.realpath(path)


def _holder(connection: Connection, key: LockKey) -> Migrator | None:
    if connection.dialect.name not in {"mysql", "mariadb"}:
        return None
    used = connection.execute(text("SELECT IS_USED_LOCK(:n)"), {"n": _lock_name(connection, key)}).scalar()
    return None if used is None else Migrator("", 0, 0, "", 0, int(used))


@contextmanager
def _connection(database: Database) -> Iterator[Connection]:
    url = _blocking(make_url(database.url().verbatim))
    _refuse_missing_folder(url)
    try:
        arguments = {
            TIMEOUT_ARGUMENT[d]: math.ceil(database.connect_timeout) for d in (_driver(url),) if d in TIMEOUT_ARGUMENT
        }
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
        connection = engine.connect()
    except (ImportError, SQLAlchemyError) as error:
        raise _unconnected(error, database) from None
    with connection:
        yield connection


def _blocking(url: URL) -> URL:
    name, _, driver = url.drivername.partition("+")
    return url.set(drivername=f"{name}+{SYNC_DRIVERS[driver]}") if driver in SYNC_DRIVERS else url


def _driver(url: URL) -> str:
    return url.get_dialect().driver


def _is_missing_file(url: URL) -> bool:
    """Connecting would make the file, and a look must leave nothing behind."""
    _refuse_missing_folder(url)
    return url.get_backend_name() == "sqlite" and bool(url.database) and not os.path.exists(url.database or "")


def _refuse_missing_folder(url: URL) -> None:
    """SQLite would make an empty database out of a misspelt path, in a folder that need not be the mounted one."""
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        folder = os.path.dirname(os.path.abspath(url.database))
        if not os.path.isdir(folder):
            raise DatabaseUnavailable(f"The folder {folder} of the SQLite database does not exist; mount or make it.")


def _unconnected(error: Exception, database: Database) -> Exception:
    if isinstance(error, ImportError):
        return BadSettings(f"The driver that {database.url().display} needs is not installed beside gate: {error}.")
    if isinstance(error, SQLAlchemyError) and "load plugin" in str(error):
        return BadSettings(f"SQLAlchemy knows no dialect for {database.url().display}: {error}. Correct DATABASE_URL.")
    return explain(_original(error), database.url())


def _original(error: Exception) -> Exception:
    return getattr(error, "orig", None) or error
