"""MariaDB and SQLite are checked, waited for and migrated under a lock; others are refused (hazards.md 7)."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pymysql
import pytest

from gate.database.location import Database
from gate.database.lock import LockKey
from gate.database.mysql import MySqlSessions
from gate.database.postgresql.lock import refuse_cockroachdb
from gate.errors import BadSettings
from gate.settings.database_url import UrlSource
from tests.conftest import SERVER, GateRunner
from tests.support.faulty_proxy import faulty_proxy
from tests.support.mariadb import MariaDb
from tests.support.programs import KILL_ROUNDS, RunningProgram, await_true, children, is_running, kill_at_random
from tests.support.projects import HeldEnvPy, Project, make_project, wait_for_file, with_offline_branch

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
    assert "each DDL statement commits implicitly" in message
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


SLEEPING = "SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP(120)%' AND id <> CONNECTION_ID()"


def sleeping_on_mariadb(gate: GateRunner, project: Project, mariadb: MariaDb) -> RunningProgram:
    project.add("a4", "a3", 'op.execute("SELECT SLEEP(120)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    await_true(lambda: bool(mariadb.execute(SLEEPING)), lambda: "the migration does not sleep", migrating.process)
    return migrating


def test_the_next_migrator_ends_what_a_killed_one_left_running_on_mariadb(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    migrating = sleeping_on_mariadb(gate, project, mariadb)
    (orphan,) = mariadb.execute(SLEEPING)
    migrating.process.kill()
    project.add("a4", "a3")
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert ended.names().index("gate.orphan_terminated") < ended.names().index("gate.migrating")
    assert (ended.event("gate.orphan_terminated")["backend"],) == orphan
    assert mariadb.execute(SLEEPING) == []
    assert mariadb.execute("SELECT version_num FROM alembic_version", name) == [("a4",)]


def test_a_lost_lock_stops_the_migration_on_mariadb(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    migrating = sleeping_on_mariadb(gate, project, mariadb)
    lock = f"{LockKey.of(None, 'alembic_version').tag}/{zlib.crc32(name.encode()):08x}"
    mariadb.execute(f"KILL {mariadb.execute(f'SELECT IS_USED_LOCK({lock!r})')[0][0]}")
    ended = migrating.wait()
    assert ended.code == 69
    assert "lock was lost" in ended.failure
    assert "a4" in ended.failure
    assert mariadb.execute(SLEEPING) == []


def kill_the_working_connection(mariadb: MariaDb) -> None:
    mariadb.execute(f"KILL {mariadb.execute(SLEEPING)[0][0]}")


@pytest.mark.parametrize("way", ["the server restarted", "the server crashed", "an administrator killed it"])
def test_a_mariadb_that_goes_away_in_a_migration_is_69_and_the_next_run_finishes(project: Project, way: str) -> None:
    server = MariaDb().start()
    try:
        server.execute("CREATE DATABASE shop")
        gate = GateRunner(project.folder, server.url("shop"))
        with gate.running:
            migrating = sleeping_on_mariadb(gate, project, server)
            if way == "an administrator killed it":
                kill_the_working_connection(server)
            else:
                server.restart(signal.SIGKILL if way == "the server crashed" else signal.SIGTERM)
            ended = migrating.wait()
            assert ended.code == 69, ended.err
            assert "The database went away in revision a4 (4/4)" in ended.failure
            project.add("a4", "a3")
            assert gate("migrate").code == 0
            assert server.execute("SELECT version_num FROM alembic_version", "shop") == [("a4",)]
    finally:
        server.remove()


@pytest.mark.parametrize(("reason", "run"), [("reset", 2), ("max_user_connections", 1)])
def test_an_env_py_that_cannot_connect_to_mariadb_for_a_moment_is_tried_again(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb, reason: str, run: int
) -> None:
    gate, name = maria
    env_py = HeldEnvPy.create(project, run)
    with faulty_proxy(mariadb.port) as proxy, ExitStack() as connections:
        user = f"few_{os.getpid()}_{next(_numbers)}"
        mariadb.execute(f"CREATE USER {user}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 2")
        mariadb.execute(f"GRANT ALL ON {name}.* TO {user}@'127.0.0.1'")
        gate.url = gate.url.replace(f":{mariadb.port}", f":{proxy.port}").replace("tester", user)
        migrating = gate.start("migrate")
        env_py.wait(migrating)
        if reason == "reset":
            proxy.new_connections = partial(proxy.reset, newest=True)
        else:
            connections.enter_context(pymysql.connect(host="127.0.0.1", port=mariadb.port, user=user))
        env_py.release()
        waiting = migrating.await_event("gate.waiting")
        assert "The database went away before the first revision" in waiting["message"]
        connections.close()
        proxy.new_connections = None
        ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert mariadb.execute("SELECT version_num FROM alembic_version", name) == [("a3",)]


def test_mariadb_is_not_migrated_under_the_lock_of_another_server(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    env_py = HeldEnvPy.create(project, run=1)
    promoted = MariaDb().start()
    try:
        promoted.execute(f"CREATE DATABASE {name}")
        with faulty_proxy(mariadb.port) as proxy:
            gate.url = gate.url.replace(f":{mariadb.port}", f":{proxy.port}")
            migrating = gate.start("migrate")
            env_py.wait(migrating)
            proxy.target = promoted.port
            env_py.release()
            waiting = migrating.await_event("gate.waiting")
            ended = migrating.wait()
        assert "leads to another server now" in waiting["message"]
        assert ended.code == 0, ended.err
        assert promoted.execute("SELECT version_num FROM alembic_version", name) == [("a3",)]
        assert mariadb.execute("SHOW TABLES", name) == []
    finally:
        promoted.remove()


def test_an_env_py_that_hangs_where_mariadb_is_silent_is_logged(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, _ = maria
    env_py = HeldEnvPy.create(project, run=1)
    with faulty_proxy(mariadb.port) as proxy:
        gate.url = gate.url.replace(f":{mariadb.port}", f":{proxy.port}")
        migrating = gate.start("migrate", GATE_CONNECT_TIMEOUT="1", GATE_QUERY_TIMEOUT="1")
        env_py.wait(migrating)
        proxy.is_open = False
        env_py.release()
        message = migrating.await_event("gate.migration_unseen")["message"]
    assert "before the first revision, and gate cannot ask the server what it does." in message
    assert "timed out" in message


def test_a_proxy_that_lost_mariadb_and_acknowledges_ends_the_attempt_with_69(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, _ = maria
    with faulty_proxy(mariadb.port) as proxy:
        gate.url = gate.url.replace(f":{mariadb.port}", f":{proxy.port}")
        migrating = sleeping_on_mariadb(gate, project, mariadb)
        proxy.lose_server()
        ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert "in revision a4 (4/4)" in ended.failure


@contextmanager
def open_transaction(mariadb: MariaDb, name: str) -> Iterator[int]:
    """A transaction that has read `items`, so that no ALTER TABLE may change it; yields its id in the server."""
    with pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester", database=name) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM items")
        yield connection.thread_id()
        connection.rollback()


QUICK = {"GATE_TABLE_LOCK_TIMEOUT": "1", "GATE_POLL_MAX": "0.5"}
ALTER = 'op.execute("ALTER TABLE items ADD COLUMN stock int")'


def test_a_table_lock_of_mariadb_is_waited_for_only_so_long_and_tried_again(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    mariadb.execute("CREATE TABLE items (id int)", name)
    project.add("a4", "a3", ALTER)
    with open_transaction(mariadb, name) as pid:
        migrating = gate.start("migrate", **QUICK)
        event = migrating.await_event("gate.table_lock_timeout", lambda event: "blocked_by" in event)
    assert event["revision"] == "a4"
    assert event["blocked_by"] == [pid]
    assert f"KILL {pid}" in event["message"]
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    started = [e["revision"] for e in ended.events if e["event"] == "gate.revision_started"]
    assert started[:4] == ["a1", "a2", "a3", "a4"]
    assert set(started[4:]) == {"a4"}
    assert mariadb.execute("SELECT version_num FROM alembic_version", name) == [("a4",)]


def test_on_mariadb_only_the_first_statement_of_a_revision_is_tried_again(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    mariadb.execute("CREATE TABLE items (id int)", name)
    project.add("a4", "a3", f'op.execute("CREATE TABLE half (id int)")\n{ALTER}')
    with open_transaction(mariadb, name):
        ended = gate("migrate", **QUICK)
    assert ended.code == 65
    assert "a part of a4 was committed and would be repeated" in ended.failure
    assert "each DDL statement commits implicitly" in ended.failure
    assert "gate.table_lock_timeout" not in ended.names()


@pytest.mark.parametrize(("own", "limit"), [("", 1), ("SET SESSION lock_wait_timeout = 77", 77)])
def test_a_limit_of_its_own_wins_on_mariadb(
    maria: tuple[GateRunner, str], project: Project, own: str, limit: int
) -> None:
    gate, _ = maria
    env = project.folder / "migrations" / "env.py"
    text = f"    connection.exec_driver_sql({own!r})\n    connection.rollback()\n" if own else ""
    env.write_text(env.read_text().replace("    context.configure", f"{text}    context.configure"))
    project.add("a4", "a3", 'print("limit", op.get_bind().exec_driver_sql("SELECT @@lock_wait_timeout").scalar())')
    ended = gate("migrate", **QUICK)
    assert ended.code == 0, ended.err
    assert f"limit {limit}\n" in ended.out


ALONE = """
name = op.get_bind().exec_driver_sql("SELECT DATABASE()").scalar()
working = op.get_bind().exec_driver_sql(
    "SELECT count(*) FROM information_schema.processlist"
    " WHERE db = %s AND info LIKE '%%SLEEP(0.%%' AND id <> CONNECTION_ID()",
    (name,),
).scalar()
assert not working, "two migrators at work"
"""
"""The first thing that every revision of the harness does."""


@pytest.mark.parametrize("number", range(2 * KILL_ROUNDS))
def test_after_a_kill_at_any_moment_every_revision_is_applied_once_on_mariadb(
    tmp_path: Path, maria: tuple[GateRunner, str], mariadb: MariaDb, number: int
) -> None:
    gate, name = maria
    dice = random.Random(number)
    harness = make_project(tmp_path / "harness", environment=ENV.replace("on)", "on, transaction_per_migration=True)"))
    mariadb.execute("CREATE TABLE done (revision text)", name)
    for step in range(5):
        insert = f"op.execute(\"INSERT INTO done VALUES ('r{step}')\")"
        harness.add(f"r{step}", f"r{step - 1}" if step else None, f"{ALONE}{insert}\nop.execute('SELECT SLEEP(0.3)')")
    gate.folder = harness.folder
    victims = [gate.start("migrate", GATE_POLL_MAX="0.5") for _ in range(2)]
    began, moment = time.monotonic(), dice.uniform(0.3, 3)
    await_true(lambda: time.monotonic() - began > moment, lambda: "time stands still")
    kill_at_random(victims, dice)
    finisher = gate("migrate", GATE_POLL_MAX="0.5")
    told = "\n".join([finisher.err, *(victim.wait().err for victim in victims)])
    assert finisher.code == 0, told
    assert "two migrators" not in told
    assert sorted(mariadb.execute("SELECT revision FROM done", name)) == [(f"r{step}",) for step in range(5)]
    assert mariadb.execute("SELECT version_num FROM alembic_version", name) == [("r4",)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_statement_in_mariadbs_server(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb, number: signal.Signals
) -> None:
    gate, _ = maria
    migrating = sleeping_on_mariadb(gate, project, mariadb)
    migrating.signal(number)
    ended = migrating.wait()
    assert ended.code == 128 + number
    assert mariadb.execute(SLEEPING) == []
    assert "in revision a4 (4/4)" in ended.event("gate.migration_interrupted")["message"]


def test_a_killed_migrators_statement_on_mariadb_that_may_not_be_ended_is_named_and_never_migrated_beside(
    maria: tuple[GateRunner, str], mariadb: MariaDb
) -> None:
    gate, name = maria
    mariadb.execute(f"CREATE USER {name}@'127.0.0.1'")
    mariadb.execute(f"GRANT ALL ON {name}.* TO {name}@'127.0.0.1'")
    mark = f"{LockKey.of(None, 'alembic_version').tag}/{zlib.crc32(name.encode()):08x}/0"
    with pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester") as orphan, orphan.cursor() as cursor:
        cursor.execute(f"SELECT GET_LOCK('{mark}', 0)")
        waiting = gate.start("migrate", DATABASE_URL=mariadb.url(name).replace("tester@", f"{name}@"))
        assert f"KILL {orphan.thread_id()}" in waiting.await_event("gate.waiting")["message"]
        assert "gate.migrating" not in "".join(waiting.err)
    assert waiting.wait().code == 0


def test_only_a_connection_that_holds_a_mark_is_ended_on_mariadb(mariadb: MariaDb) -> None:
    place = Database(UrlSource("DATABASE_URL", mariadb.url("mysql")), None, 5, 5)
    mark = f"gate/test/{os.getpid()}"
    with ExitStack() as open_:
        both = [pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester") for _ in range(2)]
        innocent, marked = map(open_.enter_context, both)
        marked.cursor().execute(f"SELECT GET_LOCK('{mark}/3', 0)")
        backends = MySqlSessions(place, mark)
        assert backends.own({innocent.thread_id(), marked.thread_id()}) == [marked.thread_id()]
        backends.cancel([innocent.thread_id(), marked.thread_id()])
        backends.terminate([innocent.thread_id(), marked.thread_id()])
        innocent.ping(reconnect=False)
        with pytest.raises(pymysql.err.OperationalError):
            marked.ping(reconnect=False)


def test_a_long_statement_on_mariadb_is_told_with_what_it_waits_for(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    mariadb.execute("CREATE TABLE busy (id int)", name)
    project.add("a4", "a3", 'op.execute("ALTER TABLE busy ADD COLUMN x int")')
    with pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester", database=name) as blocker:
        blocker.cursor().execute("SELECT * FROM busy")
        migrating = gate.start("migrate")
        line = migrating.await_event("gate.long_statement")
        assert "ALTER TABLE busy" in line["message"]
        assert "Waiting for table metadata lock" in line["message"]
    assert migrating.wait().code == 0


MALFORMED = [
    "mysql+pymysql://u:pw-secret@127.0.0.1:port/x",
    "mysql+pymysql://u:pw-secret@127.0.0.1/x?no_such_parameter=1",
    "mysql+pymysql://u:pw-secret@127.0.0.1/x?connect_timeout=soon",
]


@pytest.mark.parametrize("command", ["check", "migrate"])
@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_told_with_its_variable_and_without_its_password(
    gate: GateRunner, url: str, command: str
) -> None:
    ended = gate(command, DATABASE_URL=url, GATE_TIMEOUT="5")
    assert ended.code == 78, ended.err
    assert "DATABASE_URL" in ended.err
    assert "Traceback" not in ended.err
    assert "pw-secret" not in ended.err


def test_sqlite_is_checked_waited_for_and_migrated(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    assert gate("check").code == 1
    waiting = gate.start("run", "--", *SERVER)
    waiting.await_event("gate.waiting")
    assert gate("migrate").code == 0
    assert waiting.wait().out == "server started\n"
    assert rows(path, "SELECT version_num FROM alembic_version") == [("a3",)]


@pytest.mark.parametrize("form", ["file:{}?uri=true", "file://{}?uri=true&cache=private", "file://localhost{}?uri=1"])
def test_a_uri_of_sqlites_own_is_understood(sqlite: tuple[GateRunner, Path], form: str) -> None:
    gate, path = sqlite
    gate.url = f"sqlite:///{form.format(path)}"
    assert gate("check").code == 1
    assert gate("migrate").code == 0
    assert rows(path, "SELECT version_num FROM alembic_version") == [("a3",)]
    assert Path(f"{path}.gate-lock").exists()
    assert gate("check").code == 0


@pytest.mark.parametrize("command", ["check", "wait", "migrate"])
def test_half_a_uri_of_sqlites_own_is_refused(sqlite: tuple[GateRunner, Path], command: str) -> None:
    gate, path = sqlite
    ended = gate(command, DATABASE_URL=f"sqlite:///file:{path}", GATE_TIMEOUT="20")
    assert ended.code == 78, ended.err
    assert "uri=true" in ended.err


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


def test_who_migrates_on_sqlite_is_seen_though_not_by_name(sqlite: tuple[GateRunner, Path], project: Project) -> None:
    gate, path = sqlite
    assert gate("check", "--busy").code == 0
    go = path.with_name("go")
    project.add("a4", "a3", wait_for_file(go))
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    assert gate("check", "--busy").code == 75
    waiting = gate.start("wait")
    assert "Migrating now: an unnamed holder of the lock." in waiting.await_event("gate.waiting")["message"]
    go.touch()
    assert (migrating.wait().code, waiting.wait().code, gate("check", "--busy").code) == (0, 0, 0)


def test_where_tables_exist_without_a_stamp_on_sqlite_the_remedy_is_to_stamp(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t_a1 (id int)")
    ended = gate("migrate")
    assert (ended.code, "do not undo them but run `alembic stamp REVISION`" in ended.failure) == (
        65,
        True,
    )
    assert "changes that the failed revision made before it failed remain" in ended.failure


def test_a_migration_of_sqlite_that_hangs_is_logged(sqlite: tuple[GateRunner, Path], project: Project) -> None:
    gate, _ = sqlite
    project.add("a4", "a3", "import time\ntime.sleep(100)")
    line = gate.start("migrate").await_event("gate.migration_unseen")
    assert "in revision a4 (4/4), and gate cannot see in this database what it does." in line["message"]
    assert line["seconds"] >= 10


def test_sqlite_says_what_a_failed_revision_leaves(sqlite: tuple[GateRunner, Path], project: Project) -> None:
    gate, path = sqlite
    project.add("a4", "a3", 'op.execute("CREATE TABLE half (id int)")\nop.execute("SELECT nothing")')
    ended = gate("migrate")
    assert ended.code == 65
    assert "each DDL statement commits implicitly" in ended.failure
    assert ("half",) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")


def test_rows_of_10_mb_are_not_read_whole_from_sqlite(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    rows(path, "CREATE TABLE alembic_version (version_num text)")
    rows(path, f"INSERT INTO alembic_version {' UNION ALL '.join(['SELECT hex(randomblob(5000000))'] * 40)}")
    found = gate("check", "--json", prefix=("sh", "-c", 'ulimit -v 400000; exec "$@"', "sh"))
    assert json.loads(found.out)["verdict"] == "UNKNOWN", found.err
    assert len(found.out) < 30_000


def test_a_lock_file_that_cannot_be_opened_is_told(sqlite: tuple[GateRunner, Path], tmp_path: Path) -> None:
    gate, path = sqlite
    Path(f"{path}.gate-lock").symlink_to(tmp_path / "nowhere" / "lock")
    ended = gate("migrate")
    assert ended.code == 78
    assert f"{path}.gate-lock" in ended.failure
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_lock_file_that_is_no_file_blocks_nothing_and_creates_nothing(
    sqlite: tuple[GateRunner, Path], tmp_path: Path, kind: str
) -> None:
    gate, path = sqlite
    lock, target = Path(f"{path}.gate-lock"), tmp_path / "target"
    os.mkfifo(lock) if kind == "pipe" else lock.symlink_to(target)
    ended = gate("migrate")
    assert ended.code == 78
    assert f"The lock file {lock} beside the SQLite database cannot be used" in ended.failure
    assert not target.exists()
    assert gate("check").code == 1


def test_a_pipe_in_the_place_of_an_sqlite_database_blocks_nothing(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    ended = gate("migrate")
    assert ended.code == 78
    assert f"The SQLite database {path} is not a regular file" in ended.failure


def test_sqlites_lock_is_held_for_as_long_as_anything_of_the_migration_lives(
    sqlite: tuple[GateRunner, Path], project: Project
) -> None:
    gate, path = sqlite
    project.add("a4", "a3", "import time\nprint('begun', flush=True)\ntime.sleep(60)")
    migrating = gate.start("migrate")
    migrating.await_output("begun")
    with open(f"{path}.gate-lock") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        family = [*children(migrating.pid), *children(children(migrating.pid)[0])]
        migrating.process.kill()
        fcntl.flock(lock, fcntl.LOCK_SH)
        # The kernel releases the lock with the last descriptor, a moment before the process has ended.
        await_true(lambda: not any(map(is_running, family)), lambda: f"{family} still run")


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


DUCKDB_ENV = (
    """
