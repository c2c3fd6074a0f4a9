"""One section of the report: a table of results, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

NEAR = 0.85
"""The share of a limit from which a value is near it."""


@dataclass(frozen=True)
class Target:
    """One measured value and its limit: an upper limit, or a lower one if `is_minimum`.

    `reason` and `remedy` (what would change it) are printed if the target is not met. `floor` describes the share that
    gate cannot avoid; it is printed if the value is near its limit or beyond it.
    """

    name: str
    measured: float
    limit: float
    unit: str = "×"
    is_minimum: bool = False
    reason: str = ""
    remedy: str = ""
    floor: str = ""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.is_minimum else self.measured <= self.limit

    @property
    def is_near(self) -> bool:
        """Whether the value has used most of what the limit allows, or all of it."""
        used = self.limit / self.measured if self.is_minimum and self.measured else self.measured / self.limit
        return used >= NEAR

    @property
    def value(self) -> str:
        return f"{self.measured:.3g} {self.unit}".rstrip()

    @property
    def bound(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {self.limit:g} {self.unit}".rstrip()

    def row(self) -> list[str]:
        met = "yes" if self.met else "**no**"
        return [self.name, self.value, self.bound, met, self.floor if self.is_near else ""]


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
