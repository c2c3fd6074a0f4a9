"""Through PgBouncer: mutual exclusion holds, or gate refuses and names MIGRATION_DATABASE_URL (hazards.md 7)."""

from __future__ import annotations

import pytest

from gate.database.lock import LOCK_CLASS
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.pooler import PoolerFactory
from tests.support.programs import await_true
from tests.support.projects import Project

MODES = ("session", "transaction", "statement")


@pytest.mark.parametrize("mode", MODES)
def test_checking_and_waiting_work_through_every_mode(
    gate: GateRunner, database: TestDatabase, pooler: PoolerFactory, mode: str
) -> None:
    gate.url = pooler(mode).url(database.name)
    database.stamp("a1")
    assert gate("check").code == 1
    waiting = gate.start("run", "--", *SERVER)
    waiting.await_event("gate.waiting")
    database.stamp("a3")
    assert waiting.wait().out == "server started\n"


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_five_migrators_through_a_pooler_and_one_migrates(
    gate: GateRunner, project: Project, database: TestDatabase, pooler: PoolerFactory, mode: str
) -> None:
    gate.url = pooler(mode).url(database.name)
    database.execute("CREATE TABLE big AS SELECT 1 AS n")
    block = 'op.execute("CREATE INDEX CONCURRENTLY big_n ON big (n)")'
    project.add("a4", "a3", f"with op.get_context().autocommit_block():\n    {block}")
    ended = [r.wait() for r in [gate.start("migrate") for _ in range(5)]]
    assert [e.code for e in ended] == [0] * 5, "\n".join(e.err for e in ended)
    assert sum("gate.migrating" in e.names() for e in ended) == 1
    assert database.stamped() == {"a4"}


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_no_lock_is_left_stranded_in_a_pooled_connection(
    gate: GateRunner, project: Project, database: TestDatabase, pooler: PoolerFactory, mode: str
) -> None:
    gate.url = pooler(mode).url(database.name)
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(120)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    migrating.process.kill()
    locks = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
    await_true(lambda: database.execute(locks) == [(0,)], lambda: "the lock is stranded")
    project.add("a4", "a3")
    assert gate("migrate").code == 0
    assert database.execute(locks) == [(0,)]


def test_statement_mode_is_refused_for_migrating(
    gate: GateRunner, database: TestDatabase, pooler: PoolerFactory
) -> None:
    gate.url = pooler("statement").url(database.name)
    ended = gate("migrate")
    assert ended.code == 78
    assert "MIGRATION_DATABASE_URL" in ended.event("gate.failed")["message"]
    assert database.tables() == set()


def test_a_pool_of_one_is_refused_for_migrating(
    gate: GateRunner, database: TestDatabase, pooler: PoolerFactory
) -> None:
    gate.url = pooler("transaction", size=1).url(database.name)
    ended = gate("migrate", GATE_CONNECT_TIMEOUT="2", GATE_QUERY_TIMEOUT="1")
    assert ended.code == 78
    assert "MIGRATION_DATABASE_URL" in ended.event("gate.failed")["message"]
    assert database.tables() == set()


def test_a_direct_url_for_migrating_and_a_pooled_one_for_the_rest(
    gate: GateRunner, database: TestDatabase, pooler: PoolerFactory
) -> None:
    gate.url = pooler("statement").url(database.name)
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", MIGRATION_DATABASE_URL=database.url)
    assert (ended.code, ended.out) == (0, "server started\n")
    assert database.stamped() == {"a3"}
