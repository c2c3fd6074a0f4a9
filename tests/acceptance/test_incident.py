"""The incident for which gate exists, and the ways in which a migration heals it."""

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import Project


def test_new_image_on_an_old_schema_waits_loudly_and_starts_by_itself_once_migrated(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a1")
    waiting = gate.start("run", "--", *SERVER)
    line = waiting.await_event("gate.waiting")
    assert line["level"] == "critical"
    assert "drift: db=a1 expected=a3" in line["message"]
    assert line["pending"] == 2
    assert "Nobody is migrating" in line["message"]
    assert waiting.out == []
    database.stamp("a3")
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, "server started\n")


def test_a_server_that_waits_starts_when_another_gate_migrates(gate: GateRunner, database: TestDatabase) -> None:
    waiting = gate.start("run", "--", *SERVER)
    waiting.await_event("gate.waiting")
    assert gate("migrate").code == 0
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, "server started\n")
    assert "gate.migrating" not in ended.names()
    assert database.stamped() == {"a3"}


def test_run_migrations_upgrades_and_then_starts_the_server(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (0, "server started\n")
    assert database.stamped() == {"a3"}
    assert [e["progress"] for e in ended.events if e["event"] == "gate.revision_applied"] == ["1/3", "2/3", "3/3"]


def test_run_migrations_tells_each_applied_revision_with_its_message_and_seconds(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.stamp("a3")
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(0.3)")', message="add the price\n\nLong story.")
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="true")
    line = ended.event("gate.revision_applied")
    assert (line["progress"], line["revision"], line["revision_message"]) == ("1/1", "a4", "add the price")
    assert 0.3 <= line["seconds"] < 30


def test_pending_revisions_are_named_in_the_order_in_which_they_would_run(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a1")
    assert gate.start("wait").await_event("gate.waiting")["next_revisions"] == ["a2", "a3"]
    assert gate("check").out.splitlines()[2:4] == ["  a2  make a2", "  a3  make a3"]


def test_an_applied_migration_is_noticed_within_one_poll(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")
    waiting = gate.start("wait", GATE_POLL_MAX="0.3")
    waiting.await_event("gate.waiting")
    database.stamp("a3")
    assert waiting.wait(timeout=5).code == 0
