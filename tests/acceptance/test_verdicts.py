"""Each verdict of the decision table on a real database: what `check`, `wait`, `run` and `migrate` make of it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import Project, make_project

STARTED = "server started\n"
MIGRATING = (("migrate",), ("run", "--", *SERVER))


def test_tables_without_a_version_table_let_the_server_start_quietly(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE things (id int)")
    ended = gate("run", "--", *SERVER)
    assert (ended.code, ended.out) == (0, STARTED)
    assert ended.event("gate.unstamped")["level"] == "info"
    assert {event["level"] for event in ended.events} == {"info"}


def test_tables_without_a_version_table_are_no_drift_for_check(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE things (id int)")
    ended = gate("check")
    assert ended.code == 0
    assert ended.out.startswith("UNSTAMPED drift: db=none expected=a3\n")


def test_unstamped_waits_where_asked_until_somebody_stamps(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE things (id int)")
    waiting = gate.start("run", "--", *SERVER, GATE_ON_UNSTAMPED="wait")
    line = waiting.await_event("gate.waiting")
    assert (line["verdict"], line["level"]) == ("UNSTAMPED", "critical")
    assert "alembic stamp" in line["message"]
    database.stamp("a3")
    assert waiting.wait().out == STARTED


@pytest.mark.parametrize("command", [("wait",), *MIGRATING])
def test_unstamped_is_refused_where_asked(gate: GateRunner, database: TestDatabase, command: tuple[str, ...]) -> None:
    database.execute("CREATE TABLE things (id int)")
    ended = gate(*command, GATE_ON_UNSTAMPED="refuse", RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (76, "")
    assert "GATE_ON_UNSTAMPED=refuse" in ended.failure
    assert database.tables() == {"things"}


@pytest.mark.parametrize("wish", ["go", "wait"])
def test_unstamped_is_upgraded_when_migrating(gate: GateRunner, database: TestDatabase, wish: str) -> None:
    database.execute("CREATE TABLE things (id int)")
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_ON_UNSTAMPED=wish)
    assert (ended.code, ended.out) == (0, STARTED)
    assert database.tables() == {"things", "t_a1", "t_a2", "t_a3", "alembic_version"}
    assert database.stamped() == {"a3"}


def test_an_upgrade_onto_tables_of_create_all_names_stamp_as_the_remedy(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE TABLE t_a1 (id int)")
    ended = gate("migrate")
    assert ended.code == 65
    assert "a1" in ended.failure
    assert "alembic stamp" in ended.failure
    assert database.tables() == {"t_a1"}


def test_an_empty_database_waits_loudly(gate: GateRunner) -> None:
    line = gate.start("wait").await_event("gate.waiting")
    assert (line["verdict"], line["level"], line["pending"]) == ("EMPTY", "critical", 3)
    assert line["drift"] == "drift: db=none expected=a3"


def test_an_empty_database_is_drift_for_check_and_has_all_revisions_after_migrate(
    gate: GateRunner, database: TestDatabase
) -> None:
    before = gate("check")
    assert (before.code, before.out.splitlines()[0]) == (1, "EMPTY drift: db=none expected=a3")
    assert gate("migrate").code == 0
    assert database.stamped() == {"a3"}
    after = gate("check")
    assert (after.code, after.out.splitlines()[0]) == (0, "CURRENT drift: db=a3 expected=a3")


def test_what_belongs_to_extensions_leaves_a_database_empty(gate: GateRunner, database: TestDatabase) -> None:
    # The wheel ships no extension with a table of its own, so a table is made a member of plpgsql.
    database.execute("CREATE TABLE its_own (id int)")
    database.execute("ALTER EXTENSION plpgsql ADD TABLE its_own")
    assert gate("check").out.startswith("EMPTY ")


def test_a_version_table_without_rows_is_behind_by_everything(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp()
    before = gate("check", "--json")
    found = json.loads(before.out)
    assert before.code == 1
    assert (found["verdict"], found["pending"]) == ("BEHIND", ["a1", "a2", "a3"])
    assert gate("migrate").code == 0
    assert database.stamped() == {"a3"}


@pytest.mark.parametrize("migrating", ["", "1"])
def test_an_unknown_revision_lets_the_server_start_loudly_and_migrates_nothing(
    gate: GateRunner, database: TestDatabase, migrating: str
) -> None:
    database.stamp("zz99")
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS=migrating)
    line = ended.event("gate.unknown")
    assert (ended.code, ended.out) == (0, STARTED)
    assert line["level"] == "critical"
    assert "drift: db=zz99 expected=a3" in line["message"]
    assert "Nothing migrated" in line["message"]
    assert "(table public.alembic_version)" in line["message"]
    assert database.stamped() == {"zz99"}


def test_an_unknown_revision_is_no_drift_for_check(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("zz99")
    ended = gate("check")
    assert ended.code == 0
    assert ended.out.startswith("UNKNOWN drift: db=zz99 expected=a3\n")


@pytest.mark.parametrize("post_deploy", [False, True])
def test_beside_an_unknown_revision_nothing_is_said_to_be_pending(
    gate: GateRunner, project: Project, database: TestDatabase, *, post_deploy: bool
) -> None:
    if post_deploy:
        path = project.add("a4", "a3")
        path.write_text(f"{path.read_text()}\npost_deploy = True\n")
    database.stamp("zz99")
    found = json.loads(gate("check", "--json").out)
    assert (found["verdict"], found["unknown"]) == ("UNKNOWN", ["zz99"])
    assert (found["pending"], found["deferred"], found["messages"]) == ([], [], {})
    plan = json.loads(gate("plan", "--json").out)
    assert (plan["revisions"], plan["deferred"]) == ([], [])
    port = free_port()
    waiting = gate.start("run", "--", *SERVER, GATE_ON_UNKNOWN="wait", GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    event = waiting.await_event("gate.waiting")
    assert (event["pending"], event.get("next_revisions"), event.get("deferred")) == (0, None, None)
    answers = [httpx.get(f"http://127.0.0.1:{port}/health/ready").json()]
    serving = gate.start("serve", "--listen", f"127.0.0.1:{(other := free_port())}")
    serving.await_event("gate.serving")
    answers.append(httpx.get(f"http://127.0.0.1:{other}/health/ready").json())
    assert [(a["verdict"], a["pending"], a["deferred"]) for a in answers] == [("UNKNOWN", 0, 0)] * 2
    metrics = httpx.get(f"http://127.0.0.1:{other}/metrics").text
    assert "gate_pending_revisions 0.0" in metrics
    assert "gate_deferred_revisions 0.0" in metrics


@pytest.mark.parametrize("migrating", ["", "1"])
def test_an_unknown_revision_waits_where_asked(gate: GateRunner, database: TestDatabase, migrating: str) -> None:
    database.stamp("zz99")
    waiting = gate.start("run", "--", *SERVER, GATE_ON_UNKNOWN="wait", RUN_MIGRATIONS=migrating)
    assert waiting.await_event("gate.waiting")["verdict"] == "UNKNOWN"
    database.stamp("a3")
    assert waiting.wait().out == STARTED


@pytest.mark.parametrize("command", [("wait",), *MIGRATING])
def test_an_unknown_revision_is_refused_where_asked(
    gate: GateRunner, database: TestDatabase, command: tuple[str, ...]
) -> None:
    database.stamp("zz99")
    ended = gate(*command, GATE_ON_UNKNOWN="refuse", RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (76, "")
    assert "zz99" in ended.failure
    assert database.stamped() == {"zz99"}


def test_diverged_is_drift_for_check(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1", "zz99")
    ended = gate("check")
    assert ended.code == 1
    assert ended.out.startswith("DIVERGED drift: db=a1,zz99 expected=a3\n")


def test_diverged_keeps_the_server_waiting(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1", "zz99")
    waiting = gate.start("run", "--", *SERVER)
    line = waiting.await_event("gate.waiting")
    assert (line["verdict"], line["level"]) == ("DIVERGED", "critical")
    database.stamp("a3")
    assert waiting.wait().out == STARTED


@pytest.mark.parametrize("command", MIGRATING)
def test_diverged_is_never_migrated(gate: GateRunner, database: TestDatabase, command: tuple[str, ...]) -> None:
    database.stamp("a1", "zz99")
    ended = gate(*command, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (76, "")
    assert "alembic merge" in ended.failure
    assert database.tables() == {"alembic_version"}


@pytest.mark.parametrize("stamp", [None, (), ("a3",)], ids=["empty", "no rows", "stamped"])
@pytest.mark.parametrize("command", [("check",), ("wait",), *MIGRATING])
def test_an_image_without_revisions_never_passes(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, command: tuple[str, ...], stamp: tuple[str, ...] | None
) -> None:
    gate.folder = make_project(tmp_path / "bare").folder
    if stamp is not None:
        database.stamp(*stamp)
    ended = gate(*command, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (78, "")
    assert "no revisions" in ended.err


def test_redundant_rows_are_current_with_a_warning(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2", "a3")
    ended = gate("run", "--", *SERVER)
    line = ended.event("gate.redundant_rows")
    assert ended.out == STARTED
    assert line["level"] == "warning"
    assert "a2" in line["message"]


def test_a_partial_id_means_its_revision_as_for_alembic(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("bbbb1234", "a3")
    database.stamp("bbbb")
    assert gate("check").code == 0


def test_heads_that_depend_on_each_other_pass_after_a_migration(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    # Alembic removes the depended-on head a3 from the table; comparing with get_heads() would then always fail.
    project.add("b1", None, depends_on="a3")
    project.add("c1", "a1")
    assert gate("migrate").code == 0
    assert database.stamped() == {"b1", "c1"}
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert ended.out == STARTED
    assert "gate.migrating" not in ended.names()
