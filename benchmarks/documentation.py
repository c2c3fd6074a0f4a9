"""Writes selected results into the documentation, between two comments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.check import ALEMBIC, ALEMBIC_WITH_APP, BASELINE, CHECK, RUN, SMALL, CheckCosts
from benchmarks.measure import median_of, memory, wall
from benchmarks.report import table
from benchmarks.section import Section
from benchmarks.workspace import COLD, WARM

BEGIN, END = "<!-- figures: make bench writes them -->\n\n", "\n<!-- end of figures -->\n"

NAMES = {
    BASELINE: "a bare script that imports psycopg, connects and reads the version table",
    CHECK: "**`gate check`**",
    RUN: "**`gate run -- true`**",
    ALEMBIC: "`alembic current --check-heads`",
    ALEMBIC_WITH_APP: "the same, with an env.py that imports an application",
}

WAITING = (
    "peak memory of a waiter",
    "CPU time of one check",
    "checks in ten minutes without a migrator (maximum of 200)",
    "commit to server start, migrator visible, median",
)


def with_figures(text: str, check_costs: CheckCosts, sections: Sequence[Section]) -> str:
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return "".join((before, BEGIN, "\n".join(_figures(check_costs, sections)), END, after))


def _figures(check_costs: CheckCosts, sections: Sequence[Section]) -> Iterator[str]:
    warm, cold = (check_costs.costs[SMALL, caches] for caches in (WARM, COLD))
    yield table(
        [f"one check of a current database, {SMALL} revisions", WARM, COLD, "peak memory"],
        [
            [
                label,
                *(f"{median_of(costs[name], wall):.2f} s" for costs in (warm, cold)),
                f"{median_of(warm[name], memory):.0f} MB",
            ]
            for name, label in NAMES.items()
        ],
    )
    measured = {target.name: target.row()[1] for section in sections for target in section.targets}
    yield table(["waiting", "measured"], [[name, measured[name]] for name in WAITING])
