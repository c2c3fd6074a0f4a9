"""MySQL and MariaDB: one migrator at a time by GET_LOCK, and what is left of a killed one.

The lock is server-wide, so the database's name is part of its name, and its result must be checked (HAZARDS 7). A
server does not notice that a client died while its statement runs, and has no application_name by which to find it. So
each connection of a migration holds a second lock, its mark, which ends with it: whoever holds a mark still works.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from gate.backends import Activity, Backends, busiest, shortened
from gate.database import Database, explain
from gate.dialects import connected, original
from gate.errors import DatabaseUnavailable, LockBusy, LockLost
from gate.lock import Lock
from gate.migrator import MYSQL_MARKS, LockKey, Migrator

FOREVER = 31536000
"""Seconds of wait_timeout: an idle holder must not lose the lock."""


@dataclass(slots=True)
class NamedLock(Lock):
    """Held by one connection for as long as that lives; `mark` is its name."""

    connection: Connection | None = None

    def keep(self) -> None:
        """By asking who holds it."""
        assert self.connection is not None
        try:
            held = self.connection.execute(text("SELECT IS_USED_LOCK(:n) = CONNECTION_ID()"), {"n": self.mark}).scalar()
        except SQLAlchemyError as error:
            raise LockLost(f"The connection that holds the migration lock was lost ({original(error)})") from None
        if not held:
            raise LockLost("The server gave the migration lock to somebody else")


@contextmanager
def hold(database: Database, key: LockKey) -> Iterator[Lock]:
    """Take the lock by one try; raises `LockBusy` if another migrator has it."""
    with connected(database) as connection:
        name, own = _take(connection, key, database)
        schema = str(connection.engine.url.database or "").replace("'", "''")
        fence = f"SELECT DATABASE(), IS_USED_LOCK('{name}') = {own} AND DATABASE() = '{schema}'"
        seen = MySqlBackends(database, name)
        try:
            yield NamedLock(key, database, seen, fence, name, transactional=False, connection=connection)
        finally:
            connection.invalidate()  # ends the connection, and with it the lock


def _take(connection: Connection, key: LockKey, database: Database) -> tuple[str, int]:
    try:
        connection.execute(text(f"SET SESSION wait_timeout = {FOREVER}"))
        name = lock_name(connection, key)
        granted = connection.execute(text("SELECT GET_LOCK(:n, 0)"), {"n": name}).scalar()
        own = int(connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())
    except SQLAlchemyError as error:
        raise explain(original(error), database.url()) from None
    if granted != 1:
        raise LockBusy
    return name, own


def lock_name(connection: Connection, key: LockKey) -> str:
    """One name for one version table in one database; of the 64 characters that MySQL keeps it takes 22."""
    schema = str(connection.execute(text("SELECT DATABASE()")).scalar() or "")
    return f"{key.tag}/{zlib.crc32(schema.encode()):08x}"


def holder(connection: Connection, key: LockKey) -> Migrator | None:
    """Who migrates: the server tells the connection and no more."""
    used = connection.execute(text("SELECT IS_USED_LOCK(:n)"), {"n": lock_name(connection, key)}).scalar()
    return None if used is None else Migrator("", 0, 0, "", 0, int(used))


@dataclass(slots=True)
class MySqlBackends(Backends):
    """The connections that hold a mark."""

    database: Database
    mark: str
    sees = True

    def how_to_end(self, pid: int) -> str:
        """By SQL."""
        return f"KILL {pid}"

    def ours(self, opened: Collection[int]) -> list[int]:
        """Those of which the upgrade told and which hold a mark; the other server of a migration has ids of its own."""
        return sorted(set(opened) & set(self.strangers()))

    def strangers(self) -> list[int]:
        """By the marks, in one statement."""
        marks = ", ".join(f"IS_USED_LOCK('{self.mark}/{number}')" for number in range(MYSQL_MARKS))
        return [int(pid) for row in self._ask(f"SELECT {marks}") for pid in row if pid is not None]

    def activity(self, pids: Collection[int]) -> Activity | None:
        """As the process list has it."""
        wanted = ", ".join(map(str, pids)) or "NULL"
        columns = "time, CASE command WHEN 'Sleep' THEN NULL ELSE info END, state"
        rows = self._ask(f"SELECT {columns} FROM information_schema.processlist WHERE id IN ({wanted})")
        return busiest(
            [Activity(float(age or 0), shortened(info), waiting=_waiting(state)) for age, info, state in rows]
        )

    def cancel(self, pids: Collection[int]) -> None:
        """By KILL QUERY."""
        self._kill("KILL QUERY", pids)

    def end(self, pids: Collection[int]) -> None:
        """By KILL."""
        self._kill("KILL", pids)

    def _kill(self, kill: str, pids: Collection[int]) -> None:
        """Only what holds a mark in this very server: after a restart ids begin anew."""
        for pid in set(pids) & set(self.strangers()):
            with suppress(DatabaseUnavailable):
                self._ask(f"{kill} {pid:d}")

    def _ask(self, statement: str) -> list[Any]:
        with connected(self.database) as connection:
            try:
                result = connection.execute(text(statement))
                return list(result) if result.returns_rows else []
            except SQLAlchemyError as error:
                raise explain(original(error), self.database.url()) from None


def _waiting(state: object) -> str:
    return str(state) if str(state or "").startswith("Waiting") else ""
