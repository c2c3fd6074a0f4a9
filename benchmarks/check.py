"""The cost of one check, compared with a bare script and with `alembic current`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import Command, Costs, cpu, median_of, memory, ratio, wall
from benchmarks.project import Project
from benchmarks.section import Section, Target, milliseconds, times
from benchmarks.workspace import COLD, PROGRAMS, WARM, Workspace

BASELINE = "(a) bare script"
CHECK = "gate check"
RUN = "gate run -- true"
ALEMBIC = "(b) alembic current --check-heads"
ALEMBIC_WITH_APP = "(c) the same, env.py imports an application"

SIZES = (1, 100, 1_000, 10_000)
SMALL, MEDIUM, LARGE = SIZES[1:]
METHOD = (
    "Each row is the median over whole processes on a current database; the commands alternate. Peak memory is the"
    ' resident set of the process (from `wait4`). "With bytecode caches" includes the migration scripts. With 10,000'
    " revisions Alembic ran once, because the time of `alembic current` grows quadratically, and (c) ran only with"
    " caches."
)
ROUNDS = {WARM: 11, COLD: 9}


@dataclass(frozen=True)
class CheckCosts:
    """The costs by number of revisions and state of the bytecode caches."""

    costs: Mapping[tuple[int, str], Costs]

    @property
    def sizes(self) -> list[int]:
        return sorted({size for size, _ in self.costs})


def measure(workspace: Workspace) -> CheckCosts:
    sizes = SIZES[:-1] if workspace.quick else SIZES
    projects = {size: workspace.project(size) for size in sizes}
    return CheckCosts(
        {
            (size, caches): _costs(workspace, project, size, caches)
            for size, project in projects.items()
            for caches in (WARM, COLD)
        }
    )


def _costs(workspace: Workspace, project: Project, size: int, caches: str) -> Costs:
    commands = _commands(workspace, project, caches)
    rounds = 3 if workspace.quick else ROUNDS[caches]
    if size < LARGE:
        return workspace.timer.alternate(commands, rounds)
    if caches == WARM:
        workspace.timer.run(replace(commands[ALEMBIC], words=[str(PROGRAMS / "alembic"), "heads"]))
    else:
        del commands[ALEMBIC_WITH_APP]
    return workspace.timer.alternate(commands, rounds, once={ALEMBIC, ALEMBIC_WITH_APP})


def _commands(workspace: Workspace, project: Project, caches: str) -> dict[str, Command]:
    environment = workspace.environment(workspace.database(project.head), caches)
    alembic = str(PROGRAMS / "alembic")
    words = {
        BASELINE: [sys.executable, str(Path(__file__).with_name("baseline.py"))],
        CHECK: workspace.gate("check"),
        RUN: workspace.gate("run", "--", "true"),
        ALEMBIC: [alembic, "current", "--check-heads"],
        ALEMBIC_WITH_APP: [alembic, "-c", "application.ini", "current", "--check-heads"],
    }
    return {name: workspace.command(project, environment, *each) for name, each in words.items()}


def sections(check_costs: CheckCosts) -> Iterator[Section]:
    for caches in (WARM, COLD):
        yield Section(
            f"One check, {caches}",
            METHOD,
            ["revisions", "command", "time", "× (a)", "× (b)", "× (c)", "CPU", "CPU × (a)", "peak memory", "× (a)"],
            [
                _row(costs, size, name)
                for size in check_costs.sizes
                for costs in [check_costs.costs[size, caches]]
                for name in costs
            ],
            _targets(check_costs, caches),
        )


def _row(costs: Costs, size: int, name: str) -> list[str]:
    return [
        f"{size:,}",
        f"**{name}**" if name.startswith("gate") else name,
        milliseconds(median_of(costs[name], wall)),
        *(times(ratio(costs, name, to)) if to in costs else "–" for to in (BASELINE, ALEMBIC, ALEMBIC_WITH_APP)),
        milliseconds(median_of(costs[name], cpu)),
        times(ratio(costs, name, BASELINE, cpu)),
        f"{median_of(costs[name], memory):.1f} MB",
        times(ratio(costs, name, BASELINE, memory)),
    ]


TARGETS = (
    (SMALL, CHECK, BASELINE, 1.25),
    (SMALL, CHECK, ALEMBIC, 0.40),
    (SMALL, CHECK, ALEMBIC_WITH_APP, 0.15),
    (MEDIUM, CHECK, BASELINE, 1.6),
    (LARGE, CHECK, ALEMBIC, 0.15),
    (SMALL, RUN, BASELINE, 1.5),
)


IMAGE_WITH_CACHES = (
    "an image with bytecode caches (the line in docs/costs.md); gate itself can only save what is beyond (a)."
)
FEWER_IMPORTS = "fewer imports in gate, down to (a); beyond that only a smaller database driver."


def _targets(check_costs: CheckCosts, caches: str) -> list[Target]:
    time_targets = [
        Target(
            f"`{name}` / {to}, {size:,} revisions, {caches}",
            ratio(check_costs.costs[size, caches], name, to),
            limit,
            reason=_reason(check_costs.costs[size, caches], name, to),
            remedy=IMAGE_WITH_CACHES if caches == COLD else FEWER_IMPORTS,
            floor=_floor(check_costs.costs[size, caches], name),
        )
        for size, name, to, limit in TARGETS
        if size in check_costs.sizes
    ]
    memory_targets = [
        Target(
            f"peak memory of `{CHECK}` / {BASELINE}, {size:,} revisions, {caches}",
            ratio(check_costs.costs[size, caches], CHECK, BASELINE, memory),
            1.3,
            reason="gate keeps the revision graph in memory, and imports more modules than (a).",
            remedy="fewer modules of gate, or fewer revisions: squash old ones.",
            floor=f"(a): {1 / ratio(check_costs.costs[size, caches], CHECK, BASELINE, memory):.0%}",
        )
        for size in (SMALL, check_costs.sizes[-1])
    ]
    return [*time_targets, *memory_targets]


def _reason(costs: Costs, name: str, to: str) -> str:
    if to == BASELINE:
        return f"{name} imports its own modules and reads the migration scripts; (a) does neither."
    return (
        f"(a), which only imports psycopg, connects and reads one row, costs {ratio(costs, BASELINE, to):.2f} ×"
        f" {to[:3]}. Python needs most of that to import psycopg, which cannot be imported in part."
    )


def _floor(costs: Costs, name: str) -> str:
    """Return the share of (a) in the time of this command."""
    return f"(a): {1 / ratio(costs, name, BASELINE):.0%}"
