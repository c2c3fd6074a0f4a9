"""Inspect many schemas of one database, each with a version table of its own, and judge them as one.

The verdict of the whole is the worst of them. Its drift is that of one schema that has this verdict, with the counts of
all beside it, so that the log, the readiness answer and the decision read one value as for a single version table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from gate.database.location import Database
from gate.database.missing import Needs, Shortfall
from gate.database.stamp import Stamp, TableName
from gate.drift import comparison
from gate.drift.comparison import MAX_SCHEMAS_SHOWN, Drift, SchemaCounts, SchemaGroup, Verdict
from gate.drift.inspector import Inspection, Inspector, SchemaState
from gate.drift.siblings import Sibling, without_tables_of
from gate.drift.version_table import verify
from gate.errors import BadSettings
from gate.image.revision_graph import RevisionGraph
from gate.settings.schema_source import SchemaSource
from gate.text import join_ids, printable

SEVERITY = (
    Verdict.CURRENT,
    Verdict.DEFERRED,
    Verdict.AHEAD,
    Verdict.UNKNOWN,
    Verdict.UNSTAMPED,
    Verdict.INCOMPLETE,
    Verdict.EMPTY,
    Verdict.BEHIND,
    Verdict.DIVERGED,
)
"""The verdicts, the worst last."""

MAX_STATEMENTS = 10
"""How many times GATE_QUERY_TIMEOUT one inspection of all schemas may take."""


class SchemasInspector(Inspector):
    """Inspects the schemas of GATE_SCHEMAS; raises also `BadSettings` if there are none.

    `source`: which schemas; `may_be_empty`: whether there may be none. The other parameters are those of `Inspector`;
    `table` has no schema.
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
        source: SchemaSource,
        may_be_empty: bool = False,
    ) -> None:
        super().__init__(graph, table, database, needs, migrating=migrating, siblings=siblings)
        self.source, self.may_be_empty = source, may_be_empty

    @property
    def timeout(self) -> float:
        """Seconds for one inspection, whatever limits its caller sets."""
        return super().timeout + (MAX_STATEMENTS - 1) * self.database.query_timeout

    def inspect(self, limit: float | None = None) -> Inspection:
        """Inspect all schemas once, within `limit` seconds or the time-outs, whichever is less."""
        stamps = self._in_thread(
            lambda deadline: self.engine.read_schemas(self.source, self.table, deadline, self.needs), limit
        )
        if self.siblings:
            stamps = tuple(without_tables_of(stamp, self.siblings) for stamp in stamps)
        return compare_schemas(
            self.graph, self.table, stamps, self.source, migrating=self.migrating, may_be_empty=self.may_be_empty
        )

    def of(self, schema: str) -> Inspector:
        """Return the inspector of one schema."""
        needs = self.needs and self.needs._replace(home=schema)
        table = table_in(self.table, schema)
        return Inspector(self.graph, table, self.database, needs, migrating=self.migrating, siblings=self.siblings)


def table_in(table: TableName, schema: str) -> TableName:
    """Return the version table of one schema."""
    return table._replace(schema=schema, schema_is_set=True)


def compare_schemas(
    graph: RevisionGraph,
    table: TableName,
    stamps: Sequence[Stamp],
    source: SchemaSource,
    *,
    migrating: bool = False,
    may_be_empty: bool = False,
) -> Inspection:
    """Compare the stamps of all schemas with the image.

    Raises `BadSettings` without any schema, unless there may be none, and what `compare` raises.
    """
    if not stamps and not may_be_empty:
        raise BadSettings(
            f"GATE_SCHEMAS ({source}) names no schema, so gate has nothing to check. Correct it, create the first "
            "schema, or set GATE_SCHEMAS_MAY_BE_EMPTY=1."
        )
    states = _states(graph, stamps)
    for stamp, state in zip(stamps, states, strict=True):
        if stamp.rows is None or state.drift.unknown:
            _reject_other_table(graph, table, stamp)
            verify(stamp, table_in(table, state.name), graph, state.drift, migrating=migrating)
    return _combined(graph, table, stamps, states)


