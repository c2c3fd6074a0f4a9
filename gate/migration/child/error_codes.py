"""What an error of a migration means, by codes, since messages are translated: a lost database, or a lost lock."""

from __future__ import annotations

from collections.abc import Iterator

LOST_SQLSTATES = ("08", "57P0")
"""How the SQLSTATEs begin: connection exceptions, and sessions that the server ends (PostgreSQL, appendix A)."""

CONNECT_SQLSTATES = ("57P0",)
"""The same for a connection that could not be opened: PgBouncer reports a wrong user or database as 08P01, too."""

UNOPENED_SQLSTATES = (*LOST_SQLSTATES, "53")
"""The same where its parameters are known to be right: then too many connections are a shortage for a while, too."""

MYSQL_DRIVERS = frozenset({"MySQLdb", "aiomysql", "asyncmy", "mariadb", "mysql", "pymysql"})
"""The packages of MySQL's drivers. Their errors have a number."""

LOST_MYSQL_ERRORS = frozenset({1053, 1927, 2006, 2013, 2055, 3169, 4031})
"""Shutdown in progress, connection killed (MariaDB), server gone, connection lost (twice), session killed (MySQL),
and disconnected for inactivity (MySQL, MariaDB: server and client error references)."""

CLOSED_MYSQL_CONNECTION = 0
"""The number of the InterfaceError of pymysql and mysqlclient for a connection that is closed."""

LOCK_CONFLICTS: dict[object, str] = {"55P03": "timeout", "40P01": "deadlock", 1205: "timeout", 1213: "deadlock"}
"""The SQLSTATE of PostgreSQL, or the number of MySQL -> what ended the wait for a lock."""

INVALIDATED = "8s2b"
"""SQLAlchemy's code of the error that follows when a migration goes on after its connection was lost."""


def shows_lost_database(error: BaseException, *, connected: bool, unopened: BaseException | None = None) -> bool:
    """Whether the database went away.

    `connected`: whether this process has been connected to it before; `unopened`: the error because of which a
    connection could not be opened whose parameters are known to be right.
    """
    errors = list(_related(error))
    is_unopened = unopened is not None and any(each is unopened for each in errors)
    states = [state for each in errors if (state := sqlstate_of(each))]
    if states:  # the server's own word; it may have closed the connection after any error
        lost = UNOPENED_SQLSTATES if is_unopened else LOST_SQLSTATES if connected else CONNECT_SQLSTATES
        return states[0].startswith(lost)
    return is_unopened or (connected and any(map(_is_disconnect, errors)))


def lock_conflict(error: BaseException) -> str:
    """What ended a wait for a lock, `timeout` or `deadlock`; "" if the error is another one."""
    errors = list(_related(error))
    codes: list[object] = [state for each in errors if (state := sqlstate_of(each))]
    codes += [number for each in errors if (number := _mysql_number(each))]
    return LOCK_CONFLICTS.get(codes[0], "") if codes else ""


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error: of psycopg and asyncpg, psycopg2, or pg8000; MySQL's numbers say more."""
    if _package(error) in MYSQL_DRIVERS:
        return None
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
    package = _package(error)
    if package in MYSQL_DRIVERS:
        return _is_lost_mysql(error)
    if package == "psycopg":  # `pgconn` is set where the connection could not be opened
        return type(error).__name__ == "OperationalError" and getattr(error, "pgconn", None) is None
    if package == "psycopg2":
        connection = getattr(getattr(error, "cursor", None), "connection", None)
        return bool(getattr(connection, "closed", 0))
    return package == "pg8000" and isinstance(error.__cause__, OSError)


def _is_lost_mysql(error: BaseException) -> bool:
    number = _mysql_number(error)
    if type(error).__name__ == "InterfaceError" and number == CLOSED_MYSQL_CONNECTION:
        return True
    return number in LOST_MYSQL_ERRORS


def _mysql_number(error: BaseException) -> int | None:
    if _package(error) not in MYSQL_DRIVERS:
        return None
    number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
    return number if isinstance(number, int) else None


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]
