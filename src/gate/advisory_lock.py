"""One migrator at a time: an advisory lock, polled, on a connection that holds no snapshot.

Every choice here was measured (HAZARDS 3): `CREATE INDEX CONCURRENTLY` waits for every snapshot, so the lock is
transaction-level (a pooler in transaction mode keeps it), at READ COMMITTED, asked for in one simple-protocol
message with literals; whoever is refused closes the connection and asks again on a fresh one.

Runbook, if a holder must be ended: `SELECT pid, application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND classid = 1734440037`, then `SELECT pg_terminate_backend(pid)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.backends import PostgresBackends
from gate.database import Database, explain
from gate.errand import Errand
from gate.errors import BadSettings, LockBusy, LockLost
from gate.lock import Lock
from gate.migrator import LOCK_CLASS, LockKey, Migrator
from gate.stamp import literal

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


@dataclass(slots=True)
class AdvisoryLock(Lock):
    """PostgreSQL's: held by the transaction of one connection, which also shows the holder's progress."""

    connection: Connection | None = None

    def tell(self, migrator: Migrator) -> None:
        """By the connection's application_name, which every role may read (HAZARDS 5)."""
        self._run(f"SELECT set_config('application_name', {literal(migrator.application_name(self.key))}, true)")

    def keep(self) -> None:
        """By a round trip, which also keeps a firewall between from forgetting the connection."""
        self._run("SELECT 1")

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

    Raises `LockBusy` if another migrator has it, `DatabaseUnavailable`, and `BadSettings` where such a lock would be
    worth nothing: a standby, or a server that accepts it and forgets it.
    """
    connection = database.connect()
    try:
        pid = _try(connection, key, database)
        _refuse_worthless(database, key)
        yield AdvisoryLock(
            key,
            database,
            PostgresBackends(database, key),
            _fence(key, pid),
            key.working_name,
            options=_options(connection, pid),
            connection=connection,
        )
    finally:
        with suppress(Exception):
            connection.execute("ROLLBACK")
        connection.close()


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
        raise BadSettings(
            "This database is a standby and cannot be migrated; let MIGRATION_DATABASE_URL name the primary."
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


def _options(connection: Connection, pid: int) -> str:
    """A server that notices a dead client soon (HAZARDS 6); a pooler refuses options, and shows by its pid."""
    pooled = connection.info.backend_pid != pid
    return "" if pooled or connection.info.server_version < CHECKS_CLIENTS else "-c client_connection_check_interval=1s"


def _fence(key: LockKey, pid: int) -> str:
    return (
        "SELECT current_database(), (SELECT count(*) FROM pg_catalog.pg_locks"
        " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
        f" AND classid = {LOCK_CLASS} AND objid = {key.number} AND pid = {pid}"
        " AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))"
    )


def _refuse_worthless(database: Database, key: LockKey) -> None:
    """A second connection must be refused the key (7.6 ms, HAZARDS 3)."""
    limit = database.connect_timeout + database.query_timeout
    try:
        granted = Errand(lambda: _granted_twice(database, key)).result(limit)
    except TimeoutError:
        raise BadSettings(
            f"The database gave gate no second connection within {limit:g} s. Lock and migration need one each, which "
            "a pooler with one server connection cannot give: point MIGRATION_DATABASE_URL directly to PostgreSQL."
        ) from None
    if granted:
        raise BadSettings(
            "This server grants the migration lock to two connections at once, so it keeps nobody apart. Point "
            "MIGRATION_DATABASE_URL directly to PostgreSQL, or set GATE_LOCK=none and migrate with one single Job."
        )


def _granted_twice(database: Database, key: LockKey) -> bool:
    with database.connect() as second:
        row = second.execute(f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed})").fetchone()
    return bool(row and row[0])
