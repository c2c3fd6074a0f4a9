"""A target in Alembic's revision syntax, as `alembic upgrade` takes it -> the revisions that it names.

Pure. The rules are those of `RevisionMap._parse_upgrade_target` and `get_revisions` in `alembic.script.revision`, but
for targets that depend on what the database is stamped with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from gate.errors import BadScripts
from gate.image.revision_graph import ALL_HEADS, RevisionGraph, names_steps_down
from gate.text import join_ids, printable, short_name

_RELATIVE = re.compile(r"(?:(.+?)@)?(\w+)?((?:\+|-)\d+)")
"""Alembic's `_relative_destination`, which it also matches with the beginning of a longer text."""

MAX_STEPS_LENGTH = 20
"""Characters of a number of steps that count: more steps lead beyond the end of any history."""


def for_target(graph: RevisionGraph, address: str) -> RevisionGraph:
    """Return the graph of the same image with what an address names as its target.

    Raises `BadScripts` if it names nothing, if Alembic would refuse it, or if it is relative to the database.
    """
    if address == ALL_HEADS:
        return graph
    named = set(_Resolver(graph, address).resolve())
    return graph.with_targets(address, tuple(id_ for id_ in graph.revisions if id_ in named))


class _Resolver(NamedTuple):
    """Resolves one address in one graph."""

    graph: RevisionGraph
    address: str

    def resolve(self) -> list[str]:
        if ":" in self.address:
            self._fail("is a range, which Alembic renders as SQL and does not apply; name its end")
        relative = _RELATIVE.match(self.address)
        ids = [self._relative(*relative.groups())] if relative else self._absolute(self.address)
        below = self.graph.closure(parent for id_ in ids for parent in self.graph.parents[id_])
        if inner := [id_ for id_ in ids if id_ in below]:
            self._fail(
                f"names {join_ids(ids)}, and Alembic refuses that, since another of them needs {join_ids(inner)}; "
                "name one revision"
            )
        return ids

    def _absolute(self, address: str) -> list[str]:
        branch, at, name = address.partition("@")
        branch, name = (branch, name) if at else ("", branch)
        if name not in {"head", "heads"}:
            return [self._named(name, branch)]
        if name == "heads" and not branch:
            return [*self.graph.heads]
        heads = self._on_branch((id_ for id_ in self.graph.revisions if not self.graph.children[id_]), branch)
        if name == "head" and len(heads) > 1:
            self._fail(
                f"names one head, and {'that branch' if branch else 'this image'} has {len(heads)} "
                f"({join_ids(heads)}); name one of them, BRANCH@head, or heads"
            )
        return heads

    def _named(self, name: str, branch: str) -> str:
        if name == "base":
            self._fail("requires no revision, so every database would fit; name a revision")
        names = [] if names_steps_down(name) else self.graph.names_like(name)
        if branch and len(names) > 1:
            names = [each for each in names if self._on_branch([self.graph.id_of(each)], branch)]
        if len(names) > 1:
            self._fail(f"names several revisions or branches of this image ({join_ids(names)}); write more of the id")
        if not names:
            self._fail_unknown()
        id_ = self.graph.id_of(names[0])
        if not self._on_branch([id_], branch):
            self._fail(f"names revision {printable(id_)}, which is not on branch {printable(branch)}")
        return id_

    def _on_branch(self, ids: Iterable[str], branch: str) -> list[str]:
        """Return those that are ancestors or descendants of the branch's revision through down_revision."""
        if not branch:
            return [*ids]
        id_ = self.graph.resolve(branch)
        if id_ is None:
            self._fail_unknown(printable(branch))
        below = self.graph.plain_closure([id_])
        return [each for each in ids if each in below or id_ in self.graph.plain_closure([each])]

    def _relative(self, branch: str | None, symbol: str | None, steps: str) -> str:
        if symbol is None:
            self._fail(
                "counts from the revision that the database is stamped with, so it names no revision that this image "
                f"needs; name a revision, or count from one (REVISION{steps})"
            )
        number = int(steps[:MAX_STEPS_LENGTH])
        if number <= 0:
            return self._down(self._single(f"{branch}@{symbol}" if branch else symbol), -number)
        return self._up(None if symbol == "base" else self._single(symbol), number, branch or "")

    def _single(self, address: str) -> str:
        ids = self._absolute(address)
        if len(ids) > 1:
            self._fail(f"counts from {printable(address)}, which names several revisions ({join_ids(ids)}); name one")
        return ids[0]

    def _up(self, start: str | None, steps: int, branch: str) -> str:
        """Go up by a number of steps; None is the base, below the first revisions."""
        at = start
        for _ in range(steps):
            above = (
                [r.id for r in self.graph.revisions.values() if not r.down] if at is None else self.graph.children[at]
            )
            at = self._only(self._on_branch(above, branch))
        assert at is not None
        return at

    def _down(self, start: str, steps: int) -> str:
        at = start
        for _ in range(steps):
            at = self._only(self.graph.revisions[at].down)
        return at

    def _only(self, ids: Iterable[str]) -> str:
        several = [*ids]
        if not several:
            self._fail("counts beyond the end of this image's history; name a revision")
        if len(several) > 1:
            self._fail(f"counts across a fork ({join_ids(several)}); name a revision")
        return several[0]

    def _fail_unknown(self, name: str = "") -> NoReturn:
        labels = [label for r in self.graph.revisions.values() for label in r.labels]
        known = f"its branch labels are {join_ids(labels)}" if labels else "it has no branch labels"
        several = ""
        if re.search(r"[\s,]", self.address):
            several = "; gate takes one address, as `alembic upgrade` does"
        unknown = f"names branch {name}, which this image does not have" if name else "names nothing in this image"
        self._fail(f"{unknown}; {known}{several}")

    def _fail(self, reason: str) -> NoReturn:
        raise BadScripts(f"The target {short_name(self.address)} (GATE_TARGET) {reason}.")
