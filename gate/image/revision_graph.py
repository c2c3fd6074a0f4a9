"""The revision graph of an image: heads, ancestors, and the revisions that an upgrade would apply, in order.

Pure: values in, values out. The terms and the rules are those of `alembic.script.revision`: the parents of a revision
are its `down_revision` and its `depends_on`; an effective head is a revision that is no parent of another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from functools import cached_property
from itertools import islice, takewhile
from typing import NamedTuple

from gate.errors import BadScripts
from gate.text import truncate

FORBIDDEN_CHARACTERS = "@-+:"
"""Characters that Alembic rejects in an id: its revision syntax uses them (`_revision_illegal_chars`)."""

RESERVED_IDS = frozenset({"base", "head", "heads"})
"""Symbols of Alembic's revision syntax; a revision with such an id could not be addressed."""

ALL_HEADS = "heads"
"""The target that names all effective heads, in Alembic's revision syntax."""

MIN_PARTIAL_LENGTH = 4
"""Characters; Alembic resolves a partial id only to ids and labels of at least this length."""


MAX_ID_LENGTH = 255
"""Characters of a revision id: gate reads no more of a row. Alembic's own column holds 32 of them."""

MAX_SHOWN = 5
"""Revisions of a cycle that a message names."""


class Revision(NamedTuple):
    """One migration script.

    `down`: its down_revision, as a tuple; `labels`: its branch labels; `message`: the first paragraph of its
    docstring; `path`: its file; `post_deploy`: the script says that it may run after the deployment.
    """

    id: str
    down: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    message: str = ""
    path: str = ""
    post_deploy: bool = False


