"""Compare the stamped revisions with the expected heads: the verdict, as one value of type `Drift`.

The log, `gate check`, the readiness answer and the tests read this value and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from gate.database.missing import Missing, Shortfall, listed
from gate.image.revision_graph import ALL_HEADS, RevisionGraph
from gate.text import join_ids, short_name

MAX_SCHEMAS_SHOWN = 5
"""Schemas of one verdict that a line names."""


class Verdict(StrEnum):
    """How the database compares with the image: its stamp with the scripts, and its tables with what the code needs."""

    CURRENT = "CURRENT"
    DEFERRED = "DEFERRED"
    BEHIND = "BEHIND"
    EMPTY = "EMPTY"
    UNSTAMPED = "UNSTAMPED"
    UNKNOWN = "UNKNOWN"
    DIVERGED = "DIVERGED"
    INCOMPLETE = "INCOMPLETE"
    AHEAD = "AHEAD"


class SchemaGroup(NamedTuple):
    """The schemas with one verdict.

    `stamp_verdict`: the verdict of the stamp alone, as in `Drift`; `first`: the names and the stamped revisions of the
    first few.
    """

    verdict: Verdict
    stamp_verdict: Verdict
    number: int
    first: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def is_reached(self) -> bool:
        """Whether these schemas are at the heads that the image requires."""
        return self.verdict in {Verdict.CURRENT, Verdict.DEFERRED}

    def names(self) -> str:
        """Name the first schemas: `t7 (0002), t19 (none) and 3 more`."""
        shown = [
            f"{short_name(name)} ({join_ids(stamped, ',') or 'none'})"
            for name, stamped in self.first[:MAX_SCHEMAS_SHOWN]
        ]
        more = self.number - len(shown)
        return ", ".join(shown) + (f" and {more:,} more" if more else "")


class SchemaCounts(NamedTuple):
    """How many schemas have which verdict, the worst verdict first.

    `example`: the schema whose drift stands for all, since it lacks the most; "" without any schema;
    `example_exists`: whether the database has it.
    """

    total: int
    groups: tuple[SchemaGroup, ...]
    example: str = ""
    example_exists: bool = True

    @property
    def reached(self) -> int:
        """The number of schemas at the heads that the image requires."""
        return sum(group.number for group in self.groups if group.is_reached)

    @property
    def all_reached(self) -> bool:
        """Whether every schema is there."""
        return self.reached == self.total

    def by_verdict(self) -> dict[str, int]:
        """Return the number of schemas with each verdict that occurs, the worst first."""
        numbers: dict[str, int] = {}
        for group in self.groups:
            numbers[group.verdict] = numbers.get(group.verdict, 0) + group.number
        return numbers

    def line(self, expected: str, *, with_names: bool = True) -> str:
        """Render the drift line behind `drift: `."""
        rest = [group for group in self.groups if not group.is_reached]
        parts = [f"; {group.verdict} {group.names() if with_names else f'{group.number:,}'}" for group in rest]
        return f"{self.reached:,} of {self.total:,} schemas expected={expected}{''.join(parts)}"


@dataclass(frozen=True, slots=True)
class Drift:
    """The result of a comparison.

    `stamped`: the rows of the version table; `expected`: the effective heads of what the image requires, which are the
    rows that Alembic leaves after an upgrade to it; `pending`: the required revisions that are not applied, in the
    order of Alembic's upgrade, () where the stamp is UNKNOWN, since a newer image may have applied them all; `unknown`:
    rows without a script in the image; `redundant`: rows that Alembic rejects as overlapping, because a descendant is
    stamped, too; `messages`: the first paragraph of each unapplied revision's docstring, by its id.

    `missing`: the first things that the code of the image needs and the database lacks, and `missing_total` the number
    of all; `replaced`: the verdict of the stamp alone, where INCOMPLETE or AHEAD replaces it.

    `outstanding`: what `alembic upgrade TARGET` would run if that is more than `pending`, since revisions may wait
    until after the deployment, else (); `target`: GATE_TARGET.

    `schemas`: the counts of all schemas of GATE_SCHEMAS, None without that setting. The other fields are then those of
    one schema with the worst verdict.
    """

    verdict: Verdict
    stamped: tuple[str, ...]
    expected: tuple[str, ...]
    pending: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    redundant: tuple[str, ...] = ()
    messages: dict[str, str] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    missing_total: int = 0
    replaced: Verdict | None = None
    outstanding: tuple[str, ...] = ()
    target: str = ALL_HEADS
    schemas: SchemaCounts | None = None

    @property
    def stamp_verdict(self) -> Verdict:
        """The verdict of the stamp alone."""
        return self.replaced or self.verdict

    @property
    def deferred(self) -> tuple[str, ...]:
        """The unapplied revisions that may wait until after the deployment."""
        pending = set(self.pending)
        return tuple(id_ for id_ in self.outstanding if id_ not in pending)

    def including_deferred(self) -> Drift:
        """Return the same drift for an upgrade that applies all: what may wait is pending, too."""
        return replace(self, pending=self.outstanding or self.pending, outstanding=())

    @property
    def fits(self) -> bool:
        """Whether the schema fits: the verdict is not BEHIND, EMPTY, DIVERGED or INCOMPLETE."""
        return self.verdict not in {Verdict.BEHIND, Verdict.EMPTY, Verdict.DIVERGED, Verdict.INCOMPLETE}

    @property
    def is_ready(self) -> bool:
        """Whether the server may receive requests: the schema fits, or the image does not know the stamp.

        The second holds for INCOMPLETE, too: otherwise one migration would take every old container out of service.
        """
        return self.fits or self.stamp_verdict is Verdict.UNKNOWN

    def __str__(self) -> str:
        """Render the drift line, which every log line contains verbatim."""
        return self._line(with_names=True)

    @property
    def public_line(self) -> str:
        """The drift line for an HTTP answer: anybody may read it, and a schema can have the name of a customer."""
        return self._line(with_names=False)

    def _line(self, *, with_names: bool) -> str:
        stamped, expected = (join_ids(ids, ",") or "none" for ids in (self.stamped, self.expected))
        missing = f" missing={listed(self.missing, self.missing_total, ',')}" if self.missing else ""
        if self.schemas is None:
            return f"drift: db={stamped} expected={expected}{missing}"
        return f"drift: {self.schemas.line(expected, with_names=with_names)}{missing}"


def compare(
    image: RevisionGraph,
    rows: Collection[str] | None,
    *,
    other_tables: bool = False,
    shortfall: Shortfall | None = None,
) -> Drift:
    """Compare the rows of the version table with the image.

    `rows`: None if there is no version table; `other_tables`: whether its schema has any other table; `shortfall`: what
    the code of the image needs and the database lacks, None if that is not known.
    """
    drift = _compare_stamp(image, rows, other_tables=other_tables)
    return drift if shortfall is None else _with_shortfall(drift, shortfall)


def _with_shortfall(drift: Drift, shortfall: Shortfall) -> Drift:
    """Let INCOMPLETE or AHEAD replace the verdict of the stamp where that alone would let the server start.

    BEHIND, EMPTY and DIVERGED stay: what is missing is their consequence.
    """
    verdict = drift.verdict
    if drift.fits and shortfall.items:
        verdict = Verdict.INCOMPLETE
    elif verdict is Verdict.UNKNOWN:
        verdict = Verdict.AHEAD
    return replace(
        drift,
        verdict=verdict,
        missing=shortfall.items,
        missing_total=shortfall.total,
        replaced=None if verdict is drift.verdict else drift.verdict,
    )


def _compare_stamp(image: RevisionGraph, rows: Collection[str] | None, *, other_tables: bool) -> Drift:
    if rows is None:
        return _drift(image, Verdict.UNSTAMPED if other_tables else Verdict.EMPTY, (), set())
    stamped = tuple(sorted(set(rows)))
    resolved = {row: image.resolve(row) for row in stamped}
    known = {id_ for id_ in resolved.values() if id_}
    unknown = tuple(row for row, id_ in resolved.items() if not id_)
    if unknown:
        if not _lacks_descendant(image, known):
            return Drift(Verdict.UNKNOWN, stamped, image.expected, unknown=unknown, target=image.target)
        return _drift(image, Verdict.DIVERGED, stamped, known, unknown=unknown)
    if half_applied(image, known):
        return _drift(image, Verdict.DIVERGED, stamped, known)
    overlapping = _overlapping(image, known)
    redundant = tuple(row for row, id_ in resolved.items() if id_ in overlapping)
    return _drift(image, None, stamped, known, redundant=redundant)


def _lacks_descendant(image: RevisionGraph, known: set[str]) -> bool:
    """Whether a required revision is pending that descends from one of the rows beside the unknown ones."""
    if image.requires_all:
        return not known <= set(image.heads)
    pending = image.pending(known)
    return not known.isdisjoint(image.closure(pending))


def half_applied(image: RevisionGraph, rows: Collection[str]) -> bool:
    """Whether a row is an ancestor of another only through `depends_on` and has children of its own.

    Such a child was never applied: applying it would have replaced the row. But Alembic counts it as applied, because
    the other row now depends on it (hazards.md 1, last row but three).
    """
    overlapping = _overlapping(image, rows)
    parents = [parent for row in rows for parent in image.revisions[row].down] if overlapping else []
    ancestors = image.plain_closure(parents)
    return any(image.children[row] and row not in ancestors for row in overlapping)


def _overlapping(image: RevisionGraph, rows: Collection[str]) -> set[str]:
    """The rows that are ancestors of another, found in one walk: a table that is not Alembic's may hold a thousand."""
    parents = [parent for row in rows for parent in image.parents[row]] if len(rows) > 1 else []
    return set(rows) & image.closure(parents)


def _drift(
    image: RevisionGraph,
    verdict: Verdict | None,
    stamped: tuple[str, ...],
    known: set[str],
    unknown: tuple[str, ...] = (),
    redundant: tuple[str, ...] = (),
) -> Drift:
    """Put the result together. `verdict`: None = the one of the pending revisions; `known`: the stamped ids."""
    pending = image.pending(known)
    outstanding = image.outstanding(known) if image.may_wait else ()
    if len(outstanding) == len(pending):
        outstanding = ()
    if verdict is None:
        verdict = Verdict.BEHIND if pending else Verdict.DEFERRED if outstanding else Verdict.CURRENT
    messages = {id_: image.revisions[id_].message for id_ in outstanding or pending}
    return Drift(
        verdict,
        stamped,
        image.expected,
        pending,
        unknown,
        redundant,
        messages,
        outstanding=outstanding,
        target=image.target,
    )
