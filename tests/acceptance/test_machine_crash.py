"""A machine that dies with the lock leaves no goodbye: the server must find out by itself (hazards.md 6)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from gate.database.lock import LOCK_CLASS
from tests.conftest import GateRunner
from tests.support.programs import GATE_COMMAND, start
from tests.support.projects import Project

HERE, THERE = "10.203.77.1", "10.203.77.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[tuple[str, str]]:
    """A network namespace as another machine, and the name of the cable to it."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2 to make another machine's network")
    machine, ours, theirs = f"gate-{os.getpid()}", f"g{os.getpid()}a", f"g{os.getpid()}b"
    with ExitStack() as undo:
        ip("netns", "add", machine)
        undo.callback(ip, "netns", "delete", machine)
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", machine)
        ip("address", "add", f"{HERE}/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", machine, "address", "add", f"{THERE}/30", "dev", theirs)
        ip("-n", machine, "link", "set", theirs, "up")
        yield machine, ours


@pytest.fixture
def server(cable: tuple[str, str]) -> Iterator[EmbeddedPostgres]:
    reachable = EmbeddedPostgres(options=(f"listen_addresses=127.0.0.1,{HERE}",)).start()
    with (reachable.folder / "data" / "pg_hba.conf").open("a") as hba:
        hba.write(f"host all postgres {THERE}/32 trust\n")
    reachable.execute("SELECT pg_reload_conf()")
    yield reachable
    reachable.remove()


def test_the_lock_of_a_machine_that_died_is_free_soon_and_the_next_one_finishes(
    cable: tuple[str, str], server: EmbeddedPostgres, project: Project
) -> None:
    machine, ours = cable
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(3600)")')
    url = f"postgresql://postgres@{HERE}:{server.port}/postgres"
    dying = start(["ip", "netns", "exec", machine, *GATE_COMMAND, "migrate"], {"DATABASE_URL": url}, project.folder)
    dying.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    ip("link", "set", ours, "down")
    project.add("a4", "a3")
    gate = GateRunner(project.folder, server.url("postgres"))
    with gate.running:
        ended = gate("migrate", GATE_POLL_MAX="1")
    dying.end()
    assert ended.code == 0, ended.err
    assert server.execute("SELECT version_num FROM alembic_version") == [("a4",)]
    locks = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
    assert server.execute(locks) == [(0,)]
