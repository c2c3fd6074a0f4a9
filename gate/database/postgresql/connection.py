"""Connecting to PostgreSQL with psycopg."""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from gate.database.location import Database, explain
from gate.errors import BadSettings, DatabaseUnavailable
from gate.files import why_refused
from gate.process.threads import BackgroundCall
from gate.settings.database_url import POSTGRESQL

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]
    Cursor = psycopg.Cursor[tuple[object, ...]]

T = TypeVar("T")


def load_driver() -> None:
    """Import psycopg in the calling thread, before the time limit of a check begins.

    Imported in the thread of a check it would cost 3 MB more, since the C library gives each thread a heap of its own.
    Raises `BadSettings` if psycopg cannot be imported.
    """
    try:
        import psycopg  # noqa: F401, PLC0415 - commands that only read scripts do not pay for it
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise BadSettings(
            f"psycopg cannot be loaded by {sys.executable} ({reason}): install psycopg[binary], or libpq."
        ) from None


def connect(database: Database, application_name: str = "gate") -> Connection:
    """Open an autocommit connection that never prepares a statement, so it holds no snapshot (hazards.md 3).

    Raises `DatabaseUnavailable`.
    """
    import psycopg  # noqa: PLC0415 - as above

    url = database.url()
    if url.engine not in POSTGRESQL:  # the file of the URL has changed; libpq would connect where PG* points
        raise DatabaseUnavailable(f"{url.display} does not speak PostgreSQL.")
    _reject_unreadable_files(url.conninfo)
    limits = {
        "application_name": application_name,
        "client_encoding": "utf8",
        "connect_timeout": str(math.ceil(database.connect_timeout)),
        "tcp_user_timeout": str(round(1000 * (database.connect_timeout + database.query_timeout))),
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
    }
    try:
        return psycopg.connect(  # parameters are bound in the client: the extended protocol leaves a snapshot behind
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor,
            **{**url.conninfo, **limits},  # type: ignore[arg-type]
        )
    except (psycopg.Error, OSError) as error:  # OSError: no file descriptor is left, for example
        raise explain(error, url) from None


LOST_SERVER = ("08", "57P")
"""How an SQLSTATE begins that is about the connection, or about a server that stops or starts."""

LIBPQ_FILES = {
    "PGPASSFILE": "passfile",
    "PGSERVICEFILE": "servicefile",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLCRL": "sslcrl",
}
"""Variables and parameters of files that libpq opens whatever they are; libpq 18 also a passfile. It checks a key."""

LIBPQ_DEFAULT_FILES = (
    "~/.pgpass", "~/.pg_service.conf", "~/.postgresql/root.crt", "~/.postgresql/postgresql.crt",
    "~/.postgresql/root.crl",
)  # fmt: skip
"""The files that libpq opens without being told to (PostgreSQL documentation, 32.16, 32.17 and 32.19)."""

MAX_LIBPQ_FILE_SIZE = 64 << 20
"""Bytes; the certificates of all public authorities take a quarter of a megabyte, a list of revoked ones a few."""


def _reject_unreadable_files(parameters: Mapping[str, str]) -> None:
    """Raise `BadSettings` for a file over which libpq would wait beyond every limit, and gate ignore signals.

    libpq reads it before the time limit of the connection begins, and psycopg holds Python's lock meanwhile.
    """
    for variable, parameter in LIBPQ_FILES.items():
        for name, path in ((variable, os.environ.get(variable)), (parameter, parameters.get(parameter))):
            if path and (reason := why_refused(path, MAX_LIBPQ_FILE_SIZE)):
                raise BadSettings(f"{name} names {path}, which {reason}; put a regular file there.")
    for path in map(os.path.expanduser, LIBPQ_DEFAULT_FILES):
        if reason := why_refused(path, MAX_LIBPQ_FILE_SIZE):
            raise BadSettings(f"{path}, which libpq reads, {reason}; put a regular file there, or delete it.")


class ReusedConnection:
    """A connection for many calls, one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def get(self) -> Connection:
        """Return the connection, a new one if it was closed; raises `DatabaseUnavailable`."""
        connection = self.current()
        if connection is None:
            connection = self._connection = connect(self._database)
        return connection

    def current(self) -> Connection | None:
        """Return the connection if it is open, and never open one."""
        return None if self._connection is None or self._connection.closed else self._connection

    def use(self, function: Callable[[Connection], T]) -> T:
        """Call a function with the connection, and again with a new one if it was lost while it was idle."""
        connection = self.get()
        try:
            return function(connection)
        except DatabaseUnavailable:
            if not connection.closed:
                raise
        return function(self.get())

    def close(self) -> None:
        """Close the connection, also under a call that still waits in another thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)


class ReusedConnections:
    """The connections of many migrations, one after the other: for the lock, and for checks and queries.

    `needed`: how many connections these migrations, and others at the same time, need; `are_unchecked`: whether the
    limits of the role and the database have not been compared with that.
    """

    def __init__(self, database: Database, needed: int) -> None:
        self.database, self.needed = database, needed
        self.are_unchecked = True
        self.lock, self.queries = ReusedConnection(database), ReusedConnection(database)

    def close(self) -> None:
        """Close both; another use opens them again."""
        self.lock.close()
        self.queries.close()


SHUTDOWN_TIMEOUT = 0.5
"""Seconds in which a call ends whose connection was shut down; it takes milliseconds."""


def execute_within(connection: Connection, statement: str, timeout: float) -> Cursor:
    """Execute a statement within `timeout` seconds: `tcp_user_timeout` does not end a connection that is acknowledged.

    Raises `TimeoutError`, after which the connection is of no use, and psycopg's errors.
    """
    call = BackgroundCall(lambda: connection.execute(statement))
    try:
        return call.result(timeout)
    except TimeoutError:
        _shut_down(connection)
        with suppress(Exception):
            call.result(SHUTDOWN_TIMEOUT)
        raise TimeoutError(f"timed out after {timeout:g} s") from None


def close(connection: Connection) -> None:
    """Close the connection, but never under a call that still waits in another thread.

    libpq would free what the call uses, and the call would go on with the descriptor of the next connection. Such a
    call is ended first. If it does not end in time, the connection is left to it.
    """
    if not connection.lock.acquire(blocking=False):
        _shut_down(connection)
        if not connection.lock.acquire(timeout=SHUTDOWN_TIMEOUT):
            return
    try:
        connection.close()
    finally:
        connection.lock.release()


def _shut_down(connection: Connection) -> None:
    """Let a call that waits for an answer fail: its socket reports the end of the connection."""
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


@contextmanager
def explained(database: Database, remedy: str = "") -> Iterator[None]:
    """Convert psycopg's errors in the block to `DatabaseUnavailable`.

    `remedy`: a sentence for an error of the statement, and not of the connection or the server as a whole.
    """
    import psycopg  # noqa: PLC0415 - as above

    try:
        yield
    except psycopg.Error as error:
        is_rejected = error.sqlstate and not error.sqlstate.startswith(LOST_SERVER)
        raise explain(error, database.url(), remedy if is_rejected else "") from None
