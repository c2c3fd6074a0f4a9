"""Asking PostgreSQL a question while a migration runs, never in the lock's own transaction.

A snapshot there, for however short a time, makes `CREATE INDEX CONCURRENTLY` wait for that transaction (HAZARDS 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gate.database import Database, explain
from gate.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from gate.database import Connection

Ask = Callable[[str], list[tuple[Any, ...]]]
"""Runs one statement and gives its rows; raises `DatabaseUnavailable`."""


def alone(database: Database) -> Ask:
    """Ask on a connection of its own each time."""

    def ask(statement: str) -> list[tuple[Any, ...]]:
        with database.connect() as connection:
            return _rows(connection, statement, database)

    return ask


def beside(connection: Connection, database: Database) -> Ask:
    """Ask on this one for as long as it lives, since there may be no other to be had when it matters."""
    otherwise = alone(database)

    def ask(statement: str) -> list[tuple[Any, ...]]:
        if not connection.closed:
            try:
                return _rows(connection, statement, database)
            except DatabaseUnavailable:
                if not connection.closed:  # else it was lost while nobody asked
                    raise
        return otherwise(statement)

    return ask


def _rows(connection: Connection, statement: str, database: Database) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(statement).fetchall()
    except Exception as error:  # noqa: BLE001 - psycopg is imported only by whoever connects
        raise explain(error, database.url()) from None
