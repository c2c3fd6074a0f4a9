"""One look: the database's stamp against the image, never longer than promised."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import NamedTuple

from gate.database.engine import engine_of
from gate.database.location import Database
from gate.database.stamp import Stamp, TableName
from gate.drift import comparison
from gate.drift.comparison import Drift
from gate.errors import BadSettings, DatabaseUnavailable, GateError
from gate.image.revision_graph import RevisionGraph
from gate.process.threads import BackgroundCall, FrozenCalls

TIMEOUT_MARGIN = 1.0
"""Seconds beyond both limits after which a look is given up: what hangs then hangs outside the server."""


class Inspection(NamedTuple):
    """What a look found: the stamp as it stands, and what it means for this image."""

    stamp: Stamp
    drift: Drift


class Inspector:
    """Looks at one database for one image, again and again, each time on a connection of its own."""

    def __init__(self, graph: RevisionGraph, table: TableName, database: Database) -> None:
        self.graph, self.table, self.database = graph, table, database
        self._frozen: FrozenCalls[BackgroundCall[Stamp]] = FrozenCalls()

    def inspect(self, limit: float | None = None) -> Inspection:
        """Look once, within `limit` seconds (None: as long as connecting and reading may take).

        Raises `DatabaseUnavailable` if nothing can be seen, `BadSettings` if the settings are why.
        """
        own = self.database.hosts() * self.database.connect_timeout + self.database.query_timeout + TIMEOUT_MARGIN
        found = self._read(min(limit or own, own))
        return Inspection(found, comparison.compare(self.graph, found.rows, other_tables=found.other_tables))

    def _read(self, limit: float) -> Stamp:
        """In a thread: name resolution blocks in C, where no signal is answered; the main thread only waits."""
        deadline = time.monotonic() + limit
        try:
            self._wait_for_the_oldest(limit)
            looking = BackgroundCall(lambda: self._read_here(deadline))
            return self._result(looking, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise DatabaseUnavailable(
                f"The database did not answer within {limit:.3g} s ({self.database.url().display}); "
                "the connection or the name resolution hangs."
            ) from None

    def _wait_for_the_oldest(self, limit: float) -> None:
        """If too many hang; what an earlier look found is too old to be believed."""
        oldest = self._frozen.oldest_if_full()
        if oldest is not None:
            with suppress(GateError):
                oldest.result(limit)

    def _result(self, looking: BackgroundCall[Stamp], limit: float) -> Stamp:
        try:
            return looking.result(limit)
        except TimeoutError:
            self._frozen.add(looking)
            raise

    def _read_here(self, deadline: float) -> Stamp:
        try:
            return engine_of(self.database).read_stamp(self.table, deadline)
        except BadSettings as error:
            if self.database.source is None or not self.database.source.path:
                raise
            raise DatabaseUnavailable(str(error)) from None  # a mounted secret that is just being replaced
