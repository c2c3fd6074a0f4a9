"""Kills, signals and lost databases in the middle of the migration of many schemas."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import RunningProgram, await_true, children, descendants, is_running
from tests.support.projects import Project, wait_for_file
from tests.support.tenants import add_logged, applied, create_tenants, migrated, only_in

TENANTS = [f"t{number}" for number in range(8)]
SLOW = "t5"
"""The schema that is killed: it comes late enough for a template that has imported all."""


@pytest.fixture
def barrier(project: Project, tmp_path: Path) -> Path:
    """The file for which the revision a2 waits in the schema SLOW, after its statement."""
    barrier = tmp_path / "go"
    add_logged(project, "a2", "a1", only_in(SLOW, wait_for_file(barrier)))
    return barrier


def processes_of(gate: RunningProgram) -> dict[str, int]:
    """Wait until only the slow schema is left, and return its processes and gate's own by their names."""
    found: dict[str, int] = {}

    def only_one() -> bool:
        templates = [pid for pid in children(gate.pid) if _is_template(pid)]
        supervisors = [(parent, pid) for parent in templates for pid in children(parent)]
        if len(supervisors) != 1:
            return False
        (template, supervisor), *_ = supervisors
        upgrades = children(supervisor)
        found.update(gate=gate.pid, template=template, supervisor=supervisor, upgrade=upgrades[0] if upgrades else 0)
        return len(upgrades) == 1 and not children(upgrades[0])

    gate.await_event("gate.schema_migrated", lambda event: event["progress"] == "7/8")
    await_true(only_one, lambda: f"{descendants(gate.pid)}", gate.process)
    return found


def _is_template(pid: int) -> bool:
    try:
        return b"child.template" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_end(*pids: int) -> None:
    await_true(lambda: not any(map(is_running, pids)), lambda: f"still running: {[p for p in pids if is_running(p)]}")


@pytest.mark.parametrize(
    ("victim", "number"),  # a supervisor ignores SIGTERM
    [("upgrade", signal.SIGKILL), ("upgrade", signal.SIGTERM), ("supervisor", signal.SIGKILL)],
)
def test_a_killed_upgrade_fails_only_its_schema_and_another_run_heals(
    gate: GateRunner, database: TestDatabase, barrier: Path, victim: str, number: signal.Signals
) -> None:
    create_tenants(database, TENANTS, "a1")
    running = gate.start("migrate", "--schemas", "t*", "--jobs", "2")
    processes = processes_of(running)
    os.kill(processes[victim], number)
    failed = running.wait()
    assert failed.code == 65
    assert f"1 of 8 schemas failed: {SLOW}: " in failed.failure
    assert number.name in failed.failure or victim == "supervisor"
    await_end(*processes.values())
    barrier.touch()
    again = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (again.code, migrated(again)) == (0, [SLOW])
    assert applied(database) == [("a2", name) for name in TENANTS]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_without_its_template_an_upgrade_goes_on_and_others_start_anew(
    gate: GateRunner, project: Project, database: TestDatabase, barrier: Path, number: signal.Signals
) -> None:
    create_tenants(database, TENANTS, "a1")
    running = gate.start("migrate", "--schemas", f"{SLOW},{','.join(t for t in TENANTS if t != SLOW)}")

    def upgrade() -> list[int]:
        templates = [pid for pid in children(running.pid) if _is_template(pid)]
        return [u for t in templates for s in children(t) for u in children(s) if not children(u)]

    def works() -> bool:
        return bool(upgrade()) and any(row[3] == "SELECT current_schema()" for row in database.backends())

    await_true(works, lambda: "no upgrade", running.process)
    for pid in children(running.pid):
        os.kill(pid, number)
    barrier.touch()
    done = running.wait()
    assert done.code == 0, done.err
    assert "gate.template_lost" in done.names()
    assert applied(database) == [("a2", name) for name in TENANTS]


def test_after_a_killed_gate_nothing_is_left_running_and_another_run_heals(
    gate: GateRunner, database: TestDatabase, barrier: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    running = gate.start("migrate", "--schemas", "t*", "--jobs", "2")
    processes = processes_of(running)
    running.signal(signal.SIGKILL)
    await_end(*processes.values())
    barrier.touch()
    again = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (again.code, migrated(again)) == (0, [SLOW])
    assert applied(database) == [("a2", name) for name in TENANTS]


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(60)", "import time; time.sleep(60)"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_what_runs_and_ends_gate_soon(
    gate: GateRunner, project: Project, database: TestDatabase, statement: str, number: signal.Signals
) -> None:
    create_tenants(database, TENANTS, "a1")
    slow = f"op.execute({statement!r})" if "pg_sleep" in statement else statement
    add_logged(project, "a2", "a1", only_in("t3", slow) + "\n" + only_in("t5", slow))
    running = gate.start("migrate", "--schemas", "t*", "--jobs", "3", "--keep-going")
    running.await_event("gate.schema_migrated", lambda event: event["progress"] == "6/8")
    below = descendants(running.pid)
    assert below
    running.signal(number)
    began = time.monotonic()
    ended = running.wait()
    assert ended.code == 128 + number
    assert time.monotonic() - began < 10  # two seconds on a machine without other load
    assert ended.event("gate.schemas_migrated")["migrated"] == 6
    interrupted = [event["schema"] for event in ended.events if event["event"] == "gate.migration_interrupted"]
    assert sorted(interrupted) == ["t3", "t5"]
    await_end(*below)
    await_true(lambda: database.backends() == [], lambda: str(database.backends()))
    add_logged(project, "a2", "a1")
    again = gate("migrate", "--schemas", "t*", "--jobs", "3")
    assert (again.code, sorted(migrated(again))) == (0, ["t3", "t5"])
    assert applied(database) == [("a2", name) for name in TENANTS]


def test_an_orphaned_statement_of_a_killed_gate_is_ended_first(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    add_logged(
        project,
        "a2",
        "a1",
        only_in(SLOW, 'op.execute("SET client_connection_check_interval = 0")\nop.execute("SELECT pg_sleep(60)")'),
    )
    running = gate.start("migrate", "--schemas", "t*", "--jobs", "2")
    running.await_event("gate.schema_migrated", lambda event: event["progress"] == "7/8")

    def orphans() -> list[object]:
        return [row[0] for row in database.backends() if "pg_sleep(60)" in str(row[3]) and row[2] == "active"]

    await_true(lambda: bool(orphans()), lambda: str(database.backends()), running.process)
    below = descendants(running.pid)
    running.signal(signal.SIGKILL)
    await_end(*below)
    add_logged(project, "a2", "a1")
    again = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert again.code == 0, again.err
    event = again.event("gate.orphan_terminated")
    assert event["schema"] == SLOW
    assert event["message"].startswith(f"Schema {SLOW}: ")
    assert applied(database) == [("a2", name) for name in TENANTS]


def test_a_lost_database_is_69_and_another_run_continues(
    gate: GateRunner, project: Project, database: TestDatabase, barrier: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    running = gate.start("migrate", "--schemas", "t*", "--jobs", "2")
    processes_of(running)
    for pid, *_ in database.backends():
        database.execute(f"SELECT pg_terminate_backend({pid})")
    barrier.touch()
    failed = running.wait()
    assert failed.code == 69, failed.err
    assert SLOW in failed.failure
    again = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (again.code, migrated(again)) == (0, [SLOW])
    assert applied(database) == [("a2", name) for name in TENANTS]
