"""Expected heads + stamped revisions -> `Drift`: the verdict as one value.

The log, `gate check`, the readiness answer and the tests all read this value and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from gate.image.revision_graph import RevisionGraph
from gate.text import join_ids


class Verdict(StrEnum):
    """How the database's stamp stands to the image's scripts."""

    CURRENT = "CURRENT"
    BEHIND = "BEHIND"
    EMPTY = "EMPTY"
    UNSTAMPED = "UNSTAMPED"
    UNKNOWN = "UNKNOWN"
    DIVERGED = "DIVERGED"


@dataclass(frozen=True, slots=True)
class Drift:
    """What one look found.

    `stamped`: the rows of the version table; `expected`: the image's effective heads; `pending`: what
    `alembic upgrade heads` would run, in its order; `messages`: what each pending revision says of itself;
    `unknown`: rows that no script of the image explains; `redundant`: rows that Alembic rejects as
    overlapping although nothing is pending.
    """

    verdict: Verdict
    stamped: tuple[str, ...]
    expected: tuple[str, ...]
    pending: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    redundant: tuple[str, ...] = ()
    messages: dict[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether a server may be sent requests: not behind, not empty, not diverged."""
        return self.verdict not in {Verdict.BEHIND, Verdict.EMPTY, Verdict.DIVERGED}

    def __str__(self) -> str:
        """The drift line, verbatim as in every log line and HTTP answer."""
        db, expected = (join_ids(ids, ",") or "none" for ids in (self.stamped, self.expected))
        return f"drift: db={db} expected={expected}"


def compare(image: RevisionGraph, rows: Collection[str] | None, *, other_tables: bool = False) -> Drift:
    """Judge the rows of the version table (None: there is no such table) against the image."""
    if rows is None:
        verdict = Verdict.UNSTAMPED if other_tables else Verdict.EMPTY
        return _drift(image, verdict, (), image.pending(()))
    stamped = tuple(sorted(set(rows)))
    resolved = {row: image.resolve(row) for row in stamped}
    known = {id_ for id_ in resolved.values() if id_}
    unknown = tuple(row for row, id_ in resolved.items() if not id_)
    if unknown:
        verdict = Verdict.UNKNOWN if known <= set(image.heads) else Verdict.DIVERGED
        return _drift(image, verdict, stamped, image.pending(known), unknown=unknown)
    if half_applied(image, known):
        return _drift(image, Verdict.DIVERGED, stamped, image.pending(known))
    pending = image.pending(known)
    overlapping = _overlapping(image, known)
    redundant = tuple(row for row, id_ in resolved.items() if id_ in overlapping)
    verdict = Verdict.BEHIND if pending else Verdict.CURRENT
    return _drift(image, verdict, stamped, pending, redundant=redundant)


def half_applied(image: RevisionGraph, rows: Collection[str]) -> bool:
    """Whether a row is an ancestor of another only through `depends_on` and has children of its own.

    Such a child was never applied, else the row would have moved on to it; but Alembic counts it as
    applied, because the other row depends on it by now (hazards.md 1, last row but three).
    """
    overlapping = _overlapping(image, rows)
    parents = [parent for row in rows for parent in image.revisions[row].down] if overlapping else []
    plainly = image.plain_closure(parents)
    return any(image.children[row] and row not in plainly for row in overlapping)


def _overlapping(image: RevisionGraph, rows: Collection[str]) -> set[str]:
    """The rows that are ancestors of another; one walk for all of them, since a foreign table may hold a thousand."""
    parents = [parent for row in rows for parent in image.parents[row]] if len(rows) > 1 else []
    return set(rows) & image.closure(parents)


def _drift(
    image: RevisionGraph,
    verdict: Verdict,
    stamped: tuple[str, ...],
    pending: tuple[str, ...],
    unknown: tuple[str, ...] = (),
    redundant: tuple[str, ...] = (),
) -> Drift:
    messages = {id_: image.revisions[id_].message for id_ in pending}
    return Drift(verdict, stamped, image.heads, pending, unknown, redundant, messages)
