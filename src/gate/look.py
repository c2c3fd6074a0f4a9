"""One look: the database's stamp against the image, never longer than promised."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from gate import database, drift, stamp
from gate.catalog import TableName
from gate.database import Database
from gate.drift import Drift
from gate.errand import Errand
from gate.errors import BadSettings, DatabaseUnavailable, GateError
from gate.revisions import Graph
from gate.stamp import Stamp

if TYPE_CHECKING:
    from gate.database import Connection

GRACE = 1.0
"""Seconds beyond both limits after which a look is given up: what hangs then hangs outside the server."""

AHEAD = 0.2
"""Seconds by which the server's limit comes before a look's own: the server can say what it waited for."""

LEAST_LIMIT = 0.05
"""Seconds of the server's limit, however late it is; 0 would mean none."""

MOST_HANGING = 3
"""Looks that may hang at once: one whose way froze hangs for ever while a new one would be answered."""


class Seen(NamedTuple):
    """What a look found: the stamp as it stands, and what it means for this image."""

    stamp: Stamp
    drift: Drift


class Looker:
    """Looks at one database for one image, again and again, each time on a connection of its own."""

    def __init__(self, graph: Graph, table: TableName, database: Database) -> None:
        self.graph, self.table, self.database = graph, table, database
        self._hanging: list[Errand[Stamp]] = []

    def look(self, limit: float | None = None) -> Seen:
        """Look once, within `limit` seconds (None: as long as connecting and reading may take).

        Raises `DatabaseUnavailable` if nothing can be seen, `BadSettings` if the settings are why.
        """
        own = self.database.hosts() * self.database.connect_timeout + self.database.query_timeout + GRACE
        found = self._read(min(limit or own, own))
        return Seen(found, drift.compare(self.graph, found.rows, other_tables=found.other_tables))

    def _read(self, limit: float) -> Stamp:
        """In a thread: name resolution blocks in C, where no signal is answered; the main thread only waits."""
        deadline = time.monotonic() + limit
        try:
            self._wait_for_the_oldest(limit)
            looking = Errand(lambda: self._read_here(deadline))
            return self._result(looking, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise DatabaseUnavailable(
                f"The database did not answer within {limit:.3g} s ({self.database.url().display}); "
                "the connection or the name resolution hangs."
            ) from None

    def _wait_for_the_oldest(self, limit: float) -> None:
        """If too many hang; what an earlier look found is too old to be believed."""
        self._hanging = [each for each in self._hanging if each.is_under_way]
        if len(self._hanging) >= MOST_HANGING:
            with suppress(GateError):
                self._hanging[0].result(limit)

    def _result(self, looking: Errand[Stamp], limit: float) -> Stamp:
        try:
            return looking.result(limit)
        except TimeoutError:
            self._hanging.append(looking)
            raise

    def _read_here(self, deadline: float) -> Stamp:
        try:
            return self._read_by_engine(deadline)
        except BadSettings as error:
            if self.database.source is None or not self.database.source.path:
                raise
            raise DatabaseUnavailable(str(error)) from None  # a mounted secret that is just being replaced

    def _read_by_engine(self, deadline: float) -> Stamp:
        if not self.database.url().is_postgresql:
            from gate import other_engines  # noqa: PLC0415 - SQLAlchemy is loaded only where it is needed

            return other_engines.read(self.database, self.table)
        with self.database.connect() as connection:
            return read(connection, self.table, self.database, deadline)


def read(connection: Connection, table: TableName, place: Database, deadline: float) -> Stamp:
    """Read the stamp through psycopg; one simple message for each statement, with its limit in front (HAZARDS 7)."""
    import psycopg  # noqa: PLC0415 - loaded by whoever made the connection

    def run(statement: str) -> Sequence[Any] | None:
        limit = max(LEAST_LIMIT, min(place.query_timeout, deadline - AHEAD - time.monotonic()))
        cursor = connection.execute(
            f"SELECT set_config('statement_timeout', '{round(1000 * limit)}', true); {statement}"
        )
        cursor.nextset()
        return cursor.fetchone()

    try:
        return stamp.read(run, table)
    except psycopg.Error as error:
        raise database.explain(error, place.url()) from None