from alembic.ddl.impl import DefaultImpl


class DuckDb(DefaultImpl):
    __dialect__ = "duckdb"

"""
    + ENV
)


def test_another_engine_is_checked_and_waited_for_and_migrated_only_without_a_lock(
    gate: GateRunner, project: Project, tmp_path: Path
) -> None:
    (project.folder / "migrations" / "env.py").write_text(DUCKDB_ENV)
    gate.url = f"duckdb:///{tmp_path / 'shop.duckdb'}"
    assert gate("check").code == 1
    refused = gate("migrate")
    assert refused.code == 78
    assert "no lock that keeps two migrators apart on duckdb" in refused.failure
    assert "GATE_LOCK=none" in refused.failure
    waiting = gate.start("run", "--", *SERVER)
    assert waiting.await_event("gate.waiting")["verdict"] == "EMPTY"
    waiting.end()  # DuckDB's file is one process's at a time
    migrated = gate("migrate", GATE_LOCK="none")
    assert migrated.code == 0, migrated.err
    assert "without a lock" in migrated.event("gate.migrating")["message"]
    assert gate("run", "--", *SERVER).out == "server started\n"


def test_cockroachdb_is_recognised_and_refused_for_migrating() -> None:
    refuse_cockroachdb(None)
    with pytest.raises(BadSettings, match="GATE_LOCK=none"):
        refuse_cockroachdb("CockroachDB CCL v24.3.1")


UNREAD = "from options import options\n" + ENV.replace("connection=connection", "connection=connection, **options")


def test_an_unseen_version_table_on_sqlite_is_no_default(sqlite: tuple[GateRunner, Path], project: Project) -> None:
    gate, path = sqlite
    (project.folder / "migrations" / "env.py").write_text(UNREAD)
    rows(path, "CREATE TABLE documents (version_num TEXT)")
    rows(path, "INSERT INTO documents VALUES ('7'), (NULL)")
    assert gate("check").out.startswith("UNSTAMPED")
    rows(path, 'CREATE TABLE "stamp ""shop" (version_num VARCHAR(32))')
    rows(path, 'INSERT INTO "stamp ""shop" VALUES (\'a1\')')
    ended = gate("check")
    assert (ended.code, 'stamp "shop holds a1' in ended.err) == (78, True)
    assert gate("check", GATE_VERSION_TABLE='stamp "shop').out.startswith("BEHIND")
    assert gate("check", GATE_VERSION_TABLE='STAMP "shop').out.startswith("BEHIND")  # as SQLite compares names


def test_a_row_without_a_revision_on_sqlite_starts_nothing(sqlite: tuple[GateRunner, Path]) -> None:
    gate, path = sqlite
    rows(path, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    rows(path, "INSERT INTO alembic_version VALUES (NULL)")
    ended = gate("check")
    assert (ended.code, "a row without a revision" in ended.err) == (69, True)


def test_an_unseen_version_table_on_mariadb_is_no_default(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    (project.folder / "migrations" / "env.py").write_text(UNREAD)
    mariadb.execute("CREATE TABLE documents (version_num INT)", name)
    assert gate("check").out.startswith("UNSTAMPED")
    mariadb.execute("CREATE TABLE stamp_shop (version_num CHAR(32))", name)
    mariadb.execute("INSERT INTO stamp_shop VALUES ('a1')", name)
    ended = gate("check")
    assert (ended.code, f"{name}.stamp_shop holds a1" in ended.err) == (78, True)
    mariadb.execute("CREATE TABLE alembic_version AS SELECT 'a3' AS version_num", name)
    assert gate("check").code == 78
    settings = {"GATE_VERSION_TABLE": "alembic_version", "GATE_VERSION_TABLE_SCHEMA": name}
    assert gate("check", **settings).out.startswith("CURRENT")
    assert gate("check", GATE_VERSION_TABLE="stamp_shop").out.startswith("BEHIND")


def test_a_setting_that_names_the_table_wrongly_on_mariadb_is_answered_with_the_right_one(
    maria: tuple[GateRunner, str], mariadb: MariaDb
) -> None:
    gate, name = maria
    mariadb.execute("CREATE TABLE alembic_version AS SELECT 'zz99' AS version_num", name)
    ended = gate("check", GATE_VERSION_TABLE=f"{name}.alembic_version")
    right = f"Set GATE_VERSION_TABLE=alembic_version and GATE_VERSION_TABLE_SCHEMA={name}"
    assert (ended.code, right in ended.err) == (78, True)


def test_a_plan_of_mariadb_is_sql_of_mariadb_and_changes_nothing(
    maria: tuple[GateRunner, str], project: Project, mariadb: MariaDb
) -> None:
    gate, name = maria
    gate.folder = make_project(project.folder / "offline", environment=with_offline_branch("raise SystemExit")).folder
    offline = Project(gate.folder)
    offline.add(
        "a1", None, "import sqlalchemy as sa\nop.create_table('t', sa.Column('id', sa.Integer, primary_key=True))"
    )
    connect = "import os, pymysql, sqlalchemy as sa\npymysql.connect(host='127.0.0.1', port=%d, user='tester')"
    offline.add("a2", "a1", connect % mariadb.port)
    planned = gate("plan", "--sql")
    assert (planned.code, "id INTEGER NOT NULL AUTO_INCREMENT" in planned.out) == (0, True), planned.err
    assert "gate lets nothing connect" in planned.out
    assert mariadb.execute("SHOW TABLES", name) == []
