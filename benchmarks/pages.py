"""What of the figures stands in README.md, between two marks."""

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
    "CPU of a waiter's look",
    "looks in ten minutes without a migrator (most of 200)",
    "commit to start while a gate migrates, median",
)


def with_figures(readme: str, starts: Starts, chapters: Sequence[Chapter]) -> str:
    before, _, rest = readme.partition(BEGIN)
    after = rest.partition(END)[2]
    return "".join((before, BEGIN, "\n".join(_figures(starts, chapters)), END, after))


def _figures(starts: Starts, chapters: Sequence[Chapter]) -> Iterator[str]:
    warm, cold = (starts.costs[SMALL, caches] for caches in (WARM, COLD))
    yield table(
        [f"a look at a current database, {SMALL} revisions", WARM, COLD, "peak memory"],
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
