"""A shortage around gate is named, waited for while gate waits, and never reported as a bug in gate."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.cgroups import memory_limit
from tests.support.projects import Project

REFUSE_THREADS = """
import _thread, os
real, count = _thread.start_new_thread, 0
def start(*args, **kwargs):
    global count
    count += 1
    if os.environ["DENIED"] in {"all", str(count)}:
        raise RuntimeError("can't start new thread")
    return real(*args, **kwargs)
_thread.start_new_thread = start
if hasattr(_thread, "start_joinable_thread"):
    real = _thread.start_joinable_thread
    _thread.start_joinable_thread = start
"""
"""Root is not subject to `ulimit -u`, so the interpreter of gate itself refuses."""


@pytest.fixture
def site(tmp_path: Path) -> str:
    """A folder for PYTHONPATH whose sitecustomize refuses threads."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(REFUSE_THREADS)
    return str(folder)


def test_without_any_thread_gate_waits_and_names_the_limits(
    gate: GateRunner, database: TestDatabase, site: str
) -> None:
    database.stamp("a3")
    ended = gate("run", "--", *SERVER, PYTHONPATH=site, DENIED="all", GATE_TIMEOUT="1")
    assert ended.code == 124
    assert "pids limit" in ended.failure
    assert "bug in gate" not in ended.err
    checked = gate("check", PYTHONPATH=site, DENIED="all")
    assert checked.code == 69
    assert "cannot start a thread" in checked.err


def test_without_any_thread_gate_serve_answers_and_names_the_limits(
    gate: GateRunner, database: TestDatabase, site: str
) -> None:
    database.stamp("a3")
    port = free_port()
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}", PYTHONPATH=site, DENIED="all")
    serving.await_event("gate.serving")
    assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=10).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code == 503
    assert "pids limit" in serving.await_event("gate.answer_changed")["message"]
    serving.signal(signal.SIGTERM)
    ended = serving.wait()
    assert ended.code == 143
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("denied", ["1", "2", "3", "5"])
def test_one_thread_that_is_refused_delays_a_migration_and_does_not_end_it(
    gate: GateRunner, database: TestDatabase, site: str, denied: str
) -> None:
    ended = gate("run", "--", *SERVER, PYTHONPATH=site, DENIED=denied, RUN_MIGRATIONS="1", GATE_TIMEOUT="60")
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert database.stamped() == {"a3"}


REFUSE_PROCESSES = """
import _posixsubprocess, errno, os, sys
if os.environ["DENIED"] in " ".join(sys.orig_argv):
    def refuse(*args):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    _posixsubprocess.fork_exec = refuse
"""


@pytest.mark.parametrize("starter", ["-m gate migrate", "gate.migration.child.supervisor"])
@pytest.mark.parametrize("command", ["", "alembic upgrade heads"])
def test_an_upgrade_process_that_cannot_be_started_is_waited_for(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, starter: str, command: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE_PROCESSES)
    environment = {"PYTHONPATH": str(tmp_path), "DENIED": starter, "GATE_UPGRADE_COMMAND": command}
    ended = gate("migrate", "--timeout", "1", **environment)
    assert ended.code == 124
    assert "pids limit" in ended.failure
    assert "bug in gate" not in ended.err
    assert not database.tables()


def test_a_loader_or_a_placeholder_that_cannot_be_started_is_a_shortage(
    gate: GateRunner, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE_PROCESSES)
    denied = {"PYTHONPATH": str(tmp_path), "DENIED": "-m gate"}
    placeholder = gate("run", "--", *SERVER, GATE_PLACEHOLDER=f"127.0.0.1:{free_port()}", **denied)
    assert (placeholder.code, placeholder.out) == (69, "")
    assert "port of GATE_PLACEHOLDER" in placeholder.failure
    (project.versions / "a4.py").write_text('revision = "a" + "4"\ndown_revision = "a3"\n')
    loader = gate("check", **denied)
    assert loader.code == 69
    assert "in which Alembic loads the scripts" in loader.err


