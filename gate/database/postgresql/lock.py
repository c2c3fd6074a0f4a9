"""One migrator at a time: an advisory lock, polled, on a connection that holds no snapshot.

Every choice here was measured (hazards.md 3). `CREATE INDEX CONCURRENTLY` waits for every snapshot, so the lock is
transaction-level (a pooler in transaction mode keeps it), at READ COMMITTED, requested in one simple-protocol message
with literals. A refused gate closes the connection and tries again on a new one.

Runbook, to end a holder: `SELECT pid, application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND classid = 1734440037`, then `SELECT pg_terminate_backend(pid)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.database.location import Database, explain
from gate.database.lock import LOCK_CLASS, OTHER_SERVER, SERVER_TIMEOUT, Lock, LockKey, Migrator
from gate.database.postgresql.connection import ReusedConnections, execute_within, explained
from gate.database.postgresql.sessions import PostgresSessions, query_on_connection, query_on_new_connection
from gate.database.postgresql.sql import string
from gate.errors import BadSettings, DatabaseUnavailable, LockBusy, LockLost, ResourceShortage
from gate.process.threads import BackgroundCall, try_for

if TYPE_CHECKING:
    from gate.database.postgresql.connection import Connection


DISABLED_TIMEOUTS = "'idle_in_transaction_session_timeout', 'statement_timeout', 'lock_timeout', 'transaction_timeout'"
"""Settings that could end the transaction of the lock; each that the server has is set to 0 in it."""

KEEPALIVES = (
    "('tcp_keepalives_idle', '3'), ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3'),"
    " ('tcp_user_timeout', '8000')"
)
"""With these the server notices in 8.5 s that the holder's machine died; by default not in 40 s (hazards.md 6)."""

MIN_CLIENT_CHECK_VERSION = 140000
"""The first version of PostgreSQL with client_connection_check_interval."""

RELEASE_TIMEOUT = 0.5
"""Seconds to release the lock; after that the connection is closed."""

CONNECTIONS = 3
"""Connections that are open at once while gate migrates: the lock, its check, and env.py's (or an inspection)."""

LIMITS_TIMEOUT = 2.0
"""Seconds for reading the CONNECTION LIMIT of the role and of the database."""

STARTED_AT = "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint"
"""When the server was started, in microseconds: by that every role can tell two servers of one cluster apart."""

POOL_WAIT_FACTOR = 3
"""A busy pool may take this many times the limits of a check to provide a connection."""


@dataclass(slots=True)
class AdvisoryLock(Lock):
    """Held by the transaction of one connection, whose application_name also shows the holder's progress.

    A connection that does not answer in time counts as lost: a proxy may have lost its side to the server, where the
    lock is then free, and still acknowledge.
    """

    connection: Connection | None = None
    same_server: str = "true"
    """The SQL condition that a connection has reached the server where the lock is held."""

    def publish_progress(self, migrator: Migrator) -> None:
        """Set the application_name, which every role may read (hazards.md 5); SET takes no snapshot."""
        self._run(f"SET LOCAL application_name TO {string(migrator.application_name(self.key))}")

    def verify(self) -> None:
        """Make a round trip, which also keeps firewalls from dropping the connection; SHOW takes no snapshot."""
        self._run("SHOW application_name")

    def verify_server(self, timeout: float = SERVER_TIMEOUT) -> None:
        """Ask on a new connection. Where env.py and other gates reach another server, the lock protects nothing."""
        query = query_on_new_connection(self.database)
        if try_for(timeout, lambda: query(f"SELECT {self.same_server}")) == [(False,)]:
            raise LockLost(OTHER_SERVER)

    def _run(self, statement: str) -> None:
        assert self.connection
        try:
            execute_within(self.connection, statement, self.database.answer_timeout)
        except ResourceShortage:  # gate could not ask
            raise
        except Exception as error:  # noqa: BLE001 - after any error it is unknown who holds the lock
            reason = " ".join(str(error).split())
            raise LockLost(f"The connection that holds the migration lock was lost ({reason})") from None


