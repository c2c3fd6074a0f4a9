"""The cost of what the image needs: `gate check` with the file of `gate expect`, compared with one without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Costs, cpu, median_of, memory, ratio, wall
from benchmarks.section import Section, Target, milliseconds, times
from benchmarks.workspace import Database, Workspace
from gate.image.expectations import Expectations, ExpectedTable, RecordedVersionTable
from gate.image.expectations_file import render

WITHOUT, WITH = "without the file", "with the file"
COLUMNS = 20
MAX_TIMES = {100: 1.15, 1_000: 1.7}
"""Limits for the time with the file relative to that without it, by number of tables."""

MAX_MORE_MEMORY = 6.0
"""MB, with most tables."""

REASON = "gate reads the file, sends all names to PostgreSQL and compares them with its catalogs."
REMEDY = "recording fewer tables (`gate expect --exclude`), or `GATE_EXPECTED=off`."

WAIT = "3"
"""Seconds of a `gate wait`: some six checks."""

TIMED_OUT = 124
"""The exit code of a wait that has timed out."""


def measure(workspace: Workspace) -> Section:
    rounds = 5 if workspace.quick else 21
    costs = {tables: _costs(workspace, tables, rounds) for tables in MAX_TIMES}
    statements = {name: _statements(workspace, is_on=name == WITH) for name in (WITHOUT, WITH)}
    return Section(
        "What the image needs",
        "`gate check` of a current database, which lacks nothing, with and without `gate-expected.json`; each table has"
        f" {COLUMNS} columns. Medians over whole processes that alternate, {rounds} rounds. Statements: messages with"
        " statements in the server's log, for each connection of a `gate wait` whose database is behind.",
        ["tables", "command", "time", "× without", "CPU", "peak memory"],
        [_row(tables, each, name) for tables, each in costs.items() for name in each],
        [
            *_targets(costs),
            Target(
                "statements more in a waiter's check",
                statements[WITH] - statements[WITHOUT],
                1,
                "",
                reason="gate needs more than one statement for the tables and columns.",
                remedy="joining them into one statement.",
            ),
        ],
    )


def _costs(workspace: Workspace, tables: int, rounds: int) -> Costs:
    project = workspace.project(100)
    expected = [_table(number) for number in range(tables)]
    _record(project.folder, project.head, expected)
    database = workspace.database(project.head)
    _create(database, expected)
    check, variables = workspace.gate("check"), {WITHOUT: "off", WITH: ""}
    commands = {
        name: workspace.command(project, workspace.environment(database, GATE_EXPECTED=value), *check)
        for name, value in variables.items()
    }
    return workspace.timer.alternate(commands, rounds)


def _table(number: int) -> ExpectedTable:
    columns = ("id", "created_at", *(f"table_{number}_column_{n}" for n in range(COLUMNS - 2)))
    return ExpectedTable(None, f"table_{number}", columns)


def _record(folder: Path, head: str, tables: list[ExpectedTable]) -> None:
    content = render(Expectations("", (head,), RecordedVersionTable("alembic_version"), tuple(tables)))
    (folder / "gate-expected.json").write_bytes(content)


def _create(database: Database, tables: list[ExpectedTable]) -> None:
    for table in tables:
        others = ", ".join(f"{column} text" for column in table.columns[2:])
        database.server.execute(
            f"CREATE TABLE {table.name} (id int PRIMARY KEY, created_at timestamptz NOT NULL, {others})", database.name
        )
    database.server.execute("VACUUM ANALYZE", database.name)


def _row(tables: int, costs: Costs, name: str) -> list[str]:
    return [
        f"{tables:,}",
        name,
        milliseconds(median_of(costs[name], wall)),
        times(ratio(costs, name, WITHOUT)),
        milliseconds(median_of(costs[name], cpu)),
        f"{median_of(costs[name], memory):.1f} MB",
    ]


def _targets(costs: dict[int, Costs]) -> Iterator[Target]:
    for tables, limit in MAX_TIMES.items():
        name = f"`gate check` with / without `gate-expected.json`, {tables:,} tables"
        yield Target(name, ratio(costs[tables], WITH, WITHOUT), limit, reason=REASON, remedy=REMEDY)
    most = costs[max(costs)]
    more = median_of(most[WITH], memory) - median_of(most[WITHOUT], memory)
    yield Target(
        f"peak memory that the file adds, {max(costs):,} tables",
        more,
        MAX_MORE_MEMORY,
        "MB",
        reason=REASON,
        remedy=REMEDY,
    )


def _statements(workspace: Workspace, *, is_on: bool) -> float:
    """Return the number of statements of one check while gate waits, from the log of the database."""
    project = workspace.project(10)
    database = workspace.database(*project.before)
    tables = [_table(number) for number in range(10)]
    _create(database, tables)
    _record(project.folder, project.head, tables)
    database.server.execute(f"ALTER DATABASE {database.name} SET log_statement = 'all'")
    variables = {"GATE_POLL_MAX": "0.5", "GATE_TIMEOUT": WAIT, "GATE_EXPECTED": "" if is_on else "off"}
    command = workspace.command(
        project, workspace.environment(database, **variables), *workspace.gate("wait"), expected=TIMED_OUT
    )
    workspace.timer.run(command)
    return database.statements() / len(database.connections())
