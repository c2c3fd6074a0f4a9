"""One look: the database's stamp against the image, never longer than promised."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gate import database, drift, stamp
from gate.database import Database
from gate.drift import Drift
from gate.errors import DatabaseUnavailable
from gate.revisions import Graph
from gate.stamp import Stamp, TableName

if TYPE_CHECKING:
    from gate.database import Connection

_T = TypeVar("_T")
GRACE = 1.0
"""Seconds beyond both limits after which a look is given up: what hangs then hangs outside the server."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found: the stamp as it stands, and what it means for this image."""

    stamp: Stamp
    drift: Drift


@dataclass(slots=True)
class Looker:
    """Looks at one database for one image, again and again, each time on a connection of its own."""

    graph: Graph
    table: TableName
    database: Database
    _hanging: _Errand[Stamp] | None = field(default=None, init=False)

    def look(self) -> Seen:
        """Look once.

        Raises `DatabaseUnavailable` if nothing can be seen, `BadSettings` if the settings are why.
        """
        found = self._read()
        return Seen(found, drift.compare(self.graph, found.rows, other_tables=found.other_tables))

    def _read(self) -> Stamp:
        """In a thread: name resolution blocks in C, where no signal is answered; the main thread only waits."""
        errand = self._hanging or _Errand(self._read_here)
        limit = self.database.connect_timeout + self.database.query_timeout + GRACE
        try:
            self._hanging = None
            return errand.result(limit)
        except queue.Empty:
            self._hanging = errand
            raise DatabaseUnavailable(
                f"The database did not answer within {limit:g} s ({self.database.url().display}); "
                "the connection or the name resolution hangs."
            ) from None

    def _read_here(self) -> Stamp:
        with self.database.connect() as connection:
            return read(connection, self.table, self.database)


def read(connection: Connection, table: TableName, place: Database) -> Stamp:
    """Read the stamp through psycopg; one simple message for each statement, with its limit in front (FACTS 7)."""
    import psycopg  # noqa: PLC0415 - loaded by whoever made the connection

    limit = f"SELECT set_config('statement_timeout', '{round(1000 * place.query_timeout)}', true); "

    def run(statement: str) -> Sequence[Any] | None:
        cursor = connection.execute(limit + statement)
        cursor.nextset()
        return cursor.fetchone()

    try:
        return stamp.read(run, table)
    except psycopg.Error as error:
        raise database.explain(error, place.url()) from None


class _Errand(Generic[_T]):
    """Work in a daemon thread, whose result can be waited for with signals answered."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._outcome: queue.SimpleQueue[_T | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._go, args=(work,), daemon=True).start()

    def _go(self, work: Callable[[], _T]) -> None:
        try:
            self._outcome.put(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread, whatever it is
            self._outcome.put(error)

    def result(self, limit: float) -> _T:
        outcome = self._outcome.get(timeout=limit)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