def test_without_descriptors_the_limit_is_named(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    for limit in range(5, 12):
        ended = gate("check", prefix=("prlimit", f"--nofile={limit}"))
        assert "bug in gate" not in ended.err
        assert ended.code in {0, 1, 69}
        assert ended.code != 69 or "ulimit -n" in ended.err


@pytest.mark.parametrize("limit", [1, 2])
def test_a_role_with_fewer_connections_than_gate_needs_is_refused(
    gate: GateRunner, database: TestDatabase, limit: int
) -> None:
    url = database.create_role(
        "x", f"ALTER ROLE {{role}} CONNECTION LIMIT {limit}", "GRANT ALL ON SCHEMA public TO {role}"
    )
    ended = gate("run", "--", *SERVER, DATABASE_URL=url, RUN_MIGRATIONS="1", GATE_TIMEOUT="30")
    assert (ended.code, ended.out) == (78, "")
    assert "gate needs 3 connections to migrate" in ended.failure
    assert f"has a CONNECTION LIMIT of {limit}" in ended.failure
    assert not database.tables()


def test_a_database_with_fewer_connections_than_gate_needs_is_refused(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("x", "GRANT ALL ON SCHEMA public TO {role}")
    database.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 2")
    ended = gate("migrate", DATABASE_URL=url)
    assert ended.code == 78
    assert f"the database {database.name} has a CONNECTION LIMIT of 2" in ended.failure


def test_three_connections_are_enough_to_migrate(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("x", "ALTER ROLE {role} CONNECTION LIMIT 3", "GRANT ALL ON SCHEMA public TO {role}")
    ended = gate("migrate", DATABASE_URL=url)
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a3"}


def test_an_address_that_only_libpq_reads_is_checked_and_refused_before_a_migration(
    gate: GateRunner, database: TestDatabase
) -> None:
    before, _, host = database.url.partition("@")
    address, _, name = host.partition("/")
    url = f"{before}@{address},{address}/{name}"
    assert gate("check", DATABASE_URL=url).code == 1
    ended = gate("migrate", DATABASE_URL=url)
    assert ended.code == 78
    assert "?host=127.0.0.1,127.0.0.1&port=" in ended.failure
    assert not database.tables()


def test_a_check_of_an_empty_database_prints_twenty_pending_revisions(
    gate: GateRunner, database: TestDatabase, project: Project
) -> None:
    project.chain(*(f"r{number:03}" for number in range(344)))
    for each in ("a1", "a2", "a3"):
        (project.versions / f"{each}.py").unlink()
    ended = gate("check")
    assert ended.code == 1
    assert len(ended.out.splitlines()) < 30
    assert "and 324 more; --json lists all" in ended.out
    assert "r343" in gate("check", "--json").out


SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name in {"sqlalchemy", "pysqlite", "sqlite3"}:
            time.sleep(2)
sys.meta_path.insert(0, Slow())
"""


def test_the_import_of_a_slow_driver_is_not_the_silence_of_the_database(
    gate: GateRunner, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    url = f"sqlite:///{project.folder}/shop.db"
    short = {"GATE_CONNECT_TIMEOUT": "0.2", "GATE_QUERY_TIMEOUT": "0.2"}
    os.close(os.open(project.folder / "shop.db", os.O_CREAT))
    ended = gate("check", DATABASE_URL=url, PYTHONPATH=str(tmp_path), **short)
    assert ended.code == 1, ended.err


TAKES_ALL_MEMORY = "taken = [bytearray(1 << 20) for _ in range(1000)]"


def test_a_migration_that_the_kernel_kills_for_lack_of_memory_says_so_and_what_to_raise(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", TAKES_ALL_MEMORY)
    with memory_limit(160) as prefix:
        ended = gate("run", "--", *SERVER, prefix=prefix, RUN_MIGRATIONS="1")
        assert (ended.code, ended.out) == (65, ""), ended.err
        assert "was killed by SIGKILL in revision a4 (4/4). Memory was the cause" in ended.failure
        assert "Raise the memory limit of the container, which is 160 MiB now." in ended.failure
    assert not database.tables()


def test_an_upgrade_command_that_the_kernel_kills_for_lack_of_memory_says_so(gate: GateRunner) -> None:
    # The shell reports the death of its child as an exit code.
    command = f"sh -c '{sys.executable} -c \"{TAKES_ALL_MEMORY}\"; exit $?'"
    with memory_limit(160) as prefix:
        ended = gate("migrate", prefix=prefix, GATE_UPGRADE_COMMAND=command)
    assert ended.code == 65, ended.err
    assert "ended with exit code 137. Memory was the cause" in ended.failure


def test_a_child_that_somebody_kills_is_not_said_to_lack_memory(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    ended = gate("migrate")
    assert ended.code == 65
    assert "SIGKILL in revision a4 (4/4)." in ended.failure
    assert "emory" not in ended.failure


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        ("taken = bytearray(1 << 62)", "Raise the memory limit of the container, or ulimit -v."),
        ("raise OSError(12, 'Cannot allocate memory')", "Raise the memory limit of the container, or ulimit -v."),
        ('raise RuntimeError("can\'t start new thread")', "Raise the limit on processes and threads"),
        ("raise OSError(24, 'Too many open files')", "Raise the limit on open files"),
    ],
)
def test_a_migration_that_fails_for_a_shortage_names_the_limit(
    gate: GateRunner, project: Project, failure: str, remedy: str
) -> None:
    project.add("a4", "a3", failure)
    ended = gate("migrate")
    assert ended.code == 65
    assert "failed in revision a4 (4/4)" in ended.failure
    assert remedy in ended.failure


def test_gate_under_a_limit_on_its_own_memory_names_it_and_calls_nothing_a_bug(
    gate: GateRunner, database: TestDatabase
) -> None:
    for megabytes in range(40, 400, 40):
        limited = ("prlimit", f"--as={megabytes << 20}")
        ended = gate("run", "--", *SERVER, prefix=limited, RUN_MIGRATIONS="1", GATE_TIMEOUT="20")
        assert "bug in gate" not in ended.err, (megabytes, ended.err)
        if ended.code == 0:
            break
    assert ended.code == 0, ended.err
