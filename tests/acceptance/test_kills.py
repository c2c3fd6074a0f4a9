"""A migrator that is killed at any moment leaves nothing working unseen, and the next one finishes (hazards.md 6)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from tests.conftest import GateRunner, TestDatabase
from tests.support.kill_rounds import KEY, works
from tests.support.programs import (
    RunningProgram,
    await_true,
    children,
    descendants,
    is_running,
)
from tests.support.projects import Project, make_project


def sleeping_revision(gate: GateRunner, project: Project) -> RunningProgram:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(120)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    return migrating


def fix(project: Project) -> None:
    project.add("a4", "a3", 'op.execute("CREATE TABLE t_a4 (id int)")')


@pytest.mark.parametrize("whom", ["parent", "both"])
def test_a_killed_migrator_takes_its_child_and_its_statement_with_it(
    gate: GateRunner, project: Project, database: TestDatabase, whom: str
) -> None:
    migrating = sleeping_revision(gate, project)
    below = descendants(migrating.pid)
    assert len(below) == 2
    assert works(database)
    for pid in (below if whom == "both" else []) + [migrating.pid]:
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: not any(map(is_running, below)), lambda: "the child outlived its parent")
    await_true(lambda: not works(database), lambda: "the statement outlived its client")
    fix(project)
    assert gate("migrate").code == 0
    assert database.stamped() == {"a4"}


def test_a_killed_child_fails_with_its_revision_and_what_was_committed(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    migrating = sleeping_revision(gate, project)
    os.kill(descendants(migrating.pid)[-1], signal.SIGKILL)
    ended = migrating.wait()
    assert ended.code == 65
    message = ended.event("gate.failed")["message"]
    assert "SIGKILL in revision a4 (4/4)" in message
    assert "Committed: nothing" in message
    await_true(lambda: not works(database), lambda: "the statement outlived its client")
    assert "t_a1" not in database.tables()


def test_a_killed_supervisor_takes_the_upgrade_with_it_and_is_reported(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    migrating = sleeping_revision(gate, project)
    (supervisor,) = children(migrating.pid)
    (upgrade,) = children(supervisor)
    os.kill(supervisor, signal.SIGKILL)
    ended = migrating.wait()
    assert ended.code == 65
    assert "SIGKILL in revision a4 (4/4)" in ended.failure
    assert not is_running(upgrade)
    await_true(lambda: not works(database), lambda: "the statement outlived its client")


STARTS_OTHERS = """
import subprocess
for own_session in (False, True):
    started = subprocess.Popen(["sleep", "1000"], start_new_session=own_session)
    print("started", started.pid, flush=True)
"""
"""What a revision may do: it starts processes, one of them in a session of its own, and goes on."""


def started(migrating: RunningProgram) -> list[int]:
    await_true(
        lambda: sum("started" in line for line in migrating.out) == 2,
        lambda: f"{migrating.out}{migrating.err}",
        migrating.process,
    )
    return [int(line.split()[1]) for line in migrating.out if line.startswith("started")]


def test_what_a_migration_has_started_dies_with_gate(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", f"{STARTS_OTHERS}started.wait()")
    migrating = gate.start("migrate")
    others = started(migrating)
    migrating.process.kill()
    await_true(lambda: not any(map(is_running, others)), lambda: "a process of the migration outlived gate")


def test_processes_that_a_migration_leaves_behind_are_killed_and_logged(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", STARTS_OTHERS)
    migrating = gate.start("migrate")
    ended = migrating.wait()
    assert ended.code == 0
    assert ended.event("gate.child_processes_killed")["processes"] == 2
    assert not any(map(is_running, started(migrating)))
    assert database.stamped() == {"a4"}


UPGRADES = {
    "a shell that waits": "sh -c 'echo started $$; sleep 1000 & echo started $!; wait'",
    "a process of another session": "sh -c 'echo started $$; setsid sleep 1000 & echo started $!; wait'",
}


@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("whom", ["gate", "gate and supervisor"])
def test_an_upgrade_command_dies_with_gate(gate: GateRunner, name: str, whom: str) -> None:
    migrating = gate.start("migrate", GATE_UPGRADE_COMMAND=UPGRADES[name])
    command, other = started(migrating)
    doomed = [migrating.pid, *(children(migrating.pid) if whom != "gate" else [])]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: not is_running(command), lambda: "the command outlived gate")
    if whom == "gate":
        await_true(lambda: not is_running(other), lambda: "what the command started outlived gate")
    else:
        os.kill(other, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_upgrade_commands_statement_ends_with_gate(
    gate: GateRunner, project: Project, database: TestDatabase, number: signal.Signals
) -> None:
    gate.folder = make_project(project.folder / "by-psycopg2", driver="psycopg2").folder
    Project(gate.folder).add("a1", None, 'op.execute("SELECT pg_sleep(120)")')
    migrating = gate.start("migrate", GATE_UPGRADE_COMMAND=f"{sys.executable} -m alembic upgrade heads")
    await_true(lambda: bool(works(database)), lambda: f"no statement: {migrating.err}", migrating.process)
    migrating.signal(number)
    migrating.process.wait(10)
    await_true(lambda: not works(database), lambda: "the statement outlived its client")


@contextmanager
def orphan(database: TestDatabase) -> Iterator[int]:
    """A backend that a killed migrator left: its statement runs, nobody holds the lock."""
    connection = psycopg.connect(database.url, application_name=KEY.working_name, autocommit=True)

    def work() -> None:
        with suppress(psycopg.Error):
            connection.execute("SELECT pg_sleep(300)")

    thread = threading.Thread(target=work)
    thread.start()
    await_true(lambda: bool(works(database)), lambda: "no orphan")
    yield connection.info.backend_pid
    database.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
    thread.join()
    connection.close()


def test_the_next_migrator_ends_a_predecessors_statement_before_it_starts(
    gate: GateRunner, database: TestDatabase
) -> None:
    with orphan(database) as pid:
        ended = gate("migrate")
    assert ended.code == 0
    assert ended.names().index("gate.orphan_terminated") < ended.names().index("gate.migrating")
    assert ended.event("gate.orphan_terminated")["backend"] == pid


def test_gate_names_an_orphaned_session_that_it_cannot_terminate_and_does_not_migrate(
    gate: GateRunner, database: TestDatabase
) -> None:
    gate.url = database.create_role("secret", "GRANT ALL ON SCHEMA public TO {role}")
    with orphan(database) as pid:
        waiting = gate.start("migrate")
        line = waiting.await_event("gate.waiting")
        assert f"pg_terminate_backend({pid})" in line["message"]
        assert "gate.migrating" not in "".join(waiting.err)
    assert waiting.wait().code == 0
    assert database.stamped() == {"a3"}


def test_an_invalid_index_of_a_killed_build_is_named(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.execute("CREATE TABLE twice AS SELECT 1 AS n UNION ALL SELECT 1")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY half_built ON twice (n)")
    block = 'op.execute("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS half_built ON twice (n)")'
    project.add("a4", "a3", f"with op.get_context().autocommit_block():\n    {block}")
    ended = gate("migrate")
    assert ended.code == 0
    assert ended.event("gate.invalid_indexes")["indexes"] == ["half_built"]
