"""MariaDB and SQLite are looked at, waited for and migrated under a lock; others are refused, saying why (FACTS 7)."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from gate.errors import BadSettings
from gate.lock import refuse_cockroachdb
from tests.conftest import SERVER, GateRunner
from tests.support.mariadb import MariaDb
from tests.support.programs import await_true
from tests.support.projects import Project, make_project

ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool

with create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
_numbers = count(1)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed")
    server = MariaDb().start()
    yield server
    server.remove()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", environment=ENV).chain("a1", "a2", "a3")


@pytest.fixture
def maria(project: Project, mariadb: MariaDb) -> Iterator[tuple[GateRunner, str]]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    mariadb.execute(f"CREATE DATABASE {name}")
    runner = GateRunner(project.folder, mariadb.url(name))
    with runner.running:
        yield runner, name


@pytest.fixture
def sqlite(project: Project, tmp_path: Path) -> Iterator[tuple[GateRunner, Path]]:
    path = tmp_path / "shop.db"
    runner = GateRunner(project.folder, f"sqlite:///{path}")
    with runner.running:
        yield runner, path


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(statement).fetchall()


def test_mariadb_is_checked_waited_for_and_migrated(maria: tuple[GateRunner, str], mariadb: MariaDb) -> None:
    gate, name = maria
    assert gate("check").code == 1
    waiting = gate.start("run", "--", *SERVER)
    assert "drift: db=none expected=a3" in waiting.await_event("gate.waiting")["message"]
    assert gate("migrate").code == 0
    assert waiting.wait().out == "server started\n"
    assert mariadb.execute("SELECT version_num FROM alembic_version", name) == [("a3",)]
    assert gate("check").code == 0


def test_five_migrators_race_on_mariadb_and_one_migrates(maria: tuple[GateRunner, str], mariadb: MariaDb) -> None:
    gate, name = maria
    ended = [r.wait() for r in [gate.start("migrate") for _ in range(5)]]
    assert [e.code for e in ended] == [0] * 5, "\n".join(e.err for e in ended)
    assert sum("gate.migrating" in e.names() for e in ended) == 1
    assert mariadb.execute("SELECT version_num FROM alembic_version", name) == [("a3",)]


def test_mariadb_says_what_a_failed_revision_leaves(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    project.add("a4", "a3", 'op.execute("CREATE TABLE half (id int)")\nop.execute("SELECT nothing")')
    ended = gate("migrate")
    assert ended.code == 65
    message = ended.event("gate.failed")["message"]
    assert "in revision a4" in message
    assert "commits each DDL statement by itself" in message
    assert ("half",) in mariadb.execute("SHOW TABLES", name)


def test_waiters_on_mariadb_see_that_somebody_migrates(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, _ = maria
    project.add("a4", "a3", 'op.execute("SELECT SLEEP(3)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.migrating")
    waiting = gate.start("wait", GATE_POLL_MAX="0.3")
    waiting.await_event("gate.waiting", lambda e: "migrating" in e)
    assert migrating.wait().code == 0
    assert waiting.wait().code == 0


def test_a_stamp_that_came_after_the_first_poll_is_seen_on_mariadb(
    maria: tuple[GateRunner, str], mariadb: MariaDb
) -> None:
    gate, name = maria
    mariadb.execute("CREATE TABLE alembic_version (version_num varchar(32))", name)
    waiting = gate.start("wait")
    waiting.await_event("gate.waiting")
    mariadb.execute("INSERT INTO alembic_version VALUES ('a3')", name)
    assert waiting.wait().code == 0


def test_sqlite_is_checked_waited_for_and_migrated(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    assert gate("check").code == 1
    waiting = gate.start("run", "--", *SERVER)
    waiting.await_event("gate.waiting")
    assert gate("migrate").code == 0
    assert waiting.wait().out == "server started\n"
    assert rows(path, "SELECT version_num FROM alembic_version") == [("a3",)]


def test_five_migrators_race_on_sqlite_and_one_migrates(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    ended = [r.wait() for r in [gate.start("migrate") for _ in range(5)]]
    assert [e.code for e in ended] == [0] * 5, "\n".join(e.err for e in ended)
    assert sum("gate.migrating" in e.names() for e in ended) == 1
    assert rows(path, "SELECT version_num FROM alembic_version") == [("a3",)]


def test_sqlites_lock_is_free_after_its_holder_was_killed(sqlite: tuple[GateRunner, Path], project: Project) -> None:
    gate, path = sqlite
    marker = project.folder / "begun"
    project.add("a4", "a3", f"import pathlib, time\npathlib.Path({str(marker)!r}).touch()\ntime.sleep(60)")
    migrating = gate.start("migrate")
    await_true(marker.exists, lambda: "the revision did not begin", migrating.process)
    migrating.signal(signal.SIGKILL)
    project.add("a4", "a3")
    assert gate("migrate").code == 0
    assert rows(path, "SELECT version_num FROM alembic_version") == [("a4",)]


def test_env_py_on_another_sqlite_file_is_refused(
    sqlite: tuple[GateRunner, Path], project: Project, tmp_path: Path
) -> None:
    gate, path = sqlite
    other = tmp_path / "other.db"
    environment = ENV.replace('os.environ["DATABASE_URL"]', repr(f"sqlite:///{other}"))
    (project.folder / "migrations" / "env.py").write_text(environment)
    ended = gate("migrate")
    assert ended.code == 78
    assert "Nothing was applied" in ended.event("gate.failed")["message"]
    assert rows(other, "SELECT name FROM sqlite_master") == []
    assert not path.exists()


@pytest.mark.parametrize("url", ["oracle+oracledb://u:pw-secret@127.0.0.1/x", "nosuch://u:pw-secret@127.0.0.1/x"])
def test_an_engine_without_its_driver_says_so_without_the_password(gate: GateRunner, url: str) -> None:
    ended = gate("check", DATABASE_URL=url)
    assert ended.code == 78
    assert "Traceback" not in ended.err
    assert "pw-secret" not in ended.err


def test_cockroachdb_is_recognised_and_refused_for_migrating() -> None:
    refuse_cockroachdb(None)
    with pytest.raises(BadSettings, match="GATE_LOCK=none"):
        refuse_cockroachdb("CockroachDB CCL v24.3.1")
