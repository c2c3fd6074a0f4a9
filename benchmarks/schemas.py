"""One look at many schemas: `gate check` over 1,000 and 10,000 of them, compared with one."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import Costs, cpu, median_of, memory, ratio, wall
from benchmarks.section import Section, Target, milliseconds, times
from benchmarks.workspace import Database, Workspace

ONE = 1
MAX_TIMES = {1_000: 2.0, 10_000: 8.0}
"""Limits for the time relative to that of one schema, by number of schemas."""

MAX_MORE_MEMORY = 20.0
"""MB, with most schemas."""

REASON = "gate reads every version table, in one statement for each 500, and PostgreSQL must open each of them."
REMEDY = "a `GATE_SCHEMAS` that selects fewer schemas for each check."

BATCH = 500
"""Schemas that one statement creates."""


def measure(workspace: Workspace) -> Section:
    rounds = 3 if workspace.quick else 15
    project = workspace.project(100)
    check = workspace.gate("check")
    commands = {}
    for schemas in (ONE, *MAX_TIMES):
        database = workspace.database()
        _create(database, schemas, project.head)
        environment = workspace.environment(database, GATE_SCHEMAS="tenant_*")
        commands[_name(schemas)] = workspace.command(project, environment, *check)
    costs = workspace.timer.alternate(commands, rounds)
    return Section(
        "Many schemas",
        "`gate check` over a schema for each tenant, all of them current (`GATE_SCHEMAS`). Medians over whole processes"
        f" that alternate, {rounds} rounds.",
        ["command", "time", "× one", "CPU", "peak memory"],
        [_row(costs, name) for name in costs],
        [*_targets(costs)],
    )


def _name(schemas: int) -> str:
    return f"{schemas:,} schema{'' if schemas == 1 else 's'}"


def _create(database: Database, number: int, head: str) -> None:
    for start in range(0, number, BATCH):
        statements = (
            f"CREATE SCHEMA tenant_{n}; CREATE TABLE tenant_{n}.alembic_version (version_num varchar(32) PRIMARY KEY);"
            f" INSERT INTO tenant_{n}.alembic_version VALUES ('{head}');"
            for n in range(start, min(start + BATCH, number))
        )
        database.server.execute(f"DO $$BEGIN {''.join(statements)} END$$", database.name)
    database.server.execute("VACUUM ANALYZE", database.name)


def _row(costs: Costs, name: str) -> list[str]:
    return [
        name,
        milliseconds(median_of(costs[name], wall)),
        times(ratio(costs, name, _name(ONE))),
        milliseconds(median_of(costs[name], cpu)),
        f"{median_of(costs[name], memory):.1f} MB",
    ]


def _targets(costs: Costs) -> Iterator[Target]:
    for schemas, limit in MAX_TIMES.items():
        name = f"`gate check` over {_name(schemas)} / one"
        yield Target(name, ratio(costs, _name(schemas), _name(ONE)), limit, reason=REASON, remedy=REMEDY)
    most = _name(max(MAX_TIMES))
    more = median_of(costs[most], memory) - median_of(costs[_name(ONE)], memory)
    yield Target(f"peak memory that {most} add", more, MAX_MORE_MEMORY, "MB", reason=REASON, remedy=REMEDY)
