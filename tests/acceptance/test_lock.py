"""One migrator works at a time, and none of gate's own connections blocks a migration (hazards.md 3)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from gate.database.location import Database
from gate.database.lock import LOCK_CLASS, Lock, LockKey, Migrator
from gate.database.postgresql.lock import acquire
from gate.settings.database_url import UrlSource
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import await_true
from tests.support.projects import Project

KEY = LockKey.of(None, "alembic_version")

HOSTILE = ("idle_in_transaction_session_timeout = '1s'", "statement_timeout = '3s'", "lock_timeout = '1s'")

CONCURRENTLY = """\
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY big_n ON big (n)")
    op.execute("REINDEX INDEX CONCURRENTLY big_n")
    op.execute("ALTER TABLE parted DETACH PARTITION part CONCURRENTLY")
    op.execute("DROP INDEX CONCURRENTLY big_n")
    op.execute("VACUUM big")
"""


def test_the_key_is_pinned_since_two_versions_of_gate_must_exclude_each_other() -> None:
    assert LOCK_CLASS == 1734440037
    assert LockKey.of(None, "alembic_version").number == 3440906962
    assert LockKey.of("app", "alembic_version") != LockKey.of(None, "alembic_version")


def test_concurrent_index_builds_finish_while_twenty_replicas_wait(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.execute("CREATE TABLE big AS SELECT generate_series(1, 20000) AS n")
    database.execute("CREATE TABLE parted (k int) PARTITION BY LIST (k)")
    database.execute("CREATE TABLE part PARTITION OF parted FOR VALUES IN (1)")
    for setting in HOSTILE[:1]:
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    database.stamp("a3")
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(3)")\n' + CONCURRENTLY)
    replicas = [gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_POLL_MAX="1") for _ in range(21)]
    ended = [replica.wait(120) for replica in replicas]
    assert [e.code for e in ended] == [0] * 21
    assert sum("gate.migrating" in e.names() for e in ended) == 1
    assert database.stamped() == {"a4"}


def test_keeping_the_lock_never_holds_an_index_build_up(database: TestDatabase) -> None:
    database.execute("CREATE TABLE big AS SELECT generate_series(1, 100) AS n")
    place = Database(UrlSource("DATABASE_URL", database.url), None, 5, 5)
    over = threading.Event()

    def verify(lock: Lock) -> None:
        while not over.is_set():
            lock.publish_progress(Migrator("web-1", 1, 3, "a1", 1))
            lock.verify()

    with acquire(place, KEY) as lock, psycopg.connect(database.url, autocommit=True) as building:
        keeper = threading.Thread(target=verify, args=(lock,))
        keeper.start()
        try:
            building.execute("SET statement_timeout = '20s'")
            for _ in range(20):
                building.execute("CREATE INDEX CONCURRENTLY big_n ON big (n)")
                building.execute("DROP INDEX CONCURRENTLY big_n")
        finally:
            over.set()
            keeper.join()


def test_five_migrators_race_and_one_migrates(gate: GateRunner, database: TestDatabase) -> None:
    ended = [r.wait() for r in [gate.start("migrate") for _ in range(5)]]
    assert [e.code for e in ended] == [0] * 5
    assert sum("gate.migrating" in e.names() for e in ended) == 1
    assert database.stamped() == {"a3"}


@pytest.mark.parametrize("setting", HOSTILE)
def test_the_lock_outlives_timeouts_that_the_database_sets_by_default(
    gate: GateRunner, project: Project, database: TestDatabase, setting: str
) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    project.add("a4", "a3", 'op.execute("SET statement_timeout = 0")\nop.execute("SELECT pg_sleep(4)")')
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a4"}


def test_a_lost_lock_stops_the_migration(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    database.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
    )
    ended = migrating.wait()
    assert ended.code == 69
    message = ended.event("gate.failed")["message"]
    assert "lock was lost" in message
    assert "a4" in message
    await_true(lambda: sleeping(database) == 0, lambda: "the migration's statement still runs")


def test_lock_timeout_names_the_holder_and_how_to_end_it(gate: GateRunner, database: TestDatabase) -> None:
    with psycopg.connect(database.url) as holder:
        name = f"{KEY.tag} 2/3 a2 @1764000000 web-1"
        pid = holder.execute(f"SELECT set_config('application_name', '{name}', false), pg_backend_pid()").fetchone()
        holder.execute(f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {KEY.signed})")
        ended = gate("migrate", GATE_MIGRATION_LOCK_TIMEOUT="1")
    assert ended.code == 75
    message = ended.event("gate.failed")["message"]
    assert pid
    assert "web-1 at revision a2 (2/3)" in message
    assert f"pg_terminate_backend({pid[1]})" in message


def test_nobody_queues_for_the_lock_when_nothing_is_pending(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    with psycopg.connect(database.url) as holder:
        holder.execute(f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {KEY.signed})")
        ended = gate("migrate")
    assert ended.code == 0
    assert "gate.migrating" not in ended.names()


def test_waiters_hold_no_connection_between_looks(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")
    waiting = gate.start("wait")
    waiting.await_event("gate.waiting")
    await_true(lambda: connections(database) == 0, lambda: "a waiter keeps its connection")


def connections(database: TestDatabase) -> int:
    found = database.server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}'")
    assert isinstance(found[0][0], int)
    return found[0][0]


def sleeping(database: TestDatabase) -> int:
    found = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    )
    assert isinstance(found[0][0], int)
    return found[0][0]


def test_a_question_goes_another_way_when_the_connection_for_it_was_lost(database: TestDatabase) -> None:
    place = Database(UrlSource("DATABASE_URL", database.url), None, 5, 5)
    with acquire(place, KEY) as lock:
        lock.publish_progress(Migrator("web-1", 1, 3, "a1", 1))  # names the lock's own connection, so that it is spared
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{database.name}' AND application_name = 'gate' AND pid <> pg_backend_pid()"
        )
        with psycopg.connect(database.url, application_name=lock.tag) as ours:
            assert lock.sessions.own(()) == [ours.info.backend_pid]
        lock.verify()


def test_a_migrator_that_has_released_the_lock_terminates_no_session_of_the_next_one(database: TestDatabase) -> None:
    place = Database(UrlSource("DATABASE_URL", database.url), None, 5, 5)
    with psycopg.connect(database.url, application_name=f"{KEY.working_name} next", autocommit=True) as others:
        pid = others.info.backend_pid
        with acquire(place, KEY) as lock:
            assert lock.sessions.orphaned() == [pid]
        assert lock.sessions.orphaned() == []
        lock.sessions.cancel([pid])
        lock.sessions.terminate([pid])
        assert others.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def postgres_18() -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(version=18, options=("transaction_timeout=2s", "idle_session_timeout=2s")).start()
    yield server
    server.remove()


def test_five_race_on_postgresql_18_with_every_timeout_set_against_them(
    gate: GateRunner, project: Project, postgres_18: EmbeddedPostgres
) -> None:
    gate.url = postgres_18.url("postgres")
    project.add("a4", "a3", 'op.execute("SET transaction_timeout = 0")\nop.execute("SELECT pg_sleep(3)")')
    environment = (project.folder / "migrations" / "env.py").read_text()
    mild = "    connection.exec_driver_sql('SET transaction_timeout = 0')\n    connection.commit()\n"
    quiet = environment.replace("    context.configure", f"{mild}    context.configure")
    (project.folder / "migrations" / "env.py").write_text(quiet)
    ended = [r.wait() for r in [gate.start("migrate") for _ in range(5)]]
    assert [e.code for e in ended] == [0] * 5, "\n".join(e.err for e in ended)
    assert sum("gate.migrating" in e.names() for e in ended) == 1
    assert postgres_18.execute("SELECT version_num FROM alembic_version") == [("a4",)]
