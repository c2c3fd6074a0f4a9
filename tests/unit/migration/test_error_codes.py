"""Which errors mean that the database went away: by codes and by the state of the connection, never by English text."""

from __future__ import annotations

from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from gate.migration.child.error_codes import lock_conflict, shows_lost_database, sqlstate_of

asyncpg: Any = pytest.importorskip("asyncpg")
psycopg2: Any = pytest.importorskip("psycopg2")
pg8000: Any = pytest.importorskip("pg8000.exceptions")


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def wrapped(original: BaseException, *, invalidated: bool = False) -> DBAPIError:
    return OperationalError("SELECT 1", None, original, connection_invalidated=invalidated)


class Translated(Exception):
    """An error of psycopg2 with a code, which only the server can make."""

    def __init__(self, pgcode: str | None) -> None:
        super().__init__("Verbindung wird abgebrochen")
        self.pgcode = pgcode


LOST: list[BaseException] = [
    psycopg.errors.AdminShutdown("Verbindung wird abgebrochen"),
    psycopg.errors.CrashShutdown(),
    psycopg.errors.IdleSessionTimeout(),
    psycopg.errors.ConnectionFailure(),
    psycopg.OperationalError("the connection is lost"),
    wrapped(psycopg.OperationalError()),
    wrapped(psycopg.OperationalError(), invalidated=True),
    Translated("57P01"),
    wrapped(Translated("57P02")),
    wrapped(psycopg2.OperationalError("Server beendete die Verbindung"), invalidated=True),
    asyncpg.exceptions.ConnectionDoesNotExistError(),
    asyncpg.exceptions.AdminShutdownError(),
    wrapped(asyncpg.InterfaceError("connection is closed"), invalidated=True),
    pg8000.DatabaseError({"C": "57P01", "M": "Verbindung wird abgebrochen"}),
    caused(pg8000.InterfaceError("network error"), ConnectionResetError()),
    *(pymysql.OperationalError(number, "weg") for number in (1053, 1927, 2006, 2013, 2055, 4031)),
    pymysql.InterfaceError(0, ""),
    wrapped(pymysql.OperationalError(2013, "weg")),
    PendingRollbackError("Can't reconnect until invalid transaction is rolled back", code="8s2b"),
    caused(ValueError("the revision's own"), psycopg.errors.AdminShutdown()),
    ExceptionGroup("tasks", [ValueError(), psycopg.errors.AdminShutdown()]),
]

NOT_LOST: list[BaseException] = [
    ValueError("server closed the connection unexpectedly"),
    ConnectionResetError("of another service"),
    TimeoutError(),
    psycopg.errors.SyntaxError(),
    psycopg.errors.QueryCanceled(),
    psycopg.errors.LockNotAvailable(),
    wrapped(psycopg.errors.IdleInTransactionSessionTimeout(), invalidated=True),
    psycopg.errors.TooManyConnections(),
    psycopg.ProgrammingError("no result"),
    psycopg.InterfaceError("cursor already closed"),
    wrapped(Translated("25P03"), invalidated=True),
    wrapped(psycopg2.OperationalError("no such server")),
    asyncpg.InterfaceError("another operation is in progress"),
    pg8000.DatabaseError({"C": "42601", "M": "terminating connection"}),
    pg8000.InterfaceError("in failed transaction block"),
    pymysql.OperationalError(1205, "Lock wait timeout"),
    pymysql.ProgrammingError(1064, "Lost connection"),
    pymysql.OperationalError(2003, "refused"),
    SystemExit(1),
    KeyboardInterrupt(),
]


class WithState(pymysql.OperationalError):  # type: ignore[misc] # pymysql has no types
    """An error of the server, which has an SQLSTATE, too."""

    sqlstate = "HY000"


WithState.__module__ = "pymysql.err"


def name(error: BaseException) -> str:
    original = getattr(error, "orig", None)
    return type(error).__name__ + (f" of {type(original).__name__}" if original else "")


@pytest.mark.parametrize("error", LOST, ids=name)
def test_an_error_that_shows_a_lost_database(error: BaseException) -> None:
    assert shows_lost_database(error, connected=True)


@pytest.mark.parametrize("error", NOT_LOST, ids=name)
def test_an_error_that_shows_a_failed_migration(error: BaseException) -> None:
    assert not shows_lost_database(error, connected=True)


def test_a_connection_that_never_opened_is_lost_only_if_the_server_says_so() -> None:
    assert not shows_lost_database(psycopg.OperationalError("refused"), connected=False)
    assert not shows_lost_database(asyncpg.exceptions.ProtocolViolationError("no such user"), connected=False)
    assert shows_lost_database(asyncpg.exceptions.CannotConnectNowError("starting up"), connected=False)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.ConnectionTimeout("timeout"),
        ConnectionRefusedError(),
        asyncpg.exceptions.CannotConnectNowError(),
        asyncpg.exceptions.TooManyConnectionsError(),
    ],
    ids=name,
)
def test_a_connection_with_the_right_parameters_that_cannot_be_opened_is_lost(error: Exception) -> None:
    raised = caused(RuntimeError("env.py gives up"), wrapped(error))
    assert shows_lost_database(raised, connected=False, unopened=error)
    assert not shows_lost_database(ValueError("another one"), connected=False, unopened=error)


def test_a_server_that_refuses_the_user_is_not_lost() -> None:
    refused = asyncpg.exceptions.InvalidPasswordError("wrong password")
    assert not shows_lost_database(refused, connected=False, unopened=refused)


@pytest.mark.parametrize("text", [None, "", 7, ("a",), {"C": 5}])
def test_an_error_of_any_shape_has_a_code_or_none(text: object) -> None:
    assert sqlstate_of(Exception(text)) is None
    assert not shows_lost_database(Exception(text), connected=True)


@pytest.mark.parametrize(
    ("error", "conflict"),
    [
        (psycopg.errors.LockNotAvailable(), "timeout"),
        (psycopg.errors.DeadlockDetected(), "deadlock"),
        (wrapped(Translated("55P03")), "timeout"),
        (wrapped(Translated("40P01")), "deadlock"),
        (asyncpg.exceptions.LockNotAvailableError(), "timeout"),
        (pg8000.DatabaseError({"C": "40P01"}), "deadlock"),
        (wrapped(pymysql.OperationalError(1205, "timeout")), "timeout"),
        (pymysql.OperationalError(1213, "deadlock"), "deadlock"),
        (wrapped(WithState(1205, "timeout")), "timeout"),
        (caused(ValueError("the revision's own"), psycopg.errors.LockNotAvailable()), "timeout"),
        (caused(psycopg.errors.SyntaxError(), psycopg.errors.LockNotAvailable()), ""),
        (psycopg.errors.SerializationFailure(), ""),
        (psycopg.errors.QueryCanceled(), ""),
        (ValueError("canceling statement due to lock timeout"), ""),
        (pymysql.OperationalError(2013, "gone"), ""),
    ],
    ids=lambda value: name(value) if isinstance(value, BaseException) else value,
)
def test_an_error_that_shows_a_lost_lock(error: BaseException, conflict: str) -> None:
    assert lock_conflict(error) == conflict


def test_errors_that_cause_each_other_are_judged() -> None:
    one, other = ValueError(), TypeError()
    one.__context__, other.__context__ = other, one
    assert not shows_lost_database(one, connected=True)
