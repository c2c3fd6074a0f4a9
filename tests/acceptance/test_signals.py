"""A signal ends gate at once, whatever gate is doing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.namespaces import require_namespaces, silent_host, silent_name_server
from tests.support.programs import RunningProgram, await_true, children
from tests.support.projects import Project, make_project

LONG_TIMEOUTS = {"GATE_CONNECT_TIMEOUT": "60", "GATE_QUERY_TIMEOUT": "60"}
"""Timeouts longer than a test, so that a check hangs for as long as the test runs."""

MAX_SECONDS_TO_END = 2.0
"""Seconds within which gate promises to end."""

ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def ends_at_once(gate: RunningProgram, number: signal.Signals) -> None:
    began = time.monotonic()
    gate.signal(number)
    ended = gate.wait()
    assert time.monotonic() - began < MAX_SECONDS_TO_END
    assert ended.code == 128 + number
    assert ended.out == ""
    assert ended.event("gate.ended")["exit_code"] == 128 + number
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_while_waiting_ends_gate_at_once(
    gate: GateRunner, database: TestDatabase, number: signal.Signals
) -> None:
    database.stamp("a1")
    waiting = gate.start("run", "--", *SERVER, GATE_POLL_MAX="60")
    # A pause longer than the promise, so that ending in time cannot be the pause's own end.
    waiting.await_event("gate.waiting")
    ends_at_once(waiting, number)


def test_a_signal_while_waiting_for_the_lock_ends_gate_at_once(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    locked_out = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    locked_out.await_event("gate.waiting_for_lock")
    ends_at_once(locked_out, signal.SIGTERM)
    assert migrating.process.poll() is None
    assert any("pg_sleep" in str(query) for *_, query in database.backends())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_check_hangs_in_name_resolution_ends_gate_at_once(
    gate: GateRunner, tmp_path: Path, number: signal.Signals
) -> None:
    require_namespaces()
    with silent_name_server(tmp_path) as (server, prefix):
        url = "postgresql://postgres@db.nowhere.test/shop"
        checking = gate.start("run", "--", *SERVER, prefix=prefix, DATABASE_URL=url, **LONG_TIMEOUTS)
        server.recv(512)  # gate asks for the name and gets no answer
        ends_at_once(checking, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_host_swallows_packets_ends_gate_at_once(gate: GateRunner, number: signal.Signals) -> None:
    with silent_host() as host:
        url = f"postgresql://postgres@127.0.0.1:{host.getsockname()[1]}/shop"
        checking = gate.start("run", "--", *SERVER, DATABASE_URL=url, **LONG_TIMEOUTS)
        connection, _ = host.accept()
        with connection:
            assert connection.recv(8)  # gate has said hello and waits for the answer
            ends_at_once(checking, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_signal_while_migrating_cancels_the_statement_and_rolls_back(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, driver: str, number: signal.Signals
) -> None:
    project = make_project(tmp_path / driver, driver=driver).chain("a1")
    project.add("a2", "a1", 'op.execute("CREATE TABLE half (id int)")\nop.execute("SELECT pg_sleep(60)")')
    gate.folder = project.folder
    migrating = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    await_true(
        lambda: any("pg_sleep" in str(query) and state == "active" for *_, state, query in database.backends()),
        lambda: f"the migration does not sleep: {migrating.err}",
        migrating.process,
    )
    migrating.await_event("gate.revision_started", lambda event: event["revision"] == "a2")
    child = children(migrating.pid)
    ends_at_once(migrating, number)
    assert len(child) == 1
    assert not Path(f"/proc/{child[0]}").exists()
    await_true(lambda: database.backends() == [], lambda: f"left in the server: {database.backends()}")
    assert database.tables() == set()
    ended = migrating.wait()
    line = ended.event("gate.migration_interrupted")
    assert line["revision"] == "a2"
    assert "Committed: nothing. Still pending: a1, a2." in line["message"]


def test_a_signal_while_a_migration_computes_ends_it_and_rolls_back(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    # No statement runs in the server that could be cancelled, and the child asks nobody.
    project.add("a4", "a3", "print('computing', flush=True)\nwhile True: pass")
    migrating = gate.start("migrate")
    migrating.await_output("computing")
    began = time.monotonic()
    migrating.signal(signal.SIGTERM)
    ended = migrating.wait()
    assert ended.code == 143
    assert time.monotonic() - began < MAX_SECONDS_TO_END
    await_true(lambda: database.backends() == [], lambda: f"left in the server: {database.backends()}")
    assert database.tables() == set()


def test_after_an_interrupted_migration_the_next_one_finishes_the_job(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    migrating.signal(signal.SIGTERM)
    assert migrating.wait().code == 143
    project.add("a4", "a3")
    assert gate("migrate").code == 0
    assert database.stamped() == {"a4"}