@contextmanager
def acquire(database: Database, key: LockKey, reused: ReusedConnections | None = None) -> Iterator[Lock]:
    """Try once to acquire the lock, and hold it for the block.

    `reused`: the connections for the lock and for the queries meanwhile, None = new ones.

    Raises `LockBusy` if another migrator holds it; `DatabaseUnavailable`, also for a standby; and `BadSettings` where
    the lock would protect nothing: behind a pooler without a second connection, or on a server that ignores locks.
    """
    connections = reused or ReusedConnections(database, CONNECTIONS)
    pooled = False
    try:
        pid, started_at = connections.lock.use(lambda connection: _try_lock(connection, key, database))
        connection, same_server = connections.lock.get(), f"{STARTED_AT} = {started_at}"
        pooled = connection.info.backend_pid != pid
        second = _second_connection(connections, key, connection, same_server, pooled=pooled)
        if pooled:
            connections.queries.close()  # the pool may need it for the migration
        tag, held = f"{key.working_name} {os.urandom(4).hex()}", f"({same_server} AND {_held_condition(key, pid)})"
        yield AdvisoryLock(
            key,
            database,
            PostgresSessions(query_on_connection(second, database), key, tag, held, same_server),
            f"SELECT current_database(), {held}",
            tag,
            environment={} if pooled else _client_environment(connection, tag),
            connection=connection,
            same_server=same_server,
        )
    finally:
        if not _release(connections) or pooled or not reused:  # the lock ends with its connection, too
            connections.close()


def _release(connections: ReusedConnections) -> bool:
    """End the transaction of the lock; return whether that worked, so that its connection can be used again."""
    connection = connections.lock.current()
    if connection is None:
        return False
    try:
        execute_within(connection, "ROLLBACK", RELEASE_TIMEOUT)
    except Exception:  # noqa: BLE001 - the connection is lost
        return False
    return True


def _check_connection_limits(connection: Connection, needed: int) -> None:
    """Raise `BadSettings` if the CONNECTION LIMIT of the role or the database is too low to migrate at all.

    The limits of superusers do not count (`InitializeSessionUserId`). An error of the server leaves the limits unknown.
    """
    limits = (
        "SELECT 'role', rolname, rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = session_user AND NOT rolsuper"
        " UNION ALL SELECT 'database', datname, datconnlimit FROM pg_catalog.pg_database, pg_catalog.pg_roles"
        " WHERE datname = current_database() AND rolname = session_user AND NOT rolsuper"
    )
    use = "the lock, its check and the migration" + (", for each of --jobs, and one" if needed > CONNECTIONS else "")
    for kind, name, limit in try_for(LIMITS_TIMEOUT, lambda: connection.execute(limits).fetchall()) or []:
        assert isinstance(limit, int)
        if 0 <= limit < needed:
            raise BadSettings(
                f"gate needs {needed} connections to migrate (for {use}), and the {kind} {name} has a CONNECTION LIMIT "
                f"of {limit}. Raise it: ALTER {str(kind).upper()} {name} CONNECTION LIMIT {needed}; or let "
                "MIGRATION_DATABASE_URL name another role."
            )


def _try_lock(connection: Connection, key: LockKey, database: Database) -> tuple[int, int]:
    """Request the lock; return the server's process id of the connection, and when the server was started."""
    refuse_cockroachdb(connection.info.parameter_status("crdb_version"))
    try:
        cursor = execute_within(
            connection,
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            f" SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ({DISABLED_TIMEOUTS});"
            f" SELECT set_config(name, w.value, true) FROM pg_catalog.pg_settings JOIN (VALUES {KEEPALIVES})"
            " w (name, value) USING (name);"
            # A standby grants the lock, too: gates that wait for it to be promoted would see each other as migrators.
            " SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN"
            f" pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed}) END, pg_backend_pid(), {STARTED_AT}",
            POOL_WAIT_FACTOR * database.answer_timeout,
        )
        while cursor.nextset():
            pass
        standby, granted, pid, started_at = cursor.fetchone() or (None, None, 0, 0)
    except ResourceShortage:
        raise
    except Exception as error:  # noqa: BLE001 - psycopg's errors cannot be named without importing it
        raise _explain_failure(error, database) from None
    if standby:
        raise DatabaseUnavailable(
            "This database is a standby and cannot be migrated: let MIGRATION_DATABASE_URL name the primary (with "
            "several hosts by target_session_attrs=read-write), or wait until this server has been promoted."
        )
    if not granted:
        raise LockBusy
    assert isinstance(pid, int)
    assert isinstance(started_at, int)
    return pid, started_at


