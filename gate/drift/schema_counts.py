"""The verdicts of many schemas, counted: the drift line and the sentences stay short with ten thousand of them.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gate.text import join_ids, printable, truncate

if TYPE_CHECKING:
    from gate.drift.comparison import Verdict

MAX_SHOWN = 5
"""Schemas of one verdict that a line names."""

MAX_NAMES_LENGTH = 64
"""Characters of a schema's name in a line."""


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
        return self.verdict in {"CURRENT", "DEFERRED"}

    def names(self) -> str:
        """Name the first schemas: `t7 (0002), t19 (none) and 3 more`."""
        shown = [f"{short_name(name)} ({join_ids(stamped, ',') or 'none'})" for name, stamped in self.first[:MAX_SHOWN]]
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


def short_name(name: str) -> str:
    """Make the name of a schema printable and short."""
    return truncate(printable(truncate(name, MAX_NAMES_LENGTH)), MAX_NAMES_LENGTH)
