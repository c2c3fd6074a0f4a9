"""What one measurement found: a table, and the targets that it was held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """One figure and its limit, which must not be exceeded, or must be reached (`least`); `why`: if it is not met."""

    what: str
    measured: float
    limit: float
    unit: str = "×"
    least: bool = False
    why: str = ""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    def row(self) -> list[str]:
        sign = "≥" if self.least else "≤"
        verdict = "yes" if self.met else "**no**"
        found, limit = (f"{number} {self.unit}".rstrip() for number in (f"{self.measured:.3g}", f"{self.limit:g}"))
        return [self.what, found, f"{sign} {limit}", verdict]


@dataclass(frozen=True)
class Chapter:
    """One table; `how`: how its figures came about."""

    title: str
    how: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target] = field(default=())


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"


def times(ratio: float) -> str:
    return f"{ratio:.2f} ×"
