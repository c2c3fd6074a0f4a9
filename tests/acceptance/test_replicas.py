"""Five replicas that may all migrate: one does, five pass, nothing is applied twice."""

from __future__ import annotations

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import Project

SLOW = 'op.execute("SELECT pg_sleep(0.5)")\n'
"""Long enough for the others to come while it runs."""

WATCHED = """\
with op.get_context().autocommit_block():
    op.execute("INSERT INTO watch.applied VALUES ('{revision}')")
op.execute("CREATE TABLE t_{revision} (id int)")"""
"""Outside of the migration's transaction, so that even an application that was rolled back leaves its row."""


@pytest.mark.parametrize("stamped", [None, "a1"], ids=["an empty database", "a database that is behind"])
def test_of_five_replicas_one_migrates_and_five_start_and_nothing_is_applied_twice(
    gate: GateRunner, project: Project, database: TestDatabase, stamped: str | None
) -> None:
    down = None
    for revision in ("a1", "a2", "a3"):
        project.add(revision, down, SLOW + WATCHED.format(revision=revision))
        down = revision
    database.execute("CREATE SCHEMA watch")
    database.execute("CREATE TABLE watch.applied (revision text)")
    if stamped:
        database.stamp(stamped)
    replicas = [gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1") for _ in range(5)]
    ended = [replica.wait() for replica in replicas]
    assert [(e.code, e.out) for e in ended] == [(0, "server started\n")] * 5
    assert sum(e.names().count("gate.migrating") for e in ended) == 1
    waits = [event["message"] for e in ended for event in e.events if event["event"] == "gate.waiting_for_lock"]
    assert waits
    assert [message for message in waits if "Nobody" in message] == []
    pending = [(r,) for r in ("a1", "a2", "a3") if r != stamped]
    assert database.execute("SELECT revision FROM watch.applied ORDER BY revision") == pending
    assert database.stamped() == {"a3"}


def test_the_next_replica_finishes_what_an_interrupted_one_left(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", "op.execute(\"SELECT pg_sleep(current_setting('test.sleep')::float)\")")
    database.execute(f"ALTER DATABASE {database.name} SET test.sleep = 60")
    first = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    first.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    second = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    line = second.await_event("gate.waiting_for_lock")
    assert line["migrating"]["revision"] == "a4"
    database.execute(f"ALTER DATABASE {database.name} SET test.sleep = 0")
    first.process.terminate()
    assert first.wait().code == 143
    ended = second.wait()
    assert (ended.code, ended.out) == (0, "server started\n")
    assert "gate.migration_unfinished" in ended.names()
    assert database.stamped() == {"a4"}
