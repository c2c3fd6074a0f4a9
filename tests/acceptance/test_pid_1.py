"""gate as PID 1, as it is in every container: the kernel protects PID 1 from signals that it does not handle."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.conftest import GateRunner, TestDatabase
from tests.support.namespaces import PID_1, inside, need_namespaces
from tests.support.projects import Project

SERVER = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    "print('server is', os.getpid(), flush=True)\n"
    "signal.pause()"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pid_1_that_waits_ends_at_a_signal(gate: GateRunner, database: TestDatabase, number: signal.Signals) -> None:
    need_namespaces()
    database.stamp("a1")
    unshare = gate.start("run", "--", "true", prefix=PID_1)
    unshare.await_event("gate.waiting")
    os.kill(inside(unshare), number)
    ended = unshare.wait(within=10)
    assert ended.code == 128 + number
    assert ended.event("gate.ended")["exit_code"] == 128 + number


def test_pid_1_that_migrates_cancels_at_a_signal(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    need_namespaces()
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    unshare = gate.start("migrate", prefix=PID_1)
    unshare.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    os.kill(inside(unshare), signal.SIGTERM)
    assert unshare.wait(within=10).code == 143
    assert database.tables() == set()


@pytest.mark.parametrize("migrating", ["", "1"])
def test_after_the_hand_over_the_server_is_pid_1_and_gets_the_signal(
    gate: GateRunner, database: TestDatabase, migrating: str
) -> None:
    need_namespaces()
    if not migrating:
        database.stamp("a3")
    unshare = gate.start("run", "--", sys.executable, "-c", SERVER, prefix=PID_1, RUN_MIGRATIONS=migrating)
    unshare.await_output("server is 1\n")
    os.kill(inside(unshare), signal.SIGTERM)
    assert unshare.wait(within=10).code == 7
    assert database.stamped() == {"a3"}
