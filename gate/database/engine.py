"""The interface that every database engine implements, and the choice of one by its name in the URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from gate.database.lock import Lock
from gate.settings.database_url import POSTGRESQL

if TYPE_CHECKING:
    from gate.database.location import Database
    from gate.database.lock import LockKey
    from gate.database.missing import Needs
    from gate.database.sessions import Sessions
    from gate.database.stamp import Stamp, TableName
    from gate.settings.schema_source import SchemaSource

MYSQL = frozenset({"mysql", "mariadb"})


class Engine(Protocol):
    """One database engine. Every method that asks the server raises `DatabaseUnavailable`."""

    transactional_ddl: ClassVar[bool]
    """Whether a failed revision is rolled back with its DDL."""

    def __init__(self, database: Database) -> None: ...

    def load_driver(self) -> None:
        """Import the driver where that should happen before a time-out begins; raises `BadSettings`."""

    def read_stamp(self, table: TableName, deadline: float, needs: Needs | None = None) -> Stamp:
        """Inspect the database on a new connection. `deadline`: in seconds of the monotonic clock.

        `needs`: what to search for besides, None = nothing. Raises `BadSettings` if the settings are the cause of the
        failure.
        """

    @classmethod
    def read_stamp_through(cls, connection: Any, table: TableName, needs: Needs | None = None) -> Stamp:
        """Inspect the database through a caller's SQLAlchemy `Connection`, without aborting its transaction."""

    def read_schemas(
        self, source: SchemaSource, table: TableName, deadline: float, needs: Needs | None = None
    ) -> tuple[Stamp, ...]:
        """Inspect many schemas on one new connection. `needs`: what to search for in the first of them.

        The stamps are in the order of `source`. Raises what `read_stamp` raises, and `BadSettings` if the engine has
        no such schemas or `source` is wrong.
        """

    @classmethod
    def read_schemas_through(
        cls, connection: Any, source: SchemaSource, table: TableName, needs: Needs | None = None
    ) -> tuple[Stamp, ...]:
        """Inspect many schemas through a caller's SQLAlchemy `Connection`, without aborting its transaction."""

    def acquire(self, key: LockKey) -> AbstractContextManager[Lock]:
        """Try once to acquire the migration lock, and hold it for the block.

        Raises `LockBusy` if another migrator holds it, and `BadSettings` if the lock would not exclude a second
        migrator, or if gate knows no lock for this engine.
        """

    def sessions(self, key: LockKey, tag: str = "") -> Sessions:
        """Access to the server's sessions that belong to the migration with this tag."""


def engine_of(database: Database) -> Engine:
    """Choose the engine by the URL of the database; raises `BadSettings` if the URL cannot be read."""
    return engine_class(database.url().engine)(database)


def engine_class(name: str) -> type[Engine]:
    """Choose the engine by its name, as it begins a URL or as SQLAlchemy's `Dialect.name`."""
    if name in POSTGRESQL:
        from gate.database.postgresql.engine import PostgresEngine  # noqa: PLC0415 - only the engine in use is loaded

        return PostgresEngine
    if name in MYSQL:
        from gate.database.mysql import MySqlEngine  # noqa: PLC0415 - likewise

        return MySqlEngine
    if name == "sqlite":
        from gate.database.sqlite import SqliteEngine  # noqa: PLC0415 - likewise

        return SqliteEngine
    from gate.database.generic import GenericEngine  # noqa: PLC0415 - likewise

    return GenericEngine


@contextmanager
def acquire_nothing(database: Database, key: LockKey) -> Iterator[Lock]:
    """Migrate without a lock (GATE_LOCK=none). Its tag is unique, so no session is mistaken for an orphaned one."""
    tag = f"{key.tag} alone {os.urandom(4).hex()}"
    engine = engine_of(database)
    yield Lock(
        key,
        database,
        engine.sessions(key, tag),
        tag=tag,
        transactional=engine.transactional_ddl,
        description="migrates without a lock",
    )
