"""Limits how long the statements of a migration wait for locks (GATE_TABLE_LOCK_TIMEOUT).

While an ALTER TABLE waits for a busy table, every later query on that table waits behind it (hazards.md 15).
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Engine, event

from gate.migration.child.session_tags import is_autocommit

LIMITED = "gate_lock_timeout"
"""The key in the `info` of a connection to MySQL that marks it as limited."""

MYSQL_DIALECTS = frozenset({"mysql", "mariadb"})


def limit_lock_waits(timeout: float) -> None:
    """Limit them on each connection that SQLAlchemy opens from now on. `timeout`: seconds, 0 = no limit.

    A limit that the URL, the role, env.py or a revision sets is kept.
    """
    if not timeout:
        return

    def transaction_begun(connection: Connection) -> None:
        if connection.dialect.name == "postgresql" and not is_autocommit(connection):
            cursor = connection.connection.cursor()
            _limit_transaction(cursor, max(1, round(1000 * timeout)))
            cursor.close()

    def connected(connection: Connection) -> None:
        if connection.dialect.name in MYSQL_DIALECTS and LIMITED not in connection.info:
            connection.info[LIMITED] = True
            cursor = connection.connection.cursor()
            _limit_session(cursor, math.ceil(timeout))
            cursor.close()
            connection.connection.commit()

    event.listen(Engine, "begin", transaction_begun)
    event.listen(Engine, "engine_connect", connected)


def _limit_transaction(cursor: Any, milliseconds: int) -> None:
    """Limit the waits of one transaction: a plain SET would leak through a pooler.

    A statement outside of a transaction stays without a limit: a CREATE INDEX CONCURRENTLY that times out leaves an
    INVALID index. SHOW and SET take no snapshot, so SET TRANSACTION may follow.
    """
    cursor.execute("SHOW lock_timeout")
    if str(cursor.fetchone()[0]) == "0":
        cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")


def _limit_session(cursor: Any, seconds: int) -> None:
    """Limit the waits for tables (metadata locks), unless the session has a limit of its own."""
    cursor.execute("SELECT @@SESSION.lock_wait_timeout = @@GLOBAL.lock_wait_timeout")
    if cursor.fetchone()[0]:
        cursor.execute(f"SET SESSION lock_wait_timeout = {seconds}")
