"""Marking every connection that env.py or a migration opens, so that the next migrator finds what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event

from gate.migrator import MYSQL_MARKS


def mark_connections(mark: str, opened: Callable[[int], None]) -> None:
    """Mark each connection from now on; `opened` is told its id in the server, so that it can be cancelled."""

    def marked(connection: Connection) -> None:
        marking = MARKING.get(connection.dialect.name)
        if marking is None:
            return
        driver = connection.connection
        cursor = driver.cursor()
        pid = marking(cursor, mark, known=bool(connection.info.get(mark)))
        cursor.close()
        driver.commit()
        if connection.info.get(mark) != pid:
            connection.info[mark] = pid
            opened(pid)

    event.listen(Engine, "engine_connect", marked)


def _mark_in_postgresql(cursor: Any, mark: str, *, known: bool) -> int:
    """Its name; the server is also asked to notice a dead client in the middle of a statement (PG 14+, HAZARDS 6).

    Each time anew: a pooler in transaction mode gives another backend for each transaction.
    """
    del known
    named = f"set_config('application_name', '{mark}', false)" if mark else "NULL"
    cursor.execute(
        f"SELECT pg_backend_pid(), {named}, (SELECT set_config(name, '1000', false)"
        " FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval')"
    )
    return int(cursor.fetchone()[0])


def _mark_in_mysql(cursor: Any, mark: str, *, known: bool) -> int:
    """A lock of its own, the first that is free, held until the connection ends (`gate.mysql`)."""
    if mark and not known:
        for number in range(MYSQL_MARKS):
            cursor.execute(f"SELECT GET_LOCK('{mark}/{number}', 0)")
            if cursor.fetchone()[0] == 1:
                break
    cursor.execute("SELECT CONNECTION_ID()")
    return int(cursor.fetchone()[0])


MARKING = {"postgresql": _mark_in_postgresql, "mysql": _mark_in_mysql, "mariadb": _mark_in_mysql}
