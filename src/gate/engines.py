"""Which lock keeps two migrators apart on which engine, and what its server shows of a migration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from gate import advisory_lock
from gate.asking import alone
from gate.backends import Backends, PostgresBackends
from gate.database import Database
from gate.errors import BadSettings
from gate.lock import Lock
from gate.migrator import LockKey
from gate.urls import DatabaseUrl

Holding = Callable[[Database, LockKey], AbstractContextManager[Lock]]


def hold(database: Database, key: LockKey) -> AbstractContextManager[Lock]:
    """Take this engine's lock by one try and hold it for the block.

    Raises `LockBusy` if another migrator has it, `DatabaseUnavailable`, and `BadSettings` where such a lock would be
    worth nothing, or where gate knows none.
    """
    return _holding(database.url())(database, key)


def _holding(url: DatabaseUrl) -> Holding:
    if url.is_postgresql:
        return advisory_lock.hold
    if url.engine == "sqlite":
        from gate import sqlite_file  # noqa: PLC0415 - SQLAlchemy is loaded only where it is needed

        return sqlite_file.hold
    if url.is_mysql:
        from gate import mysql  # noqa: PLC0415 - likewise

        return mysql.hold
    raise BadSettings(
        f"gate knows no lock that keeps two migrators apart on {url.engine}. Migrate with one single Job and set "
        "GATE_LOCK=none for it."
    )


@contextmanager
def without(database: Database, key: LockKey) -> Iterator[Lock]:
    """GATE_LOCK=none: nobody is kept apart, and nobody is taken for a killed predecessor."""
    mark = f"{key.tag} alone {os.urandom(4).hex()}"
    transactional = database.url().is_postgresql
    how = "migrates without a lock"
    yield Lock(key, database, backends_of(database, key, mark), mark=mark, transactional=transactional, how=how)


def backends_of(database: Database, key: LockKey, mark: str = "") -> Backends:
    """What this database's server shows of the migration that carries this mark."""
    url = database.url()
    if url.is_postgresql:
        return PostgresBackends(alone(database), key, mark)
    if url.is_mysql:
        from gate.mysql import MySqlBackends  # noqa: PLC0415 - SQLAlchemy is loaded only where it is needed

        return MySqlBackends(database, mark)
    return Backends()
