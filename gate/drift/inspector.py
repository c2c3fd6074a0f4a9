"""Inspect one database for one image within a time limit: read its stamp and compare it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gate.database.engine import Engine, engine_of
from gate.database.location import Database
from gate.database.lock import Migrator
from gate.database.missing import Needs
from gate.database.stamp import Stamp, TableName
from gate.drift import comparison
from gate.drift.comparison import Drift
from gate.errors import BadSettings, DatabaseUnavailable, GateError
from gate.image.revision_graph import RevisionGraph
from gate.process.threads import BackgroundCall, FrozenCalls

if TYPE_CHECKING:
    from gate.drift.siblings import Sibling

_T = TypeVar("_T")

TIMEOUT_MARGIN = 1.0
"""Seconds beyond the time-outs of connecting and reading, after which an inspection hangs outside the server."""


class SchemaState(NamedTuple):
    """One of many schemas, each with a version table of its own.

    `drift`: how it compares with the image; `migrator`: who migrates it now; `exists`: whether there is such a schema.
    """

    name: str
    drift: Drift
    migrator: Migrator | None = None
    exists: bool = True


class Inspection(NamedTuple):
    """The result of an inspection: the stamp of the database, and how it compares with the image.

    `warnings`: what a person should know of it, by event name; `table`: the version table that was read, with its
    schema; `schemas`: each schema of GATE_SCHEMAS, None without that setting. Stamp and drift are then those of a
    schema with the worst verdict.
    """

    stamp: Stamp
    drift: Drift
    warnings: Mapping[str, str] = {}
    table: str = ""
    schemas: tuple[SchemaState, ...] | None = None


def compare(graph: RevisionGraph, table: TableName, stamp: Stamp, *, migrating: bool = False) -> Inspection:
    """Compare a stamp with the image. `migrating`: this gate may migrate.

    Raises `BadSettings` or `DatabaseUnavailable` if it may not be the stamp of this application.
    """
    drift = comparison.compare(graph, stamp.rows, other_tables=stamp.other_tables, shortfall=stamp.shortfall)
    name = f"{stamp.schema}.{table.table}" if stamp.schema else table.table
    if stamp.rows is not None and not (stamp.other_version_tables or stamp.foreign_search_path or drift.unknown):
        return Inspection(stamp, drift, table=name)
    from gate.drift.version_table import verify  # noqa: PLC0415 - most checks are certain of the version table

    return Inspection(stamp, drift, verify(stamp, table, graph, drift, migrating=migrating), name)


class Inspector:
    """Inspects one database for one image repeatedly, each time on a new connection.

    `needs`: what the code of the image needs, None if that is not known; `migrating`: this gate may migrate that
    database; `siblings`: the other histories of the image, by their names.
    """

    def __init__(
        self,
        graph: RevisionGraph,
        table: TableName,
        database: Database,
        needs: Needs | None = None,
        *,
        migrating: bool = False,
        siblings: Mapping[str, Sibling] = {},
    ) -> None:
        self.graph, self.table, self.database, self.needs = graph, table, database, needs
        self.migrating, self.siblings = migrating, siblings
        self._frozen: FrozenCalls[BackgroundCall[Any]] = FrozenCalls()

    @property
    def timeout(self) -> float:
        """Seconds for one inspection, whatever limits its caller sets."""
        connecting = self.database.host_count() * self.database.connect_timeout
        return connecting + self.database.query_timeout + TIMEOUT_MARGIN

    @property
    def engine(self) -> Engine:
        """The engine of the database; raises `BadSettings` if the URL cannot be read."""
        return engine_of(self.database)

    def inspect(self, limit: float | None = None) -> Inspection:
        """Inspect once, within `limit` seconds or the time-outs of connecting and reading, whichever is less.

        Raises `DatabaseUnavailable` if the stamp cannot be read, and `BadSettings` if the settings are the cause.
        """
        stamp = self._in_thread(lambda deadline: self.engine.read_stamp(self.table, deadline, self.needs), limit)
        return self.compare(stamp)

    def compare(self, stamp: Stamp) -> Inspection:
        """Compare the stamp with the image; raises what `compare` does, and `BadSettings` for another history's."""
        if self.siblings:
            from gate.drift.siblings import reject_shared, without_tables_of  # noqa: PLC0415 - most images have none

            reject_shared(stamp, self.table, self.siblings)
            stamp = without_tables_of(stamp, self.siblings)
        return compare(self.graph, self.table, stamp, migrating=self.migrating)

    def _in_thread(self, read: Callable[[float], _T], limit: float | None) -> _T:
        """Read in a thread, since name resolution blocks in C, where Python handles no signal.

        `read` receives its deadline in seconds of the monotonic clock.
        """
        timeout = min(limit or self.timeout, self.timeout)
        deadline = time.monotonic() + timeout
        try:
            self._wait_for_frozen(timeout)
            call = BackgroundCall(lambda: self._read(read, deadline))
            return self._result(call, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise DatabaseUnavailable(
                f"The database did not answer within {timeout:.3g} s ({self.database.url().display}); "
                "the connection or the name resolution hangs."
            ) from None

    def _wait_for_frozen(self, timeout: float) -> None:
        """Wait for the oldest frozen call if there are too many; its stamp is too old to be used."""
        oldest = self._frozen.oldest_if_full()
        if oldest is not None:
            with suppress(GateError):
                oldest.result(timeout)

    def _result(self, call: BackgroundCall[_T], timeout: float) -> _T:
        try:
            return call.result(timeout)
        except TimeoutError:
            self._frozen.add(call)
            raise

    def _read(self, read: Callable[[float], _T], deadline: float) -> _T:
        try:
            return read(deadline)
        except BadSettings as error:
            if self.database.source is None or not self.database.source.path:
                raise
            raise DatabaseUnavailable(str(error)) from None  # the mounted secret may just be being replaced
