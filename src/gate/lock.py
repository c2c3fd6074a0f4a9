"""One migrator at a time: an advisory lock, polled, on a connection that holds no snapshot.

Every choice here was measured (FACTS 3): `CREATE INDEX CONCURRENTLY` waits for every snapshot, so the lock is
transaction-level (a pooler in transaction mode keeps it), at READ COMMITTED, asked for in one simple-protocol
message with literals; whoever is refused closes the connection and asks again on a fresh one.

Runbook, if a holder must be ended: `SELECT pid, application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND classid = 1734440037`, then `SELECT pg_terminate_backend(pid)`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.database import Database, explain
from gate.errors import BadSettings, DatabaseUnavailable, LockBusy, LockLost
from gate.migrator import LOCK_CLASS, LockKey, Migrator
from gate.stamp import literal

if TYPE_CHECKING:
    from gate.database import Connection

LIMITS = "'idle_in_transaction_session_timeout', 'statement_timeout', 'lock_timeout', 'transaction_timeout'"
"""What could end the holding transaction; each is set to 0 in it where this server knows it."""

ORPHAN_PATIENCE = 30.0
"""Seconds in which an ended predecessor's backend must be gone."""


@dataclass(slots=True)
class Lock:
    """The lock, held. `pid` is its backend in the server; 0 = GATE_LOCK=none, nothing is held."""

    key: LockKey
    database: Database
    pid: int = 0
    _connection: Connection | None = None

    def tell(self, migrator: Migrator) -> None:
        """Show the progress to whoever waits; raises `LockLost` like `keep`."""
        self._run(f"SELECT set_config('application_name', {literal(migrator.application_name(self.key))}, true)")

    def keep(self) -> None:
        """See that the lock is still held; raises `LockLost`."""
        self._run("SELECT 1")

    def _run(self, statement: str) -> None:
        if self._connection is None:
            return
        try:
            self._connection.execute(statement)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows any more who holds the lock
            raise LockLost(f"The connection that holds the migration lock was lost: {error}") from None


@contextmanager
def hold(database: Database, key: LockKey) -> Iterator[Lock]:
    """Take the lock by one try and hold it for the block.

    Raises `LockBusy` if another migrator has it, `DatabaseUnavailable`, and `BadSettings` where such a lock would be
    worth nothing: a standby, or an engine that accepts it and forgets it.
    """
    connection = database.connect()
    try:
        pid = _try(connection, key, database)
        _refuse_worthless(database, key)
        yield Lock(key, database, pid, connection)
    finally:
        with suppress(Exception):
            connection.execute("ROLLBACK")
        connection.close()


def _try(connection: Connection, key: LockKey, database: Database) -> int:
    if connection.info.parameter_status("crdb_version"):
        raise BadSettings(
            "CockroachDB accepts advisory locks and ignores them, so gate cannot keep two migrators apart there. "
            "Migrate with one single Job and set GATE_LOCK=none for it."
        )
    try:
        cursor = connection.execute(
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            f" SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ({LIMITS});"
            f" SELECT pg_is_in_recovery(), pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed}), pg_backend_pid()"
        )
        while cursor.nextset():
            pass
        standby, granted, pid = cursor.fetchone() or (None, None, 0)
    except Exception as error:  # noqa: BLE001 - psycopg is imported only by whoever connects
        raise explain(error, database.url()) from None
    if standby:
        raise BadSettings(
            "This database is a standby: it cannot be migrated. Point MIGRATION_DATABASE_URL to the primary."
        )
    if not granted:
        raise LockBusy
    assert isinstance(pid, int)
    return pid


def _refuse_worthless(database: Database, key: LockKey) -> None:
    """A second connection must be refused the key (7.6 ms, FACTS 3)."""
    with database.connect() as second:
        row = second.execute(f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed})").fetchone()
    if row and row[0]:
        raise BadSettings(
            "This server grants the migration lock to two connections at once, so it keeps nobody apart. Point "
            "MIGRATION_DATABASE_URL directly to PostgreSQL, or set GATE_LOCK=none and migrate with one single Job."
        )


def cancel(database: Database, pid: int) -> None:
    """Cancel the statement that this backend runs, if it still runs one."""
    _signal_backend(database, pid, "pg_cancel_backend")


def terminate(database: Database, pid: int) -> None:
    """End this backend."""
    _signal_backend(database, pid, "pg_terminate_backend")


def _signal_backend(database: Database, pid: int, function: str) -> None:
    with suppress(Exception), database.connect() as connection:
        connection.execute(f"SELECT {function}({pid:d})")


def end_predecessors(database: Database, key: LockKey) -> list[int]:
    """End what a killed migrator left running in the server, and wait until it is gone (FACTS 6).

    To be called with the lock held: then no living migrator can carry the tag. Gives the backends' process ids.
    Raises `DatabaseUnavailable` if one may not be ended or does not go.
    """
    found = orphans(database, key)
    for pid in found:
        terminate(database, pid)
    deadline = time.monotonic() + ORPHAN_PATIENCE
    while left := orphans(database, key) if found else []:
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"A killed migrator's statement still runs in backend {left[0]}, and this role may not end it. "
                f"gate does not migrate beside it: SELECT pg_terminate_backend({left[0]}) as its owner or a superuser."
            )
        time.sleep(0.1)
    return found


def orphans(database: Database, key: LockKey) -> list[int]:
    """The backends of this database in which a migration under this lock's tag works."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = current_database()"
            f" AND application_name LIKE {literal(key.working_name + '%')}"
            " AND backend_type IS DISTINCT FROM 'parallel worker'"
        ).fetchall()
    return [pid for (pid,) in rows if isinstance(pid, int)]
