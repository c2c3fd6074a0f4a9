"""Run the statements of an inspection through psycopg, each with a time limit that the server keeps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gate.database.location import Database
from gate.database.postgresql.connection import explained

if TYPE_CHECKING:
    from gate.database.postgresql.connection import Connection

SERVER_TIMEOUT_MARGIN = 0.2
"""Seconds by which statement_timeout ends before the inspection: only the server knows what a statement waited for."""

MIN_SERVER_TIMEOUT = 0.05
"""Seconds of statement_timeout, however late it is: 0 would disable it."""

SEARCH_REMEDY = "This was the search for what the code needs, which GATE_EXPECTED=off skips."


class PsycopgRunner:
    """Runs each statement in a transaction of its own, with a statement_timeout.

    `deadline`: in seconds of the monotonic clock. Time-out and statement are one message of the simple query protocol,
    which leaves no snapshot behind (hazards.md 7). The search_path is the role's own in this message: another client of
    a pooler may have left its own on the server's connection, which `found_path` is then.
    """

    def __init__(self, connection: Connection, database: Database, deadline: float) -> None:
        self._connection, self._database, self._deadline = connection, database, deadline
        # The URL or PGOPTIONS may set the search_path, and a pooler may do so later.
        self._sets_path = "search_path" in connection.info.options
        self.found_path = ""

    def run(self, statement: str, parameters: dict[str, str] | None = None) -> Sequence[Any] | None:
        """Run one statement and return its first row; raises psycopg's errors."""
        left = self._deadline - SERVER_TIMEOUT_MARGIN - time.monotonic()
        milliseconds = round(1000 * max(MIN_SERVER_TIMEOUT, min(self._database.query_timeout, left)))
        timeout = f"SELECT set_config('statement_timeout', '{milliseconds}', true), current_setting('search_path');"
        reset = "" if self._sets_path else "SET LOCAL search_path TO DEFAULT;"
        cursor = self._connection.execute(f"{timeout} {reset} {statement}", parameters)
        self.found_path = str((cursor.fetchone() or ("", ""))[1])
        for _ in range(1 if self._sets_path else 2):
            cursor.nextset()
        return cursor.fetchone()

    def run_with_needs(self, statement: str, names: str) -> Sequence[Any] | None:
        """Run the search for what the code needs; raises `DatabaseUnavailable`."""
        with explained(self._database, SEARCH_REMEDY):
            return self.run(statement.replace("%", "%%").replace(":needs", "%(needs)s"), {"needs": names})