class RevisionGraph:
    """All revisions of an image; `parents` and `heads` are ids.

    `target`: what the image needs, in Alembic's revision syntax; `targets`: the ids that this names; `may_wait`: the
    ids that may wait until after the deployment, since they and all their descendants are `post_deploy`; `expected`:
    the effective heads of what is required, which is `targets` and their ancestors without `may_wait`.

    Raises `BadScripts`, which names the files, if there is no revision, an id or a label occurs twice, a parent is
    missing, or there is a cycle.
    """

    def __init__(self, revisions: Iterable[Revision]) -> None:
        self.revisions = _by_id(revisions)
        labelled = _by_label(self.revisions)
        self._names = self.revisions | labelled if labelled else self.revisions
        self.parents = {r.id: self._parents(r) for r in self.revisions.values()}
        _reject_cycles(self.parents, self.revisions)
        self.heads = self._heads_of(self.revisions)
        self.may_wait = self._find_may_wait()
        self.target = ALL_HEADS
        self.targets = self.heads
        self.expected = self._required_heads(self.targets)

    def with_targets(self, address: str, targets: tuple[str, ...]) -> RevisionGraph:
        """Return the graph of the same image with another target, which names these ids."""
        graph = copy(self)
        graph.target, graph.targets, graph.expected = address, targets, self._required_heads(targets)
        return graph

    @property
    def requires_all(self) -> bool:
        """Whether all revisions are required: there is no other target, and none may wait."""
        return self.target == ALL_HEADS and not self.may_wait

    @property
    def needed_post_deploy(self) -> dict[str, str]:
        """The `post_deploy` revisions that are required all the same -> a required one that needs each."""
        needed_by: dict[str, str] = {}
        for revision in self.revisions.values():
            if not revision.post_deploy:
                todo = [revision.id]
                while todo:
                    id_ = todo.pop()
                    if id_ not in needed_by:
                        needed_by[id_] = revision.id
                        todo.extend(self.parents[id_])
        return {r.id: needed_by[r.id] for r in self.revisions.values() if r.post_deploy and r.id in needed_by}

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """For each id the revisions whose down_revision names it."""
        return {id_: tuple(above) for id_, above in children_of(self._down).items()}

    def resolve(self, row: str) -> str | None:
        """Return the id that a row denotes by an id, a label or a unique prefix of one; None if there is none.

        A row that Alembic reads as a symbol (`head`, `-1`, `shop@head`) denotes nothing: Alembic never writes one, and
        what it would resolve to depends on the image and not on the database.
        """
        if row in RESERVED_IDS or "@" in row or names_steps_down(row):
            return None
        names = self.names_like(row, 2)
        return self.id_of(names[0]) if len(names) == 1 else None

    def id_of(self, name: str) -> str:
        """Return the id of the revision that has this id or this label."""
        return self._names[name].id

    def names_like(self, text: str, limit: int | None = None) -> list[str]:
        """Return the id or label that equals a text, else the first `limit` of those that a prefix may denote."""
        if text in self._names:
            return [text]
        at = bisect_left(self._partial, text)
        return (
            [*takewhile(lambda name: name.startswith(text), islice(self._partial, at, limit and at + limit))]
            if text
            else []
        )

    @cached_property
    def _partial(self) -> list[str]:
        """The ids and labels that a prefix may denote, sorted, so that those with a common prefix are adjacent."""
        return sorted(name for name in self._names if len(name) >= MIN_PARTIAL_LENGTH)

    def closure(self, ids: Iterable[str]) -> set[str]:
        """Return the ids and all their ancestors, through down_revision and depends_on."""
        return set(walk(ids, self.parents))

    def plain_closure(self, ids: Iterable[str]) -> set[str]:
        """Return the ids and their ancestors through down_revision only."""
        return set(walk(ids, self._down))

    def pending(self, applied: Collection[str]) -> tuple[str, ...]:
        """Return the required revisions that an upgrade to `expected` would apply to a database with these ids.

        They are in Alembic's order: without phases those of `alembic upgrade TARGET`.
        """
        return self._missing(self.expected, applied)

    def outstanding(self, applied: Collection[str]) -> tuple[str, ...]:
        """Return all that `alembic upgrade TARGET` would apply, with the revisions that may wait, in its order."""
        return self._missing(self.targets, applied)

    def _missing(self, targets: tuple[str, ...], applied: Collection[str]) -> tuple[str, ...]:
        if set(targets) <= set(applied):
            return ()
        return self._order.sort(self.closure(targets) - self.closure(applied), targets)

    def _find_may_wait(self) -> frozenset[str]:
        """A revision may wait unless it, or one that descends from it, is not `post_deploy`."""
        if not any(revision.post_deploy for revision in self.revisions.values()):
            return frozenset()
        required = self.closure(r.id for r in self.revisions.values() if not r.post_deploy)
        return frozenset(self.revisions.keys() - required)

    def _required_heads(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not self.may_wait:
            return targets
        return self._heads_of(self.closure(targets) - self.may_wait)

    def _heads_of(self, ids: Collection[str]) -> tuple[str, ...]:
        """Return the effective heads of revisions that contain their ancestors, in the order of the files."""
        inner = {parent for id_ in ids for parent in self.parents[id_]}
        return tuple(id_ for id_ in self.revisions if id_ in ids and id_ not in inner)

    @cached_property
    def _down(self) -> dict[str, tuple[str, ...]]:
        return {r.id: r.down for r in self.revisions.values()}

    @cached_property
    def _order(self) -> UpgradeOrder:
        dependencies = {r.id: {self._names[name].id for name in r.depends_on} for r in self.revisions.values()}
        return UpgradeOrder(self.parents, self._down, dependencies)

    def _parents(self, revision: Revision) -> tuple[str, ...]:
        for parent in revision.down:
            if parent not in self.revisions:
                raise BadScripts(_missing_parent(revision, "down_revision", parent, self.revisions))
        for name in revision.depends_on:
            if name not in self._names:
                raise BadScripts(_missing_parent(revision, "depends_on", name, self.revisions))
        if not revision.depends_on and len(revision.down) <= 1:
            return revision.down  # the common case: 10,000 copies would take a megabyte
        resolved = [self._names[name].id for name in revision.depends_on]
        return tuple(dict.fromkeys((*revision.down, *resolved)))


def names_steps_down(text: str) -> bool:
    """Whether Alembic reads a text as a number of steps down from the heads (`RevisionMap.get_revisions`)."""
    try:
        return int(text) < 0
    except ValueError:
        return False


def _by_id(revisions: Iterable[Revision]) -> dict[str, Revision]:
    by_id: dict[str, Revision] = {}
    for revision in revisions:
        _reject_bad_id(revision)
        if (other := by_id.setdefault(revision.id, revision)) is not revision:
            raise BadScripts(
                f"Revision {revision.id!r} is in two files, {other.path} and {revision.path}; Alembic would silently "
                "use one of them. Remove one file or change its id."
            )
    if not by_id:
        # Two empty sets of revisions are equal: an empty image would pass on every database.
        raise BadScripts(
            "The image has no revisions: no migration script was found. Copy the versions folder into the image, or "
            "correct script_location."
        )
    return by_id


def _reject_bad_id(revision: Revision) -> None:
    if bad := [c for c in FORBIDDEN_CHARACTERS if c in revision.id]:
        raise BadScripts(f"{revision.path}: Alembic does not allow {bad[0]!r} in the revision id {revision.id!r}.")
    if revision.id in RESERVED_IDS:
        raise BadScripts(f"{revision.path}: Alembic reserves the revision id {revision.id!r}; change it.")
    if len(revision.id) > MAX_ID_LENGTH:
        raise BadScripts(
            f"{revision.path}: the revision id {truncate(revision.id)!r} has {len(revision.id)} characters, and gate "
            f"compares no more than {MAX_ID_LENGTH} of a stamped row; shorten it (Alembic's own column holds 32)."
        )
    if revision.id in revision.down or revision.id in revision.depends_on:
        raise BadScripts(f"{revision.path}: revision {revision.id!r} is its own parent; correct it.")


def _by_label(revisions: Mapping[str, Revision]) -> dict[str, Revision]:
    by_label: dict[str, Revision] = {}
    for revision in revisions.values():
        for label in revision.labels:
            if other := revisions.get(label) or by_label.get(label):
                raise BadScripts(f"{revision.path} and {other.path} both use the branch label {label!r}; rename one.")
            by_label[label] = revision
    return by_label


def _missing_parent(revision: Revision, variable: str, name: str, known: Mapping[str, Revision]) -> str:
    return (
        f"{revision.path}: {variable} {name!r} of revision {revision.id!r} is in none of the {len(known)} scripts of "
        "this image; copy the missing script into the image, or correct the line."
    )


def _reject_cycles(parents: Mapping[str, tuple[str, ...]], revisions: Mapping[str, Revision]) -> None:
    # Kahn's algorithm: what remains is in a cycle or descends from one.
    open_parents = {id_: len(ids) for id_, ids in parents.items()}
    children = children_of(parents)
    ready = [id_ for id_, count in open_parents.items() if not count]
    while ready:
        for child in children[ready.pop()]:
            open_parents[child] -= 1
            if not open_parents[child]:
                ready.append(child)
    if rest := sorted(id_ for id_, count in open_parents.items() if count):
        files = ", ".join(revisions[id_].path for id_ in rest[:MAX_SHOWN])
        raise BadScripts(
            f"The revisions {', '.join(rest[:MAX_SHOWN])} form a cycle or descend from one; correct down_revision or "
            f"depends_on in {files}."
        )


Edges = Mapping[str, Collection[str]]
"""For each id the ids that are related to it, such as its parents."""


class UpgradeOrder:
    """The order in which Alembic applies revisions (`_topological_sort` in `alembic.script.revision`).

    `plain`: parents through down_revision; `dependencies`: through depends_on; `parents`: through either.
    """

    def __init__(
        self,
        parents: Mapping[str, tuple[str, ...]],
        plain: Mapping[str, tuple[str, ...]],
        dependencies: Edges,
    ) -> None:
        self.parents, self.plain, self.dependencies = parents, plain, dependencies
        self._dependents = Counter(id_ for ids in dependencies.values() for id_ in ids)

    def sort(self, revisions: set[str], targets: tuple[str, ...]) -> tuple[str, ...]:
        """Return the revisions in the order in which Alembic applies them on the way to the targets."""
        return tuple(reversed(self._walk_down(set(revisions), targets)))

    def _walk_down(self, todo: set[str], targets: tuple[str, ...]) -> list[str]:
        """Follow one branch as far as possible; visit a parent only after all its children."""
        children = children_of(self.parents)
        open_children = {id_: sum(child in todo for child in children[id_]) for id_ in todo}
        tips = [target for target in targets if target in todo]
        walked: list[str] = []
        at = 0
        while tips:
            if open_children[tips[at]]:
                at = _first_descendant(tips, at, children, todo)
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
        """Return the parents without the dependencies that an ancestor has as well."""
        return tuple(p for p in self.parents[id_] if p in self.plain[id_] or not self._is_inherited(p, id_))

    def _is_inherited(self, dependency: str, id_: str) -> bool:
        """Return whether an ancestor of a revision has the same dependency."""
        if self._dependents[dependency] == 1:  # the common case, without a walk over all ancestors
            return False
        return any(dependency in self.dependencies[ancestor] for ancestor in walk(self.plain[id_], self.plain))


def _first_descendant(tips: list[str], at: int, children: Edges, todo: set[str]) -> int:
    """Return the index of the first tip that descends from this one, through revisions that are not visited yet."""
    descendants = set(walk([tips[at]], children, todo))
    return next(n for n, tip in enumerate(tips) if n != at and tip in descendants)


def children_of(parents: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Invert a mapping from ids to their parents."""
    children: dict[str, list[str]] = {id_: [] for id_ in parents}
    for id_, ids in parents.items():
        for parent in ids:
            children[parent].append(id_)
    return children


def walk(ids: Iterable[str], edges: Edges, within: Collection[str] | None = None) -> Iterator[str]:
    """Yield these ids and all that can be reached from them, each once; `within` limits the walk to these ids."""
    seen: set[str] = set()
    todo = list(ids)
    while todo:
        id_ = todo.pop()
        if id_ not in seen and (within is None or id_ in within):
            seen.add(id_)
            todo.extend(edges[id_])
            yield id_
