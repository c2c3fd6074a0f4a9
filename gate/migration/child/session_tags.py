"""Tags each database connection of a migration, so that the next migrator finds the sessions of a killed one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.engine import ExceptionContext

from gate.database.lock import MYSQL_TAGS
from gate.migration.child.fence import FENCED, ServerChanged
from gate.migration.child.sockets import detect_lost_server
from gate.migration.child.statement_clock import StatementClock

TAGGED = "gate"
"""The key in a connection's `info` that marks it as tagged; its value is whether the connection is pooled."""


IMPLICIT_COMMITS = frozenset({"mysql", "mariadb"})
"""Dialects whose DDL statements commit what the transaction has done before."""

COMMIT_STATEMENT = re.compile(r"\A\s*END\b|(?:\A|;)\s*(?:COMMIT|PREPARE\s+TRANSACTION)\b", re.IGNORECASE)
"""Statements by which a migration commits a transaction of PostgreSQL itself."""

REPORTS_COMMITS = "_gate_reports_commits"
"""The attribute that marks a dialect whose commits are reported."""

REPORTS_OPENING = "_gate_reports_opening"
"""The attribute that marks a dialect whose opened connections are reported."""

POOLER_LEADS_ELSEWHERE = (
    "the pooler leads to another server now, as after a failover, and gate does not hold the migration lock there"
)
"""Why a transaction is not run."""


