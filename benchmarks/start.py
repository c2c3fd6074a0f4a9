"""What a look costs a start or a health check, beside what is used today."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.chapter import Chapter, Target, milliseconds, times
from benchmarks.measure import Command, Costs, cpu, memory, middle, ratio, wall
from benchmarks.project import Project
from benchmarks.stage import COLD, PROGRAMS, WARM, Stage

FLOOR = "(a) bare script"
CHECK = "gate check"
RUN = "gate run -- true"
ALEMBIC = "(b) alembic current --check-heads"
LOADED = "(c) the same, env.py imports an application"

SIZES = (1, 100, 1_000, 10_000)
SMALL, MIDDLE, LARGE = SIZES[1:]
HOW = (
    "Each line is the median of whole processes on a current database, which ran in turn. Peak memory is the"
    " process's own (resident, from `wait4`). The migration scripts have caches where all else has. With 10,000"
    " revisions Alembic ran once, since its time for `current` grows with the square of their number, and (c) only with"
    " caches."
)
ROUNDS = {WARM: 11, COLD: 9}


@dataclass(frozen=True)
class Starts:
    """All costs, by number of revisions and by kind of caches."""

    costs: Mapping[tuple[int, str], Costs]

    @property
    def sizes(self) -> list[int]:
        return sorted({size for size, _ in self.costs})


def measure(stage: Stage) -> Starts:
    sizes = SIZES[:-1] if stage.quick else SIZES
    projects = {size: stage.project(size) for size in sizes}
    return Starts(
        {
            (size, caches): _costs(stage, project, size, caches)
            for size, project in projects.items()
            for caches in (WARM, COLD)
        }
    )


def _costs(stage: Stage, project: Project, size: int, caches: str) -> Costs:
    commands = _commands(stage, project, caches)
    rounds = 3 if stage.quick else ROUNDS[caches]
    if size < LARGE:
        return stage.stopwatch.alternate(commands, rounds)
    if caches == WARM:
        stage.stopwatch.run(replace(commands[ALEMBIC], words=[str(PROGRAMS / "alembic"), "heads"]))
    else:
        del commands[LOADED]
    return stage.stopwatch.alternate(commands, rounds, once={ALEMBIC, LOADED})


def _commands(stage: Stage, project: Project, caches: str) -> dict[str, Command]:
    environment = stage.environment(stage.database(project.head), caches)
    alembic = str(PROGRAMS / "alembic")
    words = {
        FLOOR: [sys.executable, str(Path(__file__).with_name("floor.py"))],
        CHECK: stage.gate("check"),
        RUN: stage.gate("run", "--", "true"),
        ALEMBIC: [alembic, "current", "--check-heads"],
        LOADED: [alembic, "-c", "application.ini", "current", "--check-heads"],
    }
    return {name: stage.command(project, environment, *each) for name, each in words.items()}


def chapters(starts: Starts) -> Iterator[Chapter]:
    for caches in (WARM, COLD):
        yield Chapter(
            f"One start, {caches}",
            HOW,
            ["revisions", "command", "time", "× (a)", "× (b)", "× (c)", "CPU", "CPU × (a)", "peak memory", "× (a)"],
            [
                _row(costs, size, name)
                for size in starts.sizes
                for costs in [starts.costs[size, caches]]
                for name in costs
            ],
            _targets(starts, caches),
        )


def _row(costs: Costs, size: int, name: str) -> list[str]:
    return [
        f"{size:,}",
        f"**{name}**" if name.startswith("gate") else name,
        milliseconds(middle(costs[name], wall)),
        *(times(ratio(costs, name, to)) if to in costs else "–" for to in (FLOOR, ALEMBIC, LOADED)),
        milliseconds(middle(costs[name], cpu)),
        times(ratio(costs, name, FLOOR, cpu)),
        f"{middle(costs[name], memory):.1f} MB",
        times(ratio(costs, name, FLOOR, memory)),
    ]


TARGETS = (
    (SMALL, CHECK, FLOOR, 1.25),
    (SMALL, CHECK, ALEMBIC, 0.40),
    (SMALL, CHECK, LOADED, 0.15),
    (MIDDLE, CHECK, FLOOR, 1.6),
    (LARGE, CHECK, ALEMBIC, 0.15),
    (SMALL, RUN, FLOOR, 1.5),
)


def _targets(starts: Starts, caches: str) -> list[Target]:
    found = [
        Target(
            f"`{name}` / {to}, {size:,} revisions, {caches}",
            ratio(starts.costs[size, caches], name, to),
            limit,
            why=_floor(starts.costs[size, caches]) if to == LOADED else "",
        )
        for size, name, to, limit in TARGETS
        if size in starts.sizes
    ]
    light = [
        Target(
            f"peak memory of `{CHECK}` / {FLOOR}, {size:,} revisions, {caches}",
            ratio(starts.costs[size, caches], CHECK, FLOOR, memory),
            1.3,
        )
        for size in (SMALL, starts.sizes[-1])
    ]
    return [*found, *light]


def _floor(costs: Costs) -> str:
    """Why no look through psycopg can cost less than (a)."""
    return (
        f"(a), which does nothing but import psycopg, connect and read one row, is {ratio(costs, FLOOR, LOADED):.2f} ×"
        " (c) itself, and nearly all of that is Python compiling psycopg and what it imports. psycopg cannot be"
        " imported in part, so gate cannot go below it."
    )
