"""Marking every connection that env.py or a migration opens, so that the next migrator finds what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event

from gate.database.lock import MYSQL_TAGS


def report_autocommit(told: Callable[[], None]) -> None:
    """Say so when a connection is set to AUTOCOMMIT, as Alembic's `autocommit_block` does: what follows stays."""

    def chosen(_: Connection, options: dict[str, Any]) -> None:
        if options.get("isolation_level") == "AUTOCOMMIT":
            told()

    event.listen(Engine, "set_connection_execution_options", chosen)


def is_autocommit(connection: Connection) -> bool:
    """Whether this connection commits each statement by itself from the start, by its engine or its options."""
    driver = connection.connection.dbapi_connection
    return getattr(driver, "autocommit", None) is True or getattr(driver, "isolation_level", None) == "autocommit"


def tag_sessions(tag: str, opened: Callable[[int], None], pooled: Callable[[], None]) -> None:
    """Mark each connection from now on.

    `opened` is told its id in the server, so that it can be cancelled; `pooled` is called for the first connection that
    goes through a pooler, which would hand a mark on to other clients: there each transaction is marked for itself.
    """
    through_pooler: set[bool] = set()

    def connected(connection: Connection) -> None:
        marking = TAGGERS.get(connection.dialect.name)
        if marking is None or TAGGED in connection.info:  # a transaction may be open on a known one
            return
        driver = connection.connection
        cursor = driver.cursor()
        pid, is_pooled = marking(cursor, tag, connection.connection.driver_connection)
        cursor.close()
        driver.commit()
        connection.info[TAGGED] = is_pooled
        opened(pid)
        if is_pooled and not through_pooler:
            through_pooler.add(is_pooled)
            pooled()

    def begun(connection: Connection) -> None:
        if connection.info.get(TAGGED):
            cursor = connection.connection.cursor()
            cursor.execute(_settings(tag, local=True))
            cursor.fetchall()
            cursor.close()

    event.listen(Engine, "engine_connect", connected)
    event.listen(Engine, "begin", begun)


def _tag_in_postgresql(cursor: Any, tag: str, driver: Any) -> tuple[int, bool]:
    """By its name; a pooler shows by another backend than the one that greeted."""
    cursor.execute("SELECT pg_backend_pid()")
    pid = int(cursor.fetchone()[0])
    is_pooled = _greeting_backend(driver) not in {None, pid}
    if not is_pooled:
        cursor.execute(_settings(tag, local=False))
        cursor.fetchall()
    return pid, is_pooled


def _settings(tag: str, *, local: bool) -> str:
    """The name, and a server that notices a dead client in the middle of a statement (PG 14, not on Windows)."""
    scope = "true" if local else "false"
    return (
        f"SELECT set_config('application_name', '{tag}', {scope}), (SELECT set_config(name, '1000', {scope})"
        " FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'"
        " AND version() !~* 'windows|mingw|visual')"
    )


def _greeting_backend(driver: Any) -> int | None:
    """The backend of which the connection's greeting told: by psycopg and psycopg2, or by asyncpg."""
    if hasattr(driver, "info"):
        return int(driver.info.backend_pid)
    return int(driver.get_server_pid()) if hasattr(driver, "get_server_pid") else None


def _tag_in_mysql(cursor: Any, tag: str, _: Any) -> tuple[int, bool]:
    """By a lock of its own, the first that is free, held until the connection ends (`gate.mysql`)."""
    for number in range(MYSQL_TAGS):
        cursor.execute(f"SELECT GET_LOCK('{tag}/{number}', 0)")
        if cursor.fetchone()[0] == 1:
            break
    cursor.execute("SELECT CONNECTION_ID()")
    return int(cursor.fetchone()[0]), False


TAGGED = "gate"
"""Under this name a connection's own `info` remembers that it is known, and whether it is pooled."""

TAGGERS = {"postgresql": _tag_in_postgresql, "mysql": _tag_in_mysql, "mariadb": _tag_in_mysql}
