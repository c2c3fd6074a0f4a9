"""A signal ends gate at once, whatever gate is doing."""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import psycopg
import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.namespaces import require_namespaces, silent_host, silent_name_server
from tests.support.programs import ProgramResult, RunningProgram, await_true, children, is_running
from tests.support.projects import Project, make_project

LONG_TIMEOUTS = {"GATE_CONNECT_TIMEOUT": "60", "GATE_QUERY_TIMEOUT": "60"}
"""Timeouts longer than a test, so that a check hangs for as long as the test runs."""

MAX_SECONDS_TO_END = 15.0
"""Seconds within which gate ends on a busy machine. It needs less than two on others; the timeouts here are longer."""

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


ORDERS = {first.name: (first, *(each for each in ENDINGS if each != first)) for first in ENDINGS[:3]}
"""Which signals a storm mixes; the first one decides the exit code."""


def storm(gate: RunningProgram, order: tuple[signal.Signals, ...], *, already_sent: bool = False) -> None:
    """Send fifty signals: the first, and the others as soon as it has arrived, since the kernel orders what waits."""
    for number, each in enumerate(islice(cycle(order), 50)):
        if number == 1 or (number == 0 and already_sent):
            await_true(lambda: not is_pending(gate.pid, order[0]), lambda: "the first signal does not arrive")
        if gate.process.poll() is not None:
            return
        os.kill(gate.pid, each)


def is_pending(pid: int, number: signal.Signals) -> bool:
    if not is_running(pid):
        return False
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def ended_once(gate: RunningProgram, number: signal.Signals) -> ProgramResult:
    ended = gate.wait()
    assert ended.code == 128 + number, ended.err
    assert ended.names().count("gate.ended") == 1, ended.err
    assert "gate.failed" not in ended.names(), ended.err
    for text in ("Traceback", "bug in gate", "Exception ignored"):
        assert text not in ended.err
    assert "server" not in ended.out
    return ended


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_storm_of_signals_while_waiting_ends_gate_once(
    gate: GateRunner, database: TestDatabase, order: tuple[signal.Signals, ...]
) -> None:
    database.stamp("a1")
    waiting = gate.start("run", "--", *SERVER)
    waiting.await_event("gate.waiting")
    storm(waiting, order)
    ended_once(waiting, order[0])


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_storm_of_signals_while_connecting_ends_gate_once(
    gate: GateRunner, order: tuple[signal.Signals, ...]
) -> None:
    with silent_host() as host:
        url = f"postgresql://postgres@127.0.0.1:{host.getsockname()[1]}/shop"
        checking = gate.start("run", "--", *SERVER, DATABASE_URL=url, RUN_MIGRATIONS="1", **LONG_TIMEOUTS)
        connection, _ = host.accept()
        with connection:
            assert connection.recv(8)
            storm(checking, order)
            ended_once(checking, order[0])


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("phase", ["migrating", "cancelling"])
def test_a_storm_of_signals_in_a_migration_ends_gate_once_and_the_statement_in_the_server(
    gate: GateRunner, project: Project, database: TestDatabase, phase: str, order: tuple[signal.Signals, ...]
) -> None:
    project.add("a4", "a3", "op.execute(\"SELECT 'once', pg_sleep(60)\")")
    migrating = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    await_true(
        lambda: any("pg_sleep" in str(query) and state == "active" for *_, state, query in database.backends()),
        lambda: f"the migration does not sleep: {migrating.err}",
        migrating.process,
    )
    if phase == "cancelling":
        migrating.signal(order[0])
        await_true(
            lambda: not any("pg_sleep" in str(q) and state == "active" for *_, state, q in database.backends()),
            lambda: f"not cancelled: {migrating.err}",
        )
    storm(migrating, order, already_sent=phase == "cancelling")
    ended = ended_once(migrating, order[0])
    assert ended.names().count("gate.migration_interrupted") == 1
    await_true(lambda: database.backends() == [], lambda: f"left in the server: {database.backends()}")
    assert database.tables() == set()


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_storm_of_signals_before_the_server_starts_ends_gate_or_the_server(
    gate: GateRunner, database: TestDatabase, order: tuple[signal.Signals, ...]
) -> None:
    database.stamp("a3")
    server = ["sh", "-c", "echo started; exec sleep 60"]
    starting = gate.start("run", "--", *server)
    starting.await_event("gate.current")
    storm(starting, order)
    ended = starting.wait()
    assert ended.code in {*(128 + each for each in order), *(-each for each in order)}
    assert ended.names().count("gate.ended") == (ended.code > 0)
    assert "Traceback" not in ended.err
    assert "bug in gate" not in ended.err


FAILS_ONCE_LOCKED = """
waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'alembic_version'::regclass)"
print("ready", flush=True)
while not op.get_bind().exec_driver_sql(waiting).scalar():
    pass
raise ValueError("too bad")
"""


def test_a_signal_during_the_report_of_a_failure_ends_gate_and_the_failure_is_named(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", FAILS_ONCE_LOCKED)
    database.stamp("a3")
    migrating = gate.start("migrate", GATE_QUERY_TIMEOUT="30")
    migrating.await_output("ready")
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE alembic_version")  # until the migration has failed, then the report waits
        await_true(lambda: not children(migrating.pid), lambda: f"no report: {migrating.err}", migrating.process)
        storm(migrating, ORDERS["SIGTERM"])
        ended = ended_once(migrating, signal.SIGTERM)
    messages = [event["message"] for event in ended.events]
    assert sum("ValueError: too bad" in message for message in messages) == 1, messages


def test_a_log_that_nobody_reads_does_not_keep_gate_from_ending(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    database.stamp("a1")
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        fill(reader)
        waiting = gate.start("run", "--", *SERVER, prefix=("sh", "-c", f'exec "$@" 2>{pipe}', "sh"))
        await_true(lambda: is_blocked_in_write(waiting.pid), lambda: "gate does not write", waiting.process)
        storm(waiting, ORDERS["SIGTERM"])
        assert waiting.wait().code == 143
    finally:
        os.close(reader)


def fill(pipe: int) -> None:
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        return


def is_blocked_in_write(pid: int) -> bool:
    return "pipe_write" in Path(f"/proc/{pid}/wchan").read_text() or "pipe_write" in stack(pid)


def stack(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stack").read_text()
    except OSError:
        return ""


def test_a_signal_that_was_blocked_when_gate_started_ends_it(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")
    block = (
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); os.execv(sys.argv[1], sys.argv[1:])"
    )
    waiting = gate.start("run", "--", *SERVER, prefix=(sys.executable, "-c", block))
    waiting.await_event("gate.waiting")
    ends_at_once(waiting, signal.SIGTERM)
