"""One section of the report: a table of results, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """One measured value and its limit: an upper limit, or a lower one if `is_minimum`.

    `explanation` is printed if the target is not met.
    """

    name: str
    measured: float
    limit: float
    unit: str = "×"
    is_minimum: bool = False
    explanation: str = ""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.is_minimum else self.measured <= self.limit

    def row(self) -> list[str]:
        sign = "≥" if self.is_minimum else "≤"
        met = "yes" if self.met else "**no**"
        measured, limit = (f"{number} {self.unit}".rstrip() for number in (f"{self.measured:.3g}", f"{self.limit:g}"))
        return [self.name, measured, f"{sign} {limit}", met]


@dataclass(frozen=True)
class Section:
    """One table; `method` describes how its values were measured."""

    title: str
    method: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target] = field(default=())


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"


def times(ratio: float) -> str:
    return f"{ratio:.2f} ×"