def report_commits(on_commit: Callable[[], None]) -> None:
    """Call `on_commit` when something is committed, or runs where nothing can be rolled back, on any connection."""

    def connected(connection: Connection) -> None:
        dialect: Any = connection.dialect
        if not getattr(dialect, REPORTS_COMMITS, False):
            setattr(dialect, REPORTS_COMMITS, True)
            commit = dialect.do_commit

            def do_commit(driver: Any) -> None:
                commit(driver)
                on_commit()

            dialect.do_commit = do_commit

    def executing(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if is_autocommit(connection) or COMMIT_STATEMENT.search(statement):
            on_commit()

    def executed(connection: Connection, *_: Any) -> None:
        if connection.dialect.name in IMPLICIT_COMMITS:
            on_commit()

    event.listen(Engine, "engine_connect", connected)
    event.listen(Engine, "before_cursor_execute", executing)
    event.listen(Engine, "after_cursor_execute", executed)


def report_closed(on_closed: Callable[[], None]) -> None:
    """Call `on_closed` for an error on a connection that the migration itself has closed: none was lost then."""

    def failed(context: ExceptionContext) -> None:
        with suppress(Exception):  # SQLAlchemy's own connection may be closed, too
            if context.connection and _is_closed_by_client(context.connection.connection.dbapi_connection):
                on_closed()

    event.listen(Engine, "handle_error", failed)


def _is_closed_by_client(driver: Any) -> bool:
    """Whether `close` was called; psycopg says otherwise that it is broken, and psycopg2 gives the number 2."""
    closed = getattr(driver, "closed", False)
    return getattr(driver, "broken", None) is False if closed is True else closed == 1


def report_autocommit(on_autocommit: Callable[[], None]) -> None:
    """Call `on_autocommit` when a connection is set to AUTOCOMMIT, as Alembic's `autocommit_block` does."""

    def options_set(_: Connection, options: dict[str, Any]) -> None:
        if options.get("isolation_level") == "AUTOCOMMIT":
            on_autocommit()

    event.listen(Engine, "set_connection_execution_options", options_set)


def is_autocommit(connection: Connection) -> bool:
    """Whether the driver's connection is in autocommit mode, by its engine's or its own options."""
    driver = connection.connection.dbapi_connection
    return getattr(driver, "autocommit", None) is True or getattr(driver, "isolation_level", None) == "autocommit"


def report_opening(on_opened: Callable[[], None], on_failed: Callable[[BaseException, bool], None]) -> None:
    """Call `on_opened` when a connection has been opened, and `on_failed` with the error if it could not be.

    `on_failed` also receives whether gate opens its own connections with the same parameters, those of DATABASE_URL.
    """

    def connecting(dialect: Any, *_: Any) -> None:
        if not getattr(dialect, REPORTS_OPENING, False):
            setattr(dialect, REPORTS_OPENING, True)
            dialect.connect = reported(dialect, dialect.connect)

    def reported(dialect: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
        def opening(*arguments: Any, **parameters: Any) -> Any:
            try:
                connection = connect(*arguments, **parameters)
            except Exception as error:
                on_failed(error, _has_gates_parameters(dialect, arguments, parameters))
                raise
            on_opened()
            return connection

        return opening

    event.listen(Engine, "do_connect", connecting)


def _has_gates_parameters(dialect: Any, arguments: Sequence[Any], parameters: dict[str, Any]) -> bool:
    with suppress(Exception):  # the dialect of another database may not understand the URL
        own_arguments, own_parameters = dialect.create_connect_args(make_url(os.environ["DATABASE_URL"]))
        return (list(own_arguments), own_parameters) == (list(arguments), parameters)
    return False


def watch_connections(clock: StatementClock) -> None:
    """Let each connection that SQLAlchemy opens notice a lost server, and show gate when it waits for an answer."""

    def connected(connection: Connection) -> None:
        clock.watch(connection.dialect)
        if TAGGED not in connection.info:  # it has just been opened
            detect_lost_server(connection.connection.driver_connection)

    event.listen(Engine, "engine_connect", connected)


def tag_sessions(tag: str, on_connect: Callable[[int], None], on_pooler: Callable[[], None]) -> None:
    """Tag each connection that SQLAlchemy opens from now on.

    `on_connect` receives the connection's id in the server, by which gate can cancel its statements. `on_pooler` is
    called once, for the first connection that goes through a pooler: a pooler passes a session's settings on to other
    clients, so there the tag is set anew in each transaction.
    """
    pooled: set[bool] = set()

    def connected(connection: Connection) -> None:
        tag_session = TAGGERS.get(connection.dialect.name)
        if tag_session is None or TAGGED in connection.info:  # a tagged connection may have an open transaction
            return
        driver = connection.connection
        cursor = driver.cursor()
        pid, is_pooled = tag_session(cursor, tag, connection.connection.driver_connection)
        cursor.close()
        driver.commit()
        connection.info[TAGGED] = is_pooled
        on_connect(pid)
        if is_pooled and not pooled:
            pooled.add(is_pooled)
            on_pooler()

    def transaction_begun(connection: Connection) -> None:
        if connection.info.get(TAGGED):
            cursor = connection.connection.cursor()
            cursor.execute(_set_tag(tag, local=True))
            cursor.fetchall()
            cursor.close()

    event.listen(Engine, "engine_connect", connected)
    event.listen(Engine, "begin", transaction_begun)


def fence_transactions(fence: str) -> None:
    """Verify the lock in each transaction of a connection on which the fence has found it, if that is pooled.

    A pooler may give the next transaction another server: after a failover the new primary, where gate holds no lock.
    """

    def begun(connection: Connection) -> None:
        if connection.info.get(TAGGED) and connection.info.get(FENCED):
            cursor = connection.connection.cursor()
            cursor.execute(fence)
            row = cursor.fetchone()
            cursor.close()
            if not (row and row[1]):
                raise ServerChanged(POOLER_LEADS_ELSEWHERE)

    if fence:
        event.listen(Engine, "begin", begun)


def _tag_in_postgresql(cursor: Any, tag: str, driver: Any) -> tuple[int, bool]:
    """Set the application_name, unless there is a pooler: then another backend answers than the greeting named."""
    cursor.execute("SELECT pg_backend_pid()")
    pid = int(cursor.fetchone()[0])
    is_pooled = _greeting_backend(driver) not in {None, pid}
    if not is_pooled:
        cursor.execute(_set_tag(tag, local=False))
        cursor.fetchall()
    return pid, is_pooled


def _set_tag(tag: str, *, local: bool) -> str:
    """Set the tag, and let the server detect a dead client within a statement (PostgreSQL 14, not on Windows)."""
    scope = "true" if local else "false"
    return (
        f"SELECT set_config('application_name', '{tag}', {scope}), (SELECT set_config(name, '1000', {scope})"
        " FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'"
        " AND version() !~* 'windows|mingw|visual')"
    )


def _greeting_backend(driver: Any) -> int | None:
    """The backend's process id in the connection's greeting, from psycopg, psycopg2 or asyncpg; None from others."""
    if hasattr(driver, "info"):
        return int(driver.info.backend_pid)
    return int(driver.get_server_pid()) if hasattr(driver, "get_server_pid") else None


def _tag_in_mysql(cursor: Any, tag: str, _: Any) -> tuple[int, bool]:
    """Acquire the first free of the tag's locks, which the connection holds until it ends (`gate.database.mysql`)."""
    for number in range(MYSQL_TAGS):
        cursor.execute(f"SELECT GET_LOCK('{tag}/{number}', 0)")
        if cursor.fetchone()[0] == 1:
            break
    cursor.execute("SELECT CONNECTION_ID()")
    return int(cursor.fetchone()[0]), False


TAGGERS = {"postgresql": _tag_in_postgresql, "mysql": _tag_in_mysql, "mariadb": _tag_in_mysql}
"""SQLAlchemy's dialect name -> the function that tags a session and returns its id and whether it is pooled."""