def refuse_cockroachdb(version: str | None) -> None:
    """Raise `BadSettings` if the server reports a version of CockroachDB, as it does at each connect."""
    if version:
        raise BadSettings(
            "CockroachDB accepts advisory locks and ignores them, so gate cannot keep two migrators apart there. "
            "Migrate with one single Job and set GATE_LOCK=none for it."
        )


def _explain_failure(error: Exception, database: Database) -> Exception:
    if "statement pooling" in str(error):
        return BadSettings(
            "A pooler in statement mode allows no transaction, so no lock can be held through it: point "
            "MIGRATION_DATABASE_URL directly to PostgreSQL."
        )
    return explain(error, database.url())


def _client_environment(connection: Connection, tag: str) -> dict[str, str]:
    """Variables for other programs that connect: the tag, and a server that soon notices a dead client (hazards.md 6).

    Not for use through a pooler, which refuses options and keeps the name for the next client.
    """
    checks = connection.info.server_version >= MIN_CLIENT_CHECK_VERSION
    return {"PGAPPNAME": tag, **({"PGOPTIONS": "-c client_connection_check_interval=1s"} if checks else {})}


def _held_condition(key: LockKey, pid: int) -> str:
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
        f" AND classid = {LOCK_CLASS} AND objid = {key.number} AND pid = {pid}"
        " AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))"
    )


def _second_connection(
    connections: ReusedConnections, key: LockKey, first: Connection, same_server: str, *, pooled: bool
) -> Connection:
    """Return a second connection to the same server, which must be refused the lock (7.6 ms, hazards.md 3)."""
    needed = connections.needed - pooled
    try:
        granted, is_same = _ask_second(connections, key, first, same_server, pooled=pooled)
    except DatabaseUnavailable:
        _check_connection_limits(first, needed)  # "too many connections" is permanent below these
        raise
    if granted and not _answers(first, connections.database):  # its end has released the lock
        raise DatabaseUnavailable("The connection that holds the migration lock was lost. gate tries again.")
    if not is_same:
        raise DatabaseUnavailable(f"{OTHER_SERVER}. gate tries again.")
    if granted:
        raise BadSettings(
            "This server grants the migration lock to two connections at once, so it cannot keep migrators apart. "
            "Point MIGRATION_DATABASE_URL directly to PostgreSQL, or set GATE_LOCK=none and migrate with a single Job."
        )
    second = connections.queries.get()
    if connections.are_unchecked:
        _check_connection_limits(second, needed)
        connections.are_unchecked = False
    return second


def _ask_second(
    connections: ReusedConnections, key: LockKey, first: Connection, same_server: str, *, pooled: bool
) -> tuple[bool, bool]:
    """Return whether the second connection is granted the lock, too, and whether it has reached the same server.

    Raises `BadSettings` if a pooler that answers has no second connection, and `DatabaseUnavailable` if the network
    may have frozen (hazards.md 21).
    """
    limit = POOL_WAIT_FACTOR * connections.database.answer_timeout

    def ask() -> tuple[bool, bool]:
        return connections.queries.use(lambda second: _try_second(second, connections.database, key, same_server))

    try:
        return BackgroundCall(ask).result(limit)
    except TimeoutError:
        text = f"The database gave gate no second connection within {limit:g} s. "
        if pooled and _answers(first, connections.database):
            raise BadSettings(
                f"{text}The lock and the migration need one each, and a pooler with one server connection cannot "
                "provide both: point MIGRATION_DATABASE_URL directly to PostgreSQL."
            ) from None
        raise DatabaseUnavailable(
            f"{text}The connection hangs, or a pooler has no other one: then point MIGRATION_DATABASE_URL directly to "
            "PostgreSQL."
        ) from None


def _answers(connection: Connection, database: Database) -> bool:
    try:
        execute_within(connection, "SHOW application_name", database.answer_timeout)
    except Exception:  # noqa: BLE001 - the connection is lost
        return False
    return True


def _try_second(second: Connection, database: Database, key: LockKey, same_server: str) -> tuple[bool, bool]:
    request = f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {key.signed}), {same_server}"
    with explained(database):
        granted, is_same = second.execute(request).fetchone() or (False, False)
    return bool(granted), bool(is_same)
