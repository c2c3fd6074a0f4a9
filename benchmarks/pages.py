"""Writes the figures in docs/costs.md and README.md, between two comments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import containers
from benchmarks.check import ALEMBIC, ALEMBIC_WITH_APP, BASELINE, CHECK, RUN, SMALL, CheckCosts
from benchmarks.measure import median_of, memory, wall
from benchmarks.section import Section
from benchmarks.workspace import COLD, WARM
from tests.support.docs import format_table, replace_figures

NAMES = {
    BASELINE: "a bare script that imports psycopg, connects and reads the version table",
    CHECK: "**`gate check`**",
    RUN: "**`gate run -- true`**",
    ALEMBIC: "`alembic current --check-heads`",
    ALEMBIC_WITH_APP: "the same, where env.py imports an application",
}

WAITING = (
    "peak memory of a waiter",
    "CPU of a waiter's check",
    "checks in ten minutes without a migrator (most of 200)",
    "commit to start while a gate migrates, median",
)

MORE = (
    "`gate check` with / without `gate-expected.json`, 100 tables",
    "`gate check` with / without `gate-expected.json`, 1,000 tables",
    "`gate check` over 1,000 schemas / one",
    "`gate check` over 10,000 schemas / one",
    "200 schemas: gate / the loop of `alembic`",
    "longest SELECT with the time-out",
)
"""Figures of larger images and databases; a quick run lacks some."""


def with_cost_tables(page: str, check_costs: CheckCosts, sections: Sequence[Section]) -> str:
    return replace_figures(page, "\n".join(_tables(check_costs, sections)))


def with_sentences(page: str, check_costs: CheckCosts, sections: Sequence[Section]) -> str:
    return replace_figures(page, _sentences(check_costs) + _container_sentence(sections))


def _sentences(check_costs: CheckCosts) -> str:
    warm = check_costs.costs[SMALL, WARM]
    costs = {name: f"{median_of(cost, wall):.2f} s and {median_of(cost, memory):.0f} MB" for name, cost in warm.items()}
    return (
        f"`gate check` takes {costs[CHECK]} for a current database and {SMALL} revisions. A bare script that imports"
        " psycopg, connects\n"
        f"and reads the version table takes {costs[BASELINE]}; {NAMES[ALEMBIC]} takes {costs[ALEMBIC]}.\n"
    )


def _tables(check_costs: CheckCosts, sections: Sequence[Section]) -> Iterator[str]:
    warm, cold = (check_costs.costs[SMALL, caches] for caches in (WARM, COLD))
    yield format_table(
        [f"a check of a current database, {SMALL} revisions", WARM, COLD, "peak memory"],
        [
            [
                label,
                *(f"{median_of(costs[name], wall):.2f} s" for costs in (warm, cold)),
                f"{median_of(warm[name], memory):.0f} MB",
            ]
            for name, label in NAMES.items()
        ],
    )
    measured = {target.name: target.value for section in sections for target in section.targets}
    yield format_table(["waiting", "measured"], [[name, measured[name]] for name in WAITING])
    yield format_table(
        ["larger images and databases", "measured"], [[name, measured[name]] for name in MORE if name in measured]
    )
    if section := _container_section(sections):
        yield "From `podman run` to the first answer of the example's server; each row starts a container:\n"
        yield format_table(section.header, section.rows)


def _container_section(sections: Sequence[Section]) -> Section | None:
    """Return the section of the containers if this machine could measure it."""
    return next((section for section in sections if section.title == containers.TITLE and section.rows), None)


def _container_sentence(sections: Sequence[Section]) -> str:
    section = _container_section(sections)
    if section is None:
        return ""
    rows = {(state, name): cells for state, name, *cells in section.rows}
    time, *_, added, share = rows[containers.CURRENT, containers.GATE]
    return f"The example's server answers {time} after `podman run`; {added} of that ({share}) are gate's.\n"
