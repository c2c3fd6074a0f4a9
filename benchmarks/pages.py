"""The figures in docs/costs.md and in README.md, each between two marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.chapter import Chapter
from benchmarks.measure import memory, middle, wall
from benchmarks.report import table
from benchmarks.stage import COLD, WARM
from benchmarks.start import ALEMBIC, CHECK, FLOOR, LOADED, RUN, SMALL, Starts

BEGIN, END = "<!-- figures: make bench writes them -->\n\n", "\n<!-- end of figures -->\n"

NAMES = {
    FLOOR: "a bare script that imports psycopg, connects and reads the version table",
    CHECK: "**`gate check`**",
    RUN: "**`gate run -- true`**",
    ALEMBIC: "`alembic current --check-heads`",
    LOADED: "the same, where env.py imports an application",
}

WAITING = (
    "peak memory of a waiter",
    "CPU of a waiter's check",
    "checks in ten minutes without a migrator (most of 200)",
    "commit to start while a gate migrates, median",
)


def costs(page: str, starts: Starts, chapters: Sequence[Chapter]) -> str:
    return _between_marks(page, "\n".join(_tables(starts, chapters)))


def readme(page: str, starts: Starts) -> str:
    return _between_marks(page, _sentences(starts))


def _between_marks(page: str, figures: str) -> str:
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}{figures}{END}{after}"


def _sentences(starts: Starts) -> str:
    warm = starts.costs[SMALL, WARM]
    took = {name: f"{middle(cost, wall):.2f} s and {middle(cost, memory):.0f} MB" for name, cost in warm.items()}
    return (
        f"`gate check` takes {took[CHECK]} for a current database and {SMALL} revisions. A bare script that imports"
        " psycopg, connects\n"
        f"and reads the version table takes {took[FLOOR]}; {NAMES[ALEMBIC]} takes {took[ALEMBIC]}.\n"
    )


def _tables(starts: Starts, chapters: Sequence[Chapter]) -> Iterator[str]:
    warm, cold = (starts.costs[SMALL, caches] for caches in (WARM, COLD))
    yield table(
        [f"a check of a current database, {SMALL} revisions", WARM, COLD, "peak memory"],
        [
            [
                words,
                *(f"{middle(costs[name], wall):.2f} s" for costs in (warm, cold)),
                f"{middle(warm[name], memory):.0f} MB",
            ]
            for name, words in NAMES.items()
        ],
    )
    targets = {target.what: target.row()[1] for chapter in chapters for target in chapter.targets}
    yield table(["waiting", "measured"], [[what, targets[what]] for what in WAITING])