def _reject_other_table(graph: RevisionGraph, table: TableName, stamp: Stamp) -> None:
    """Raise for a schema without the version table, and with another one that holds revisions of this image."""
    for other in stamp.other_version_tables if stamp.rows is None else ():
        if any(row in graph.revisions for row in other.rows or ()) or other.table.casefold() == table.table.casefold():
            raise BadSettings(
                f"Schema {printable(stamp.schema)} of database {printable(stamp.database)} has no version table "
                f"{printable(table.table)}, but {printable(other.table)}, which holds {join_ids(other.rows or ())}. If "
                f"that is the version table of each schema, set GATE_VERSION_TABLE={printable(other.table)}."
            )


def _states(graph: RevisionGraph, stamps: Sequence[Stamp]) -> tuple[SchemaState, ...]:
    """Compare each stamp; most schemas have the same one."""
    known: dict[tuple[tuple[str, ...] | None, bool, Shortfall | None], Drift] = {}
    states = []
    for stamp in stamps:
        key = (stamp.rows, stamp.other_tables, stamp.shortfall)
        if key not in known:
            known[key] = comparison.compare(
                graph, stamp.rows, other_tables=stamp.other_tables, shortfall=stamp.shortfall
            )
        states.append(SchemaState(stamp.schema, known[key], stamp.migrator, stamp.schema_exists))
    return tuple(states)


def _combined(
    graph: RevisionGraph, table: TableName, stamps: Sequence[Stamp], states: tuple[SchemaState, ...]
) -> Inspection:
    if not stamps:
        drift = replace(comparison.compare(graph, graph.expected), schemas=SchemaCounts(0, ()))
        return Inspection(Stamp("", "", ()), drift, table=table.table, schemas=())
    worst = max(range(len(states)), key=lambda n: (_severity(states[n]), len(states[n].drift.pending)))
    counts = SchemaCounts(len(states), tuple(_groups(states)), states[worst].name, states[worst].exists)
    migrator = next((stamp.migrator for stamp in stamps if stamp.migrator), None)
    return Inspection(
        stamps[worst]._replace(migrator=migrator),
        replace(states[worst].drift, schemas=counts),
        table=f"{states[worst].name}.{table.table}",
        schemas=states,
    )


def _severity(state: SchemaState) -> int:
    return SEVERITY.index(state.drift.verdict)


def _groups(states: Iterable[SchemaState]) -> Iterable[SchemaGroup]:
    """Group the schemas by their verdict, the worst first, in the order of GATE_SCHEMAS within each group."""
    ordered = sorted(states, key=lambda state: (-_severity(state), state.drift.stamp_verdict))
    for (verdict, stamp_verdict), group in groupby(ordered, lambda s: (s.drift.verdict, s.drift.stamp_verdict)):
        members = [*group]
        first = tuple((state.name, state.drift.stamped) for state in members[:MAX_SCHEMAS_SHOWN])
        yield SchemaGroup(verdict, stamp_verdict, len(members), first)


def with_drifts(inspection: Inspection, drifts: Mapping[str, Drift]) -> Inspection:
    """Return an inspection of all schemas with the drifts of some of them replaced, by name.

    Another inspection has found them, which also searched there for what the code needs.
    """
    states = tuple(state._replace(drift=drifts.get(state.name, state.drift)) for state in inspection.schemas or ())
    if not drifts or not states:
        return inspection
    worst = max(states, key=lambda state: (_severity(state), len(state.drift.pending)))
    counts = SchemaCounts(len(states), tuple(_groups(states)), worst.name, worst.exists)
    _, _, table = inspection.table.rpartition(".")
    return inspection._replace(
        stamp=inspection.stamp._replace(schema=worst.name, rows=worst.drift.stamped),
        drift=replace(worst.drift, schemas=counts),
        table=f"{worst.name}.{table}",
        schemas=states,
    )
