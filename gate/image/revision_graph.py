"""The revision graph of an image: heads, closure, and what an upgrade would run.

Pure: values in, values out. The words and the rules are Alembic's (its `script/revision.py`): a revision's
parents are its `down_revision` and its `depends_on`; an effective head is a revision that is nobody's parent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from gate.errors import BadScripts

FORBIDDEN = "@-+:"
"""Characters that Alembic refuses in an id, since they mean something in a revision's address."""

RESERVED = frozenset({"base", "head", "heads"})
"""Alembic's symbols: it takes a revision of that name for something else."""

SHORTEST_PARTIAL = 4
"""Alembic matches a partial id only with names of at least this length."""


class Revision(NamedTuple):
    """One migration script. `path` names the file, `message` is the first paragraph of its docstring."""

    id: str
    down: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    message: str = ""
    path: str = ""


class RevisionGraph:
    """All revisions of an image.

    Raises `BadScripts`, naming the files, for what Alembic could not work with either: no revision at all,
    an id or a label given twice, a missing parent, a cycle.
    """

    def __init__(self, revisions: Iterable[Revision]) -> None:
        self.revisions = _by_id(revisions)
        labelled = _by_label(self.revisions)
        self._names = self.revisions | labelled if labelled else self.revisions
        self.parents = {r.id: self._parents(r) for r in self.revisions.values()}
        _reject_cycles(self.parents, self.revisions)
        self.heads = self._heads()

    def _heads(self) -> tuple[str, ...]:
        """The effective heads, in the order of the files."""
        inner = {parent for parents in self.parents.values() for parent in parents}
        return tuple(id_ for id_ in self.revisions if id_ not in inner)

    @cached_property
    def _down(self) -> dict[str, tuple[str, ...]]:
        return {r.id: r.down for r in self.revisions.values()}

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """For each id those whose `down_revision` names it (`depends_on` does not count)."""
        return {id_: tuple(above) for id_, above in children_of(self._down).items()}

    def resolve(self, row: str) -> str | None:
        """The id that a row of the version table stands for; Alembic takes a unique prefix, too."""
        if row in self._names:
            return self._names[row].id
        at = bisect_left(self._partial, row)
        matches = [name for name in self._partial[at : at + 2] if name.startswith(row)]
        return self._names[matches[0]].id if row and len(matches) == 1 else None

    @cached_property
    def _partial(self) -> list[str]:
        """The names that a part of them may stand for, sorted: those with a common beginning stand together."""
        return sorted(name for name in self._names if len(name) >= SHORTEST_PARTIAL)

    def closure(self, ids: Iterable[str]) -> set[str]:
        """The ids and all their ancestors, through `down_revision` and `depends_on`."""
        return set(walk(ids, self.parents))

    def plain_closure(self, ids: Iterable[str]) -> set[str]:
        """The ids and their ancestors through `down_revision` alone."""
        return set(walk(ids, self._down))

    def pending(self, applied: Collection[str]) -> tuple[str, ...]:
        """What `alembic upgrade heads` would run on a database with these rows, in that order."""
        if set(self.heads) <= set(applied):
            return ()
        missing = self.closure(self.heads) - self.closure(applied)
        return self._order.of(missing)

    @cached_property
    def _order(self) -> UpgradeOrder:
        dependencies = {r.id: {self._names[name].id for name in r.depends_on} for r in self.revisions.values()}
        return UpgradeOrder(self.heads, self.parents, self._down, dependencies)

    def _parents(self, revision: Revision) -> tuple[str, ...]:
        for parent in revision.down:
            if parent not in self.revisions:
                raise BadScripts(_missing_parent(revision, "down_revision", parent, self.revisions))
        for name in revision.depends_on:
            if name not in self._names:
                raise BadScripts(_missing_parent(revision, "depends_on", name, self.revisions))
        if not revision.depends_on and len(revision.down) <= 1:
            return revision.down  # as nearly all are: ten thousand copies would be a megabyte
        resolved = [self._names[name].id for name in revision.depends_on]
        return tuple(dict.fromkeys((*revision.down, *resolved)))


def _by_id(revisions: Iterable[Revision]) -> dict[str, Revision]:
    found: dict[str, Revision] = {}
    for revision in revisions:
        _reject_bad_id(revision)
        if (other := found.setdefault(revision.id, revision)) is not revision:
            raise BadScripts(
                f"Revision {revision.id!r} stands in two files, {other.path} and {revision.path}; "
                "Alembic would silently take one of them. Remove one or give it an id of its own."
            )
    if not found:
        raise BadScripts(
            "The image has no revisions: no migration script was found. An image without scripts never "
            "passes; copy the versions folder into the image or correct script_location."
        )
    return found


