"""In which order `alembic upgrade heads` runs its steps: as Alembic's `script/revision.py`, in linear time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

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
