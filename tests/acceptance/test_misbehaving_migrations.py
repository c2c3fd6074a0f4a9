"""A misbehaving migration fails with its revision and cause; the lock is released, and the server is not started."""

from __future__ import annotations

import signal

import pytest

from gate.database.lock import LOCK_CLASS
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import Project

BAD = {
    "raises": ("raise ValueError('no good')", "ValueError: no good"),
    "calls sys.exit": ("import sys\nsys.exit(0)", "it called sys.exit(0)"),
    "calls os._exit": ("import os\nos._exit(0)", "ended with exit code 0"),
    "kills its process": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    "closes its connection": (
        "op.get_bind().connection.dbapi_connection.close()\nop.execute('SELECT 1')",
        "connection",
    ),
    "breaks SQL": ("op.execute('CREATE TABEL x ()')", "CREATE TABEL x ()"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_migration_that(name: str, gate: GateRunner, project: Project, database: TestDatabase) -> None:
    body, cause = BAD[name]
    project.add("a4", "a3", body)
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (65, ""), ended.err
    message = ended.event("gate.failed")["message"]
    assert "in revision a4 (4/4)" in message
    assert cause in message
    assert "Committed: nothing. Still pending: a1, a2, a3, a4" in message
    assert "Traceback" not in ended.err
    locks = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
    assert database.execute(locks) == [(0,)]


GOOD = {
    "prints megabytes": "print('x' * 5_000_000)",
    "forks": "import os, time\nif os.fork() == 0:\n    time.sleep(1)\n    os._exit(0)",
    "changes folder": "import os\nos.chdir('/')",
}


@pytest.mark.parametrize("name", GOOD)
def test_no_harm_in_a_migration_that(name: str, gate: GateRunner, project: Project, database: TestDatabase) -> None:
    project.add("a4", "a3", GOOD[name])
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert ended.code == 0, ended.err
    assert ended.out.endswith("server started\n")
    assert database.stamped() == {"a4"}


DESCRIPTORS = {
    "closes every descriptor": "import os\nos.closerange(3, 4096)\n",
    "closes every descriptor and opens others": (
        "import os\nos.closerange(3, 4096)\nfor _ in range(64):\n    os.open('/dev/null', os.O_RDWR)\n"
    ),
    "writes what is no report to the pipe of the reports": (
        "import os\nwords = open('/proc/self/cmdline').read().split(chr(0))\n"
        "number = int(words[words.index('gate.migration.child.upgrade') + 1])\n"
        "os.write(number, b'{}\\nnull\\n\\xff\\n[]\\n{\"x\"')\n"
    ),
}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_the_progress_and_the_cause_are_reported_although_env_py(
    name: str, gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    env = project.folder / "migrations" / "env.py"
    env.write_text(f"{DESCRIPTORS[name]}print('from env.py')\n{env.read_text()}")
    project.add("a4", "a3", "raise ValueError('no good')")
    failed = gate("migrate")
    assert (failed.code, "ValueError: no good" in failed.failure) == (65, True)
    (project.versions / "a4.py").unlink()
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert ended.code == 0, ended.err
    assert ended.names().count("gate.revision_applied") == 3
    assert ended.out == "from env.py\nserver started\n"
    assert database.stamped() == {"a3"}


def test_a_second_signal_kills_at_once(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    stubborn = """\
import time
for _ in range(300):
    try:
        op.execute("SELECT pg_sleep(60)")
    except BaseException:
        time.sleep(60)"""
    project.add("a4", "a3", stubborn)
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    migrating.signal(signal.SIGTERM)
    migrating.signal(signal.SIGTERM)
    assert migrating.wait().code == 143
    assert database.tables() == set()


def test_a_long_statement_is_logged_with_what_it_waits_for(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    import psycopg

    database.execute("CREATE TABLE busy (id int)")
    project.add("a4", "a3", 'op.execute("ALTER TABLE busy ADD COLUMN x int")')
    with psycopg.connect(database.url, application_name="a-report") as blocker:
        blocker.execute("SELECT * FROM busy")
        migrating = gate.start("migrate")
        line = migrating.await_event("gate.long_statement")
        assert line["blocked_by"] == [blocker.info.backend_pid]
        assert "a-report" in line["message"]
        assert "ALTER TABLE busy" in line["message"]
        assert line["seconds"] >= 10
    assert migrating.wait().code == 0


BLOCKS_ITSELF = """
import os
from sqlalchemy import create_engine, make_url, text
op.execute("ALTER TABLE busy ADD COLUMN x int")
url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
with create_engine(url).begin() as second:
    second.execute(text("SELECT count(*) FROM busy"))
"""


def test_a_migration_that_blocks_itself_through_a_second_engine_is_logged(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.execute("CREATE TABLE busy (id int)")
    project.add("a4", "a3", BLOCKS_ITSELF)
    migrating = gate.start("migrate")
    line = migrating.await_event("gate.long_statement")
    assert "SELECT count(*) FROM busy" in line["message"]
    assert "it blocks itself" in line["message"]
    assert line["revision"] == "a4"
    migrating.process.terminate()
    assert migrating.wait().code == 143
    assert database.backends() == []


def test_a_migration_that_hangs_outside_the_database_is_logged(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", "import time\ntime.sleep(100)")
    migrating = gate.start("migrate")
    line = migrating.await_event("gate.migration_idle")
    assert "outside the database" in line["message"]
    assert "in revision a4 (4/4)" in line["message"]
    assert line["seconds"] >= 10


def test_an_env_py_that_hangs_before_it_connects_is_logged(gate: GateRunner, project: Project) -> None:
    env = project.folder / "migrations" / "env.py"
    env.write_text("import time\ntime.sleep(100)\n" + env.read_text())
    line = gate.start("migrate").await_event("gate.migration_idle")
    assert "env.py is still importing or connecting" in line["message"]
    assert "before the first revision" in line["message"]