def _reject_bad_id(revision: Revision) -> None:
    if bad := [c for c in FORBIDDEN if c in revision.id]:
        raise BadScripts(f"{revision.path}: Alembic allows no {bad[0]!r} in the revision id {revision.id!r}.")
    if revision.id in RESERVED:
        raise BadScripts(f"{revision.path}: Alembic reserves the name {revision.id!r}; give the revision another id.")
    if revision.id in revision.down or revision.id in revision.depends_on:
        raise BadScripts(f"{revision.path}: revision {revision.id!r} is its own parent; correct it.")


def _by_label(revisions: Mapping[str, Revision]) -> dict[str, Revision]:
    found: dict[str, Revision] = {}
    for revision in revisions.values():
        for label in revision.labels:
            if other := revisions.get(label) or found.get(label):
                raise BadScripts(f"The branch label {label!r} of {revision.path} is taken by {other.path}; rename one.")
            found[label] = revision
    return found


def _missing_parent(revision: Revision, what: str, name: str, known: Mapping[str, Revision]) -> str:
    return (
        f"{revision.path}: {what} {name!r} of revision {revision.id!r} is in none of the {len(known)} scripts of "
        "this image; copy the missing script into the image or correct the line."
    )


def _reject_cycles(parents: Mapping[str, tuple[str, ...]], revisions: Mapping[str, Revision]) -> None:
    waiting = {id_: len(above) for id_, above in parents.items()}
    children = children_of(parents)
    free = [id_ for id_, count in waiting.items() if not count]
    while free:
        for child in children[free.pop()]:
            waiting[child] -= 1
            if not waiting[child]:
                free.append(child)
    if stuck := sorted(id_ for id_, count in waiting.items() if count):
        files = ", ".join(revisions[id_].path for id_ in stuck[:5])
        raise BadScripts(f"The revisions {', '.join(stuck[:5])} form a cycle or stand above one ({files}); break it.")


Above = Mapping[str, Collection[str]]
"""For each id those that stand beside it by some relation."""


class UpgradeOrder:
    """`plain`: parents through `down_revision`; `dependencies`: through `depends_on`; `parents`: through either."""

    def __init__(
        self,
        heads: tuple[str, ...],
        parents: Mapping[str, tuple[str, ...]],
        plain: Mapping[str, tuple[str, ...]],
        dependencies: Above,
    ) -> None:
        self.heads, self.parents, self.plain, self.dependencies = heads, parents, plain, dependencies
        self._dependents = Counter(id_ for ids in dependencies.values() for id_ in ids)

    def of(self, missing: set[str]) -> tuple[str, ...]:
        """The steps that apply these revisions."""
        return tuple(reversed(self._down(set(missing))))

    def _down(self, todo: set[str]) -> list[str]:
        """One branch as long as possible, never a parent before its last child."""
        children = children_of(self.parents)
        open_children = {id_: sum(child in todo for child in children[id_]) for id_ in todo}
        tips = [head for head in self.heads if head in todo]
        walked: list[str] = []
        at = 0
        while tips:
            if open_children[tips[at]]:
                at = _first_above(tips, at, children, todo)
                continue
            walked.append(tips[at])
            todo.remove(tips[at])
            for parent in todo.intersection(self.parents[tips[at]]):
                open_children[parent] -= 1
            at = self._step_down(tips, at, todo)
        return walked

    def _step_down(self, tips: list[str], at: int, todo: set[str]) -> int:
        nexts = [p for p in self._direct_parents(tips[at]) if p in todo and p not in tips]
        if not nexts:
            del tips[at]
            return max(at - 1, 0)
        tips[at] = nexts[0]
        tips.extend(nexts[1:])
        return at

    def _direct_parents(self, id_: str) -> tuple[str, ...]:
        """The parents less those dependencies that an ancestor brings along already."""
        return tuple(p for p in self.parents[id_] if p in self.plain[id_] or not self._is_inherited(p, id_))

    def _is_inherited(self, dependency: str, heir: str) -> bool:
        """Most are not, since nobody else has them; the others are found near by, as a rule."""
        if self._dependents[dependency] == 1:
            return False
        return any(dependency in self.dependencies[id_] for id_ in walk(self.plain[heir], self.plain))


def _first_above(tips: list[str], at: int, children: Above, todo: set[str]) -> int:
    """The first tip that stands above this one: what has not been walked yet above it is searched, and no more."""
    above = set(walk([tips[at]], children, todo))
    return next(n for n, tip in enumerate(tips) if n != at and tip in above)


def children_of(parents: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Who names whom, the other way round."""
    found: dict[str, list[str]] = {id_: [] for id_ in parents}
    for id_, above in parents.items():
        for parent in above:
            found[parent].append(id_)
    return found


def walk(ids: Iterable[str], nexts: Above, within: Collection[str] | None = None) -> Iterator[str]:
    """These ids and all that can be reached from them, each once."""
    seen: set[str] = set()
    todo = list(ids)
    while todo:
        id_ = todo.pop()
        if id_ not in seen and (within is None or id_ in within):
            seen.add(id_)
            todo.extend(nexts[id_])
            yield id_
