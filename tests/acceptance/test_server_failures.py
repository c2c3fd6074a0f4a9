"""Servers that freeze, crash, restart, fail over or have no connection left while gate migrates."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from gate.database.lock import LOCK_CLASS, LockKey
from tests.conftest import GateRunner, TestDatabase
from tests.support.pooler import PoolerFactory
from tests.support.programs import RunningProgram, await_true, descendants
from tests.support.projects import SYNC_ENV, Project, make_project, wait_for_file

KEY = LockKey.of(None, "alembic_version")
LOCKED = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND granted"


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that a test may stop."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


def sleeping_revision(gate: GateRunner, project: Project, **told: str) -> RunningProgram:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(300)")')
    migrating = gate.start("migrate", **told)
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    return migrating


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    """Every process of the server stands still: connections live, and nobody answers."""
    assert server._process
    processes = [server._process.pid, *descendants(server._process.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_gate_while_the_server_is_frozen(
    gate: GateRunner, project: Project, own_server: EmbeddedPostgres, number: signal.Signals
) -> None:
    gate.url = own_server.url("postgres")
    migrating = sleeping_revision(gate, project)
    with frozen(own_server):
        migrating.signal(number)
        ended = migrating.wait(timeout=10)
    assert ended.code == 128 + number
    assert "in revision a4 (4/4)" in ended.event("gate.migration_interrupted")["message"]
    assert "Traceback" not in ended.err


def test_a_migration_timeout_holds_while_the_server_is_frozen(
    gate: GateRunner, project: Project, own_server: EmbeddedPostgres
) -> None:
    gate.url = own_server.url("postgres")
    migrating = sleeping_revision(gate, project, GATE_MIGRATION_TIMEOUT="6")
    with frozen(own_server):
        ended = migrating.wait(timeout=30)
    assert ended.code == 65
    assert "GATE_MIGRATION_TIMEOUT" in ended.failure


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_signal_ends_gate_while_a_pool_has_no_connection_left(
    gate: GateRunner, project: Project, database: TestDatabase, pooler: PoolerFactory, mode: str
) -> None:
    gate.url = pooler(mode, 2).url(database.name)
    migrating = sleeping_revision(gate, project)
    migrating.signal(signal.SIGTERM)
    assert migrating.wait(timeout=10).code == 143
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(300)%' AND state = 'active'"
    await_true(lambda: database.execute(asleep) == [(0,)], lambda: "the statement outlived its client")
    assert database.tables() == set()


def test_a_lock_that_is_lost_before_the_first_step_is_taken_again(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    go = project.folder / "go"
    env = project.folder / "migrations" / "env.py"
    wait = f"print('env.py', flush=True)\n{wait_for_file(go)}"
    env.write_text(wait + env.read_text())
    migrating = gate.start("migrate", GATE_POLL_MAX="0.5")
    migrating.await_output("env.py")
    holders = f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
    database.execute(holders)
    go.touch()
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert "lock was lost" in ended.event("gate.waiting")["message"]
    assert database.stamped() == {"a3"}


def test_a_standby_is_waited_for_until_it_is_the_primary(gate: GateRunner, own_server: EmbeddedPostgres) -> None:
    own_server.stop()
    data = next(own_server.folder.rglob("PG_VERSION")).parent
    (data / "standby.signal").touch()
    shutil.chown(data / "standby.signal", (data / "PG_VERSION").stat().st_uid)
    own_server.start()
    gate.url = own_server.url("postgres")
    migrating = gate.start("migrate", GATE_POLL_MAX="0.5")
    assert "standby" in migrating.await_event("gate.waiting")["message"]
    own_server.execute("SELECT pg_promote()")
    assert migrating.wait().code == 0


def test_a_pool_that_is_busy_just_now_is_waited_for(
    gate: GateRunner, database: TestDatabase, pooler: PoolerFactory
) -> None:
    gate.url = pooler("transaction", 2).url(database.name)
    with psycopg.connect(gate.url) as hog:
        hog.execute("SELECT 1")
        migrating = gate.start("migrate", GATE_CONNECT_TIMEOUT="5", GATE_QUERY_TIMEOUT="5")
        await_true(lambda: database.execute(LOCKED) == [(1,)], lambda: "no lock", migrating.process)
    assert migrating.wait().code == 0


def test_other_clients_of_a_pooler_never_get_a_migrations_name(
    gate: GateRunner, project: Project, database: TestDatabase, pooler: PoolerFactory
) -> None:
    gate.url = pooler("transaction", 4).url(database.name)
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert "MIGRATION_DATABASE_URL" in ended.event("gate.pooler_detected")["message"]
    with ExitStack() as open_:
        clients = [open_.enter_context(psycopg.connect(gate.url)) for _ in range(4)]
        names = [client.execute("SELECT current_setting('application_name')").fetchone() for client in clients]
    assert [name for name in names if name and str(name[0]).startswith("gate/")] == []


def test_a_killed_migrators_upgrade_that_connects_late_is_ended(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    migrating = sleeping_revision(gate, project)
    with psycopg.connect(database.url, application_name=f"{KEY.working_name} late", autocommit=True) as late:
        line = migrating.await_event("gate.orphan_terminated")
        assert line["backend"] == late.info.backend_pid
        with pytest.raises(psycopg.OperationalError):
            late.execute("SELECT 1")
    assert migrating.process.poll() is None


def test_without_a_lock_nobody_is_taken_for_a_killed_predecessor(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    first = sleeping_revision(gate, project)
    works = f"SELECT pid FROM pg_stat_activity WHERE application_name LIKE '{KEY.working_name}%'"
    working = database.execute(works)
    second = gate.start("migrate", GATE_LOCK="none")
    second.await_event("gate.migrating")
    await_true(lambda: len(database.backends()) >= 4, lambda: f"{database.backends()}{second.err}", second.process)
    assert database.execute(works) == working
    assert first.process.poll() is None


def test_marking_a_connection_never_commits_what_a_migration_has_begun(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    env = SYNC_ENV.format(driver="psycopg", options="").replace("pool.NullPool", "pool.StaticPool")
    (project.folder / "migrations" / "env.py").write_text(env)
    again = "with op.get_bind().engine.connect() as second:\n    second.exec_driver_sql('SELECT 1')"
    project.add("a4", "a3", f'op.execute("CREATE TABLE half (id int)")\n{again}\nraise ValueError("no good")')
    ended = gate("migrate")
    assert ended.code == 65
    assert "half" not in database.tables()


def test_a_run_that_upgrades_several_version_tables_is_refused_before_anything_is_applied(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    env = SYNC_ENV.format(driver="psycopg", options=", version_table=table").replace(
        "    context.configure", "  for table in ('alembic_version', 'tenant_version'):\n    context.configure"
    )
    tenants = make_project(tmp_path / "tenants", environment=env)
    tenants.add("a1", None, 'op.execute("CREATE TABLE IF NOT EXISTS t_a1 (id int)")')
    gate.folder = tenants.folder
    ended = gate("migrate", GATE_VERSION_TABLE="alembic_version")
    assert ended.code == 78, ended.err
    assert "public.alembic_version, public.tenant_version" in ended.failure
    assert database.tables().isdisjoint({"alembic_version", "t_a1"})


def test_an_upgrade_that_a_nameless_signal_ended_is_told_by_its_number(gate: GateRunner) -> None:
    ended = gate("migrate", GATE_UPGRADE_COMMAND="sh -c 'kill -40 $$'")
    assert ended.code == 65
    assert "killed by signal 40" in ended.failure
