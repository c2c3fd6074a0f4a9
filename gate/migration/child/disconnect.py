"""Whether an error of a migration means that its database went away, by codes: messages are translated."""

from __future__ import annotations

from collections.abc import Iterator

LOST_SQLSTATES = ("08", "57P0")
"""How the SQLSTATEs begin: connection exceptions, and sessions that the server ends (PostgreSQL, appendix A)."""

CONNECT_SQLSTATES = ("57P0",)
"""The same for a connection that could not be opened: PgBouncer reports a wrong user or database as 08P01, too."""

MYSQL_DRIVERS = frozenset({"MySQLdb", "aiomysql", "asyncmy", "mariadb", "mysql", "pymysql"})
"""The packages of MySQL's drivers. Their errors have a number."""

LOST_MYSQL_ERRORS = frozenset({1053, 1927, 2006, 2013, 2055, 3169, 4031})
"""Shutdown in progress, connection killed (MariaDB), server gone, connection lost (twice), session killed (MySQL),
and disconnected for inactivity (MySQL, MariaDB: server and client error references)."""

CLOSED_MYSQL_CONNECTION = 0
"""The number of the InterfaceError of pymysql and mysqlclient for a connection that is closed."""

INVALIDATED = "8s2b"
"""SQLAlchemy's code of the error that follows when a migration goes on after its connection was lost."""


def shows_lost_database(error: BaseException, *, connected: bool) -> bool:
    """Whether the database went away. `connected`: whether this process has been connected to it before."""
    errors = list(_related(error))
    states = [state for each in errors if (state := sqlstate_of(each))]
    if states:  # the server's own word; it may have closed the connection after any error
        return states[0].startswith(LOST_SQLSTATES if connected else CONNECT_SQLSTATES)
    return connected and any(map(_is_disconnect, errors))


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error: of psycopg and asyncpg, psycopg2, or pg8000."""
    arguments = error.args[0] if error.args else None
    code = arguments.get("C") if isinstance(arguments, dict) else None
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or code
    return state if isinstance(state, str) else None


def _related(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the errors of its group, and those that caused it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [getattr(each, "orig", None), each.__cause__, each.__context__]


def _is_disconnect(error: BaseException) -> bool:
    if getattr(error, "connection_invalidated", False) or getattr(error, "code", None) == INVALIDATED:
        return True
    package = type(error).__module__.partition(".")[0]
    if package in MYSQL_DRIVERS:
        return _is_lost_mysql(error)
    if package == "psycopg":  # `pgconn` is set where the connection could not be opened
        return type(error).__name__ == "OperationalError" and getattr(error, "pgconn", None) is None
    if package == "psycopg2":
        connection = getattr(getattr(error, "cursor", None), "connection", None)
        return bool(getattr(connection, "closed", 0))
    return package == "pg8000" and isinstance(error.__cause__, OSError)


def _is_lost_mysql(error: BaseException) -> bool:
    number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
    if type(error).__name__ == "InterfaceError" and number == CLOSED_MYSQL_CONNECTION:
        return True
    return number in LOST_MYSQL_ERRORS
