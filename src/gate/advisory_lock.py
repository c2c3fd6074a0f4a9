"""One migrator at a time: an advisory lock, polled, on a connection that holds no snapshot.

Every choice here was measured (HAZARDS 3): `CREATE INDEX CONCURRENTLY` waits for every snapshot, so the lock is
transaction-level (a pooler in transaction mode keeps it), at READ COMMITTED, asked for in one simple-protocol
message with literals; whoever is refused closes the connection and asks again on a fresh one.

Runbook, if a holder must be ended: `SELECT pid, application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND classid = 1734440037`, then `SELECT pg_terminate_backend(pid)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.asking import beside
from gate.backends import PostgresBackends
from gate.database import Database, explain
from gate.errand import Errand, within
from gate.errors import BadSettings, DatabaseUnavailable, LockBusy, LockLost
from gate.lock import Lock
from gate.migrator import LOCK_CLASS, LockKey, Migrator
from gate.sql_text import string

if TYPE_CHECKING:
    from gate.database import Connection

LIMITS = "'idle_in_transaction_session_timeout', 'statement_timeout', 'lock_timeout', 'transaction_timeout'"
"""What could end the holding transaction; each is set to 0 in it where this server knows it."""

DEAD_PEER = (
    "('tcp_keepalives_idle', '3'), ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3'),"
    " ('tcp_user_timeout', '8000')"
)
"""How soon the server notices that the holder's machine died: in 8.5 s; by its defaults not within 40 (HAZARDS 6)."""

CHECKS_CLIENTS = 140000
"""The first PostgreSQL that has client_connection_check_interval."""

RELEASED_WITHIN = 0.5
"""Seconds for giving the lock back; a server that hangs loses the connection instead."""

PATIENCE = 3
"""How many times the limits of a look a busy pool may take to give a second connection."""


@dataclass(slots=True)
class AdvisoryLock(Lock):
    """PostgreSQL's: held by the transaction of one connection, which also shows the holder's progress."""

    connection: Connection | None = None

    def tell(self, migrator: Migrator) -> None:
        """By the connection's application_name, which every role may read (HAZARDS 5); SET takes no snapshot."""
        self._run(f"SET LOCAL application_name TO {string(migrator.application_name(self.key))}")

    def keep(self) -> None:
        """By a round trip, so that no firewall between forgets the connection; SHOW takes no snapshot."""
        self._run("SHOW application_name")

    def _run(self, statement: str) -> None:
        assert self.connection
        try:
            self.connection.execute(statement)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows any more who holds the lock
            why = " ".join(str(error).split())
            raise LockLost(f"The connection that holds the migration lock was lost ({why})") from None


@contextmanager
def hold(database: Database, key: LockKey) -> Iterator[Lock]:
    """Take the lock by one try and hold it for the block.

    Raises `LockBusy` if another migrator has it, `DatabaseUnavailable`, also for a standby, and `BadSettings` where it
    would be worth nothing: a pooler without a second connection, or a server that accepts the lock and forgets it.
    """
    connection, second = database.connect(), None
    try:
        pid = _try(connection, key, database)
        pooled = connection.info.backend_pid != pid
        second = _refused(database, key)
        if pooled:
            second.close()  # the pool may have none to spare
        mark, held = f"{key.working_name} {os.urandom(4).hex()}", _held(key, pid)
        yield AdvisoryLock(
            key,
            database,
            PostgresBackends(beside(second, database), key, mark, held),
            f"SELECT current_database(), {held}",
            mark,
            environment={} if pooled else _environment(connection, mark),
            connection=connection,
        )
    finally:
        within(RELEASED_WITHIN, lambda: connection.execute("ROLLBACK"))
        connection.close()
        if second is not None:
            second.close()


def _try(connection: Connection, key: LockKey, database: Database) -> int:
    refuse_cockroachdb(connection.info.parameter_status("crdb_version"))
    try:
        cursor = connection.execute(
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            f" SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ({LIMITS});"
            f" SELECT set_config(name, w.value, true) FROM pg_catalog.pg_settings JOIN (VALUES {DEAD_PEER})"
            " w (name, value) USING (name);"
            f" SELECT pg_is_in_recovery(), pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed}), pg_backend_pid()"
        )
        while cursor.nextset():
            pass
        standby, granted, pid = cursor.fetchone() or (None, None, 0)
    except Exception as error:  # noqa: BLE001 - psycopg is imported only by whoever connects
        raise _no_lock(error, database) from None
    if standby:
        raise DatabaseUnavailable(
            "This database is a standby and cannot be migrated: let MIGRATION_DATABASE_URL name the primary, or wait "
            "until this one has become it."
        )
    if not granted:
        raise LockBusy
    assert isinstance(pid, int)
    return pid


def refuse_cockroachdb(version: str | None) -> None:
    """It speaks PostgreSQL and tells its version at each connect; raises `BadSettings` if there is one."""
    if version:
        raise BadSettings(
            "CockroachDB accepts advisory locks and ignores them, so gate cannot keep two migrators apart there. "
            "Migrate with one single Job and set GATE_LOCK=none for it."
        )


def _no_lock(error: Exception, database: Database) -> Exception:
    if "statement pooling" in str(error):
        return BadSettings(
            "A pooler in statement mode allows no transaction, so no lock can be held through it: point "
            "MIGRATION_DATABASE_URL directly to PostgreSQL."
        )
    return explain(error, database.url())


def _environment(connection: Connection, mark: str) -> dict[str, str]:
    """For whatever else connects: the mark, and a server that notices a dead client soon (HAZARDS 6).

    Not through a pooler, which refuses options and hands a name on to other clients.
    """
    checks = connection.info.server_version >= CHECKS_CLIENTS
    return {"PGAPPNAME": mark, **({"PGOPTIONS": "-c client_connection_check_interval=1s"} if checks else {})}


def _held(key: LockKey, pid: int) -> str:
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
        f" AND classid = {LOCK_CLASS} AND objid = {key.number} AND pid = {pid}"
        " AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))"
    )


def _refused(database: Database, key: LockKey) -> Connection:
    """A second connection, which must be refused the key (7.6 ms, HAZARDS 3); a busy pool is given time to have one."""
    limit = PATIENCE * (database.connect_timeout + database.query_timeout)
    try:
        second, granted = Errand(lambda: _second(database, key)).result(limit)
    except TimeoutError:
        raise BadSettings(
            f"The database gave gate no second connection within {limit:g} s. Lock and migration need one each, which "
            "a pooler with one server connection cannot give: point MIGRATION_DATABASE_URL directly to PostgreSQL."
        ) from None
    if granted:
        second.close()
        raise BadSettings(
            "This server grants the migration lock to two connections at once, so it keeps nobody apart. Point "
            "MIGRATION_DATABASE_URL directly to PostgreSQL, or set GATE_LOCK=none and migrate with one single Job."
        )
    return second


def _second(database: Database, key: LockKey) -> tuple[Connection, bool]:
    second = database.connect()
    rows = beside(second, database)(f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed})")
    return second, bool(rows[0][0])
