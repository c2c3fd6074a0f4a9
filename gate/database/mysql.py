"""MySQL and MariaDB: one migrator at a time by GET_LOCK, and the sessions that a killed one left.

The lock is server-wide, so the database's name is part of its name, and its result must be checked (hazards.md 7). A
server does not notice while a statement runs that its client died, and sessions have no application_name. So each
connection of a migration holds a second named lock as its tag, which ends with the connection.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from gate.database.generic import GenericEngine, driver_error
from gate.database.location import Database, explain
from gate.database.lock import MYSQL_TAGS, OTHER_SERVER, SERVER_TIMEOUT, Lock, LockKey, Migrator
from gate.database.sessions import Activity, Blocker, Sessions, busiest, shorten_statement
from gate.errors import DatabaseUnavailable, LockBusy, LockLost
from gate.process.threads import BackgroundCall, try_for

SESSION_WAIT_TIMEOUT = 31536000
"""Seconds of wait_timeout: an idle holder must not lose the lock."""

CONNECTION_LOST = "The connection that holds the migration lock was lost"


class MySqlEngine(GenericEngine):
    """MySQL and MariaDB, which commit each DDL statement by itself."""

    has_substr = True

    def prepare(self, connection: Connection) -> None:
        """Use AUTOCOMMIT: a long-lived connection would read from an old snapshot (hazards.md 7)."""
        connection.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    def read_migrator(cls, connection: Connection, key: LockKey) -> Migrator | None:
        """The connection that holds the lock; the server shows nothing else about it."""
        used = connection.execute(text("SELECT IS_USED_LOCK(:n)"), {"n": lock_name(connection, key)}).scalar()
        return None if used is None else Migrator("", 0, 0, "", 0, int(used))

    @contextmanager
    def acquire(self, key: LockKey) -> Iterator[Lock]:
        """Acquire a named lock; raises `LockBusy`."""
        with self.connect() as connection:
            name, own = _acquire_named_lock(connection, key, self._database)
            schema = str(connection.engine.url.database or "").replace("'", "''")
            fence = f"SELECT DATABASE(), IS_USED_LOCK('{name}') = {own} AND DATABASE() = '{schema}'"
            sessions = self.sessions(key, name)
            try:
                yield NamedLock(key, self._database, sessions, fence, name, transactional=False, connection=connection)
            finally:
                connection.invalidate()  # closes the connection, which releases the lock

    def sessions(self, key: LockKey, tag: str = "") -> Sessions:  # noqa: ARG002 - the tag holds the key
        """Ask for the holders of the tags."""
        return MySqlSessions(self._database, tag)


@dataclass(slots=True)
class NamedLock(Lock):
    """A lock of one connection, held until that ends; `tag` is its name."""

    connection: Connection | None = None

    def verify(self) -> None:
        """Ask the server for the holder of the lock; a connection that does not answer in time counts as lost."""
        limit = self.database.answer_timeout
        try:
            held = BackgroundCall(self._is_held).result(limit)
        except TimeoutError:
            raise LockLost(f"{CONNECTION_LOST} (timed out after {limit:g} s)") from None
        except SQLAlchemyError as error:
            raise LockLost(f"{CONNECTION_LOST} ({driver_error(error)})") from None
        if not held:
            raise LockLost("The server gave the migration lock to another connection")

    def verify_server(self, timeout: float = SERVER_TIMEOUT) -> None:
        """Ask on a new connection who holds the lock: another server has other holders."""
        rows = try_for(timeout, lambda: _query(self.database, self.fence))
        if rows and not rows[0][1]:
            raise LockLost(OTHER_SERVER)

    def _is_held(self) -> bool:
        assert self.connection is not None
        held = text("SELECT IS_USED_LOCK(:n) = CONNECTION_ID()")
        return bool(self.connection.execute(held, {"n": self.tag}).scalar())


def _acquire_named_lock(connection: Connection, key: LockKey, database: Database) -> tuple[str, int]:
    try:
        connection.execute(text(f"SET SESSION wait_timeout = {SESSION_WAIT_TIMEOUT}"))
        name = lock_name(connection, key)
        granted = connection.execute(text("SELECT GET_LOCK(:n, 0)"), {"n": name}).scalar()
        own = int(connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())
    except SQLAlchemyError as error:
        raise explain(driver_error(error), database.url()) from None
    if granted != 1:
        raise LockBusy
    return name, own


def lock_name(connection: Connection, key: LockKey) -> str:
    """One name for each version table of each database; it takes 22 of the 64 characters that MySQL allows."""
    schema = str(connection.execute(text("SELECT DATABASE()")).scalar() or "")
    return f"{key.tag}/{zlib.crc32(schema.encode()):08x}"


@dataclass(slots=True)
class MySqlSessions(Sessions):
    """The connections that hold a tag."""

    database: Database
    tag: str
    visible = True

    def termination_statement(self, pid: int) -> str:
        """SQL's KILL."""
        return f"KILL {pid}"

    def own(self, opened: Collection[int]) -> list[int]:
        """Those that the migration has reported and that hold a tag: another server has connection ids of its own."""
        return sorted(set(opened) & set(self.orphaned()))

    def orphaned(self) -> list[int]:
        """The holders of all tags, in one statement."""
        tags = ", ".join(f"IS_USED_LOCK('{self.tag}/{number}')" for number in range(MYSQL_TAGS))
        return [int(pid) for row in self._query(f"SELECT {tags}") for pid in row if pid is not None]

    def existing(self, pids: Collection[int]) -> list[int]:
        """Find them by their ids in the process list, which shows at least this user's."""
        rows = self._query(f"SELECT id FROM information_schema.processlist WHERE id IN ({_join_ids(pids)})")
        return [int(pid) for (pid,) in rows]

    def activity(self, pids: Collection[int]) -> Activity | None:
        """Read the process list."""
        columns = "time, CASE command WHEN 'Sleep' THEN NULL ELSE info END, state"
        rows = self._query(f"SELECT {columns} FROM information_schema.processlist WHERE id IN ({_join_ids(pids)})")
        waits = any(_wait_state(state) for _, _, state in rows)
        blockers = self._open_transactions(pids) if waits else ()
        return busiest(
            [
                Activity(
                    float(age or 0),
                    shorten_statement(info),
                    blockers if _wait_state(state) else (),
                    wait_state=_wait_state(state),
                )
                for age, info, state in rows
            ]
        )

    def _open_transactions(self, own: Collection[int]) -> tuple[Blocker, ...]:
        """The transactions of others, oldest first: the server shows who holds a metadata lock only to plugins."""
        age = "timestampdiff(SECOND, t.trx_started, now())"
        statement = (
            f"SELECT t.trx_mysql_thread_id, p.user, p.command, {age} FROM information_schema.innodb_trx t"
            " LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
            f" WHERE t.trx_mysql_thread_id NOT IN (0, {_join_ids(own)}) ORDER BY t.trx_started"
        )
        with suppress(DatabaseUnavailable):  # it takes the privilege PROCESS
            return tuple(
                Blocker(int(pid), str(user or ""), str(command or ""), float(seconds or 0))
                for pid, user, command, seconds in self._query(statement)
            )
        return ()

    def cancel(self, pids: Collection[int]) -> None:
        """Send KILL QUERY."""
        self._kill("KILL QUERY", pids)

    def terminate(self, pids: Collection[int]) -> None:
        """Send KILL."""
        self._kill("KILL", pids)

    def _kill(self, kill: str, pids: Collection[int]) -> None:
        """Kill only holders of a tag: after a restart of the server, connection ids begin anew."""
        for pid in set(pids) & set(self.orphaned()):
            with suppress(DatabaseUnavailable):
                self._query(f"{kill} {pid:d}")

    def _query(self, statement: str) -> list[Any]:
        return _query(self.database, statement)


def _query(database: Database, statement: str) -> list[Any]:
    """Ask on a new connection; only some drivers have a time-out of their own."""
    limit = database.answer_timeout
    try:
        return BackgroundCall(lambda: _rows(database, statement)).result(limit)
    except TimeoutError:
        raise explain(TimeoutError(f"timed out after {limit:g} s"), database.url()) from None


def _rows(database: Database, statement: str) -> list[Any]:
    with MySqlEngine(database).connect() as connection:
        try:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []
        except SQLAlchemyError as error:
            raise explain(driver_error(error), database.url()) from None


def _join_ids(pids: Collection[int]) -> str:
    return ", ".join(f"{pid:d}" for pid in pids) or "NULL"


def _wait_state(state: object) -> str:
    return str(state) if str(state or "").startswith("Waiting") else ""
