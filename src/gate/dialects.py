"""Connecting to databases other than PostgreSQL, through SQLAlchemy, and saying in plain words why that failed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from gate.database import Database, explain
from gate.errors import BadSettings, DatabaseUnavailable
from gate.redaction import hide

SYNC_DRIVERS = {"aiosqlite": "pysqlite", "aiomysql": "pymysql", "asyncmy": "pymysql"}
"""Asynchronous drivers -> a blocking one for gate's own look."""

TIMEOUTS = {
    "pymysql": ("connect_timeout", "read_timeout", "write_timeout"),
    "mysqldb": ("connect_timeout", "read_timeout", "write_timeout"),
    "mysqlconnector": ("connection_timeout",),
}
"""Driver -> its arguments, in whole seconds."""

IN_MEMORY = ":memory:"
YES = frozenset({"1", "true", "yes", "on", "t", "y"})
"""What SQLAlchemy takes for true."""


@contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """Open a connection for the block; in AUTOCOMMIT to MySQL, so that it reads from no old snapshot (HAZARDS 7).

    Raises `DatabaseUnavailable`, and `BadSettings` for a URL that is wrong or whose driver is not installed.
    """
    url = _blocking(engine_url(database))
    refuse_missing_folder(url)
    try:
        arguments = dict.fromkeys(TIMEOUTS.get(_driver(url), ()), math.ceil(database.connect_timeout))
        engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        connection = engine.connect()
        if database.url().is_mysql:  # not every dialect has it, and only this one's connection lives long
            connection.execution_options(isolation_level="AUTOCOMMIT")
    except Exception as error:  # noqa: BLE001 - a dialect that gate does not know may raise anything
        raise _unconnected(error, database) from None
    with connection:
        yield connection


def engine_url(database: Database) -> URL:
    """The URL as SQLAlchemy reads it; raises `BadSettings` if it cannot."""
    try:
        return make_url(database.url().verbatim)
    except (SQLAlchemyError, ValueError):
        raise _malformed(database, "it is not of the form engine://user:password@host:port/database") from None


def _blocking(url: URL) -> URL:
    name, _, driver = url.drivername.partition("+")
    return url.set(drivername=f"{name}+{SYNC_DRIVERS[driver]}") if driver in SYNC_DRIVERS else url


def _driver(url: URL) -> str:
    return url.get_dialect().driver


def sqlite_file(url: URL) -> str | None:
    """The path of an SQLite database, None if it is in memory; raises `BadSettings` for half a URI of SQLite's."""
    path = url.database or IN_MEMORY
    if path.startswith("file:"):
        if str(url.query.get("uri", "")).lower() not in YES:
            raise BadSettings(
                "A database named file:... is a URI of SQLite's own only with uri=true behind the ?: write "
                "sqlite:///file:/path/shop.db?uri=true, or without file: sqlite:////path/shop.db."
            )
        path = IN_MEMORY if url.query.get("mode") == "memory" else unquote(urlsplit(path).path)
    return None if path in {"", IN_MEMORY} else path


def refuse_missing_folder(url: URL) -> None:
    """SQLite would make an empty database out of a misspelt path, in a folder that need not be the mounted one."""
    path = sqlite_file(url) if url.get_backend_name() == "sqlite" else None
    if path is not None:
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise DatabaseUnavailable(f"The folder {folder} of the SQLite database does not exist; mount or make it.")


def _unconnected(error: Exception, database: Database) -> Exception:
    if isinstance(error, ImportError):
        return BadSettings(f"The driver that {database.url().display} needs is not installed beside gate: {error}.")
    if isinstance(error, SQLAlchemyError) and "load plugin" in str(error):
        return BadSettings(f"SQLAlchemy knows no dialect for {database.url().display}: {error}. Correct DATABASE_URL.")
    if isinstance(error, TypeError | ValueError):  # a driver that was given what it does not take
        return _malformed(database, hide(str(error), database.url().secrets))
    return explain(original(error), database.url())


def _malformed(database: Database, why: str) -> BadSettings:
    name = database.source.variable if database.source else "sqlalchemy.url of the Alembic configuration"
    return BadSettings(f"{name} is no usable URL of {database.url().display}: {why}. Correct it.")


def original(error: Exception) -> Exception:
    """The driver's own error."""
    return getattr(error, "orig", None) or error
