"""gate as PID 1, as it is in every container: the kernel protects PID 1 from signals that it does not handle."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import GateRunner, TestDatabase
from tests.support.namespaces import PID_1, pid_inside, require_namespaces
from tests.support.projects import Project

SERVER = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    "print('server is', os.getpid(), flush=True)\n"
    "signal.pause()"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pid_1_that_waits_ends_at_a_signal(gate: GateRunner, database: TestDatabase, number: signal.Signals) -> None:
    require_namespaces()
    database.stamp("a1")
    unshare = gate.start("run", "--", "true", prefix=PID_1)
    unshare.await_event("gate.waiting")
    os.kill(pid_inside(unshare), number)
    ended = unshare.wait(timeout=10)
    assert ended.code == 128 + number
    assert ended.event("gate.ended")["exit_code"] == 128 + number


def test_pid_1_that_migrates_cancels_at_a_signal(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    require_namespaces()
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    unshare = gate.start("migrate", prefix=PID_1)
    unshare.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    os.kill(pid_inside(unshare), signal.SIGTERM)
    assert unshare.wait(timeout=10).code == 143
    assert database.tables() == set()


@pytest.mark.parametrize("migrating", ["", "1"])
def test_after_the_hand_over_the_server_is_pid_1_and_gets_the_signal(
    gate: GateRunner, database: TestDatabase, migrating: str
) -> None:
    require_namespaces()
    if not migrating:
        database.stamp("a3")
    unshare = gate.start("run", "--", sys.executable, "-c", SERVER, prefix=PID_1, RUN_MIGRATIONS=migrating)
    unshare.await_output("server is 1\n")
    os.kill(pid_inside(unshare), signal.SIGTERM)
    assert unshare.wait(timeout=10).code == 7
    assert database.stamped() == {"a3"}


SLOW_TO_LOAD = "import time\nprint('loading', flush=True)\ntime.sleep(60)"


def test_pid_1_that_serves_ends_at_a_signal(gate: GateRunner) -> None:
    require_namespaces()
    port = free_port()
    unshare = gate.start("serve", "--listen", f"127.0.0.1:{port}", prefix=PID_1)
    unshare.await_event("gate.serving")
    httpx.get(f"http://127.0.0.1:{port}/health", timeout=10).raise_for_status()
    os.kill(pid_inside(unshare), signal.SIGTERM)
    assert unshare.wait(timeout=10).code == 128 + signal.SIGTERM


def test_pid_1_that_is_about_to_serve_ends_at_a_signal(gate: GateRunner, tmp_path: Path) -> None:
    require_namespaces()
    (tmp_path / "prometheus_client.py").write_text(SLOW_TO_LOAD)
    told = {"PYTHONPATH": str(tmp_path)}
    unshare = gate.start("serve", "--listen", f"127.0.0.1:{free_port()}", prefix=PID_1, **told)
    unshare.await_output("loading")
    os.kill(pid_inside(unshare), signal.SIGTERM)
    assert unshare.wait(timeout=10).code == 128 + signal.SIGTERM
