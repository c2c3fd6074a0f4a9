"""A database that lacks what the code needs: each decision about INCOMPLETE and AHEAD, and each place that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine

import gate as api
from demo.embedded_postgres import free_port
from gate.errors import BadSettings
from gate.image.expectations import ExpectedTable
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.needs import record
from tests.support.programs import await_true
from tests.support.projects import Project, make_project

STARTED = "server started\n"
STOCK = ExpectedTable(None, "items", ("id", "stock"))
LACKING = "CREATE TABLE items (id serial PRIMARY KEY)"
COMPLETE = "CREATE TABLE items (id serial PRIMARY KEY, stock int)"
MIGRATION = 'op.execute("ALTER TABLE items ADD stock int")'


@pytest.fixture(autouse=True)
def _recorded(project: Project) -> None:
    record(project.folder, STOCK)


@pytest.fixture
def stamped(database: TestDatabase) -> TestDatabase:
    """The incident with a stamp: at head, and a column is not there."""
    database.stamp("a3")
    database.execute(LACKING)
    return database


def test_check_names_what_is_missing(gate: GateRunner, stamped: TestDatabase) -> None:
    ended = gate("check")
    lines = ended.out.splitlines()
    assert (ended.code, lines[0]) == (1, "INCOMPLETE drift: db=a3 expected=a3 missing=items.stock")
    assert "The database lacks what the code of this image needs: column items.stock." in lines[1]
    assert "Write a migration" in ended.out
    found = json.loads(gate("check", "--json").out)
    assert (found["verdict"], found["missing_total"]) == ("INCOMPLETE", 1)
    assert found["missing"] == [{"kind": "column", "schema": None, "table": "items", "column": "stock"}]
    stamped.execute("ALTER TABLE items ADD stock int")
    assert gate("check").out.startswith("CURRENT drift: db=a3 expected=a3\n")


def test_without_a_recording_only_the_stamp_counts(gate: GateRunner, stamped: TestDatabase) -> None:
    assert gate("check", GATE_EXPECTED="off").out.startswith("CURRENT ")


def test_an_incomplete_database_waits_loudly_and_heals(gate: GateRunner, stamped: TestDatabase, tmp_path: Path) -> None:
    termination = tmp_path / "termination"
    waiting = gate.start("run", "--", *SERVER, GATE_TERMINATION_LOG=str(termination))
    line = waiting.await_event("gate.waiting")
    assert (line["verdict"], line["level"], line["missing"]) == ("INCOMPLETE", "critical", ["items.stock"])
    assert line["drift"].endswith(" missing=items.stock")
    assert "GATE_ON_INCOMPLETE=go" in line["message"]
    assert termination.read_text().startswith("INCOMPLETE drift: db=a3 expected=a3 missing=items.stock.")
    stamped.execute("ALTER TABLE items ADD stock int")
    assert waiting.wait().out == STARTED
    assert termination.read_text() == ""


@pytest.mark.parametrize("command", [("wait",), ("run", "--", *SERVER)])
def test_an_incomplete_database_goes_where_asked(
    gate: GateRunner, stamped: TestDatabase, command: tuple[str, ...]
) -> None:
    assert stamped.stamped() == {"a3"}
    ended = gate(*command, GATE_ON_INCOMPLETE="go")
    assert ended.code == 0
    event = ended.event("gate.incomplete")
    assert event["level"] == "critical"
    assert "missing=items.stock" in event["message"]


@pytest.mark.parametrize("migrating", ["", "1"])
def test_an_incomplete_database_is_refused_where_asked(gate: GateRunner, stamped: TestDatabase, migrating: str) -> None:
    assert stamped.stamped() == {"a3"}
    ended = gate("run", "--", *SERVER, GATE_ON_INCOMPLETE="refuse", RUN_MIGRATIONS=migrating)
    assert (ended.code, ended.out) == (76, "")
    assert "GATE_ON_INCOMPLETE=refuse" in ended.failure
    assert "column items.stock" in ended.failure


def test_stay_mode_waits_where_it_would_refuse(gate: GateRunner, stamped: TestDatabase) -> None:
    waiting = gate.start("run", "--", *SERVER, GATE_ON_INCOMPLETE="refuse", GATE_ON_FAILURE="stay")
    waiting.await_event("gate.staying")
    assert waiting.await_event("gate.waiting")["verdict"] == "INCOMPLETE"
    stamped.execute("ALTER TABLE items ADD stock int")
    assert waiting.wait().out == STARTED


@pytest.mark.parametrize("wish", ["go", "wait", "refuse"])
def test_a_migration_that_ends_incomplete_is_refused_and_applied(
    gate: GateRunner, database: TestDatabase, wish: str
) -> None:
    database.execute(LACKING)
    ended = gate("migrate", GATE_ON_INCOMPLETE=wish)
    assert ended.code == 76
    assert "missing=items.stock" in ended.failure
    assert "Nothing migrated" not in ended.failure
    assert database.stamped() == {"a3"}
    assert "gate.migrated" in ended.names()
    again = gate("migrate")
    assert (again.code, "gate.migrated" in again.names()) == (76, False)
    assert gate("plan").code == 76


def test_a_run_that_migrates_follows_the_setting_afterwards(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2")
    database.execute(LACKING)
    waiting = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    waiting.await_event("gate.migrated")
    line = waiting.await_event("gate.waiting", lambda event: event["verdict"] == "INCOMPLETE")
    assert line["drift"] == "drift: db=a3 expected=a3 missing=items.stock"
    database.execute("ALTER TABLE items ADD stock int")
    assert waiting.wait().out == STARTED


def test_a_database_that_is_behind_names_the_consequence(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2")
    database.execute(LACKING)
    ended = gate("check")
    assert (ended.code, ended.out.splitlines()[0]) == (1, "BEHIND drift: db=a2 expected=a3 missing=items.stock")
    assert "of this image. The database lacks what the code of this image needs: column items.stock." in ended.out


def test_an_unstamped_database_is_incomplete_and_still_upgraded(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", f'op.execute("CREATE TABLE items (id int)"); {MIGRATION}')
    record(project.folder, STOCK, heads=("a4",))
    database_url = gate.url
    with create_engine(database_url.replace("postgresql:", "postgresql+psycopg:")).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE others (id int)")
    assert gate("check").out.startswith("INCOMPLETE drift: db=none expected=a4 missing=items\n")
    waiting = gate.start("wait", GATE_ON_UNSTAMPED="go")
    assert waiting.await_event("gate.waiting")["verdict"] == "INCOMPLETE"
    refused = gate("migrate", GATE_ON_UNSTAMPED="refuse")
    assert refused.code == 76
    assert gate("migrate").code == 0
    assert waiting.wait().code == 0
    assert gate("check").out.startswith("CURRENT ")


@pytest.mark.parametrize("migrating", ["", "1"])
def test_a_newer_schema_that_the_code_can_work_with_lets_the_server_start_quietly(
    gate: GateRunner, database: TestDatabase, migrating: str
) -> None:
    database.stamp("zz99")
    database.execute(COMPLETE)
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS=migrating)
    assert (ended.code, ended.out) == (0, STARTED)
    assert {event["level"] for event in ended.events} == {"info"}
    assert "Nothing migrated" in ended.event("gate.ahead")["message"]
    checked = gate("check")
    assert (checked.code, checked.out.splitlines()[0]) == (0, "AHEAD drift: db=zz99 expected=a3")


def test_the_stricter_setting_wins_over_ahead_and_incomplete(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("zz99")
    database.execute(LACKING)
    refused = gate("run", "--", *SERVER, GATE_ON_INCOMPLETE="go", GATE_ON_UNKNOWN="refuse")
    assert (refused.code, "GATE_ON_UNKNOWN=refuse" in refused.failure) == (76, True)
    assert gate("wait", GATE_ON_INCOMPLETE="go", GATE_ON_UNKNOWN="wait", GATE_TIMEOUT="1").code == 124
    assert gate("wait", GATE_ON_UNKNOWN="go", GATE_TIMEOUT="1").code == 124
    assert gate("wait", GATE_ON_INCOMPLETE="go").code == 0
    database.execute("ALTER TABLE items ADD stock int")
    assert gate("wait", GATE_ON_UNKNOWN="refuse").code == 76
    assert gate("wait", GATE_ON_UNKNOWN="wait", GATE_TIMEOUT="1").code == 124


def test_rights_count_for_the_role_of_the_server_only(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    database.execute(COMPLETE)
    server = database.create_role("secret", "GRANT SELECT ON alembic_version TO {role}")
    role = server.split("//")[1].split(":", maxsplit=1)[0]
    checked = gate("check", DATABASE_URL=server)
    assert checked.out.startswith("INCOMPLETE drift: db=a3 expected=a3 missing=items(SELECT)\n")
    assert f"GRANT SELECT ON items TO {role}." in checked.out
    assert gate("migrate", DATABASE_URL=server, MIGRATION_DATABASE_URL=database.url).code == 76
    assert gate("migrate", DATABASE_URL=database.url, MIGRATION_DATABASE_URL=server).code == 0
    waiting = gate.start(
        "run", "--", *SERVER, DATABASE_URL=server, MIGRATION_DATABASE_URL=database.url, RUN_MIGRATIONS="1"
    )
    assert "GRANT SELECT" in waiting.await_event("gate.waiting")["message"]
    database.execute(f"GRANT SELECT ON items TO {role}")
    assert waiting.wait().out == STARTED


def test_columns_count_through_both_urls(
    gate: GateRunner, stamped: TestDatabase, another_database: TestDatabase
) -> None:
    another_database.stamp("a3")
    another_database.execute(COMPLETE)
    assert gate("migrate", MIGRATION_DATABASE_URL=another_database.url).code == 76
    assert gate("migrate", MIGRATION_DATABASE_URL=stamped.url, DATABASE_URL=another_database.url).code == 76
    stamped.execute("ALTER TABLE items ADD stock int")
    assert gate("migrate", MIGRATION_DATABASE_URL=another_database.url).code == 0


def test_a_required_column_of_a_newer_schema_stops_an_older_image(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("zz99")
    database.execute("CREATE TABLE items (id serial PRIMARY KEY, stock int, sku text NOT NULL)")
    checked = gate("check")
    assert (checked.code, checked.out.splitlines()[0]) == (
        1,
        "INCOMPLETE drift: db=zz99 expected=a3 missing=items.sku(NOT NULL)",
    )
    assert "Every INSERT of this image into items fails" in checked.out


def test_the_placeholder_and_the_sidecar_show_what_is_missing(gate: GateRunner, stamped: TestDatabase) -> None:
    port, listen = free_port(), free_port()
    waiting = gate.start("wait", GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    waiting.await_event("gate.waiting")
    found = httpx.get(f"http://127.0.0.1:{port}/health/ready")
    assert (found.status_code, found.json()["missing"]) == (503, ["items.stock"])
    sidecar = gate.start("serve", "--listen", f"127.0.0.1:{listen}", GATE_TTL="0")
    sidecar.await_event("gate.serving")
    answer = httpx.get(f"http://127.0.0.1:{listen}/health/ready")
    assert (answer.status_code, answer.json()["verdict"]) == (503, "INCOMPLETE")
    metrics = httpx.get(f"http://127.0.0.1:{listen}/metrics").text
    assert "gate_missing_items 1.0" in metrics
    assert 'gate_schema_verdict{verdict="INCOMPLETE"} 1.0' in metrics
    stamped.stamp("zz99")
    answer = httpx.get(f"http://127.0.0.1:{listen}/health/ready")
    assert (answer.status_code, answer.json()["detail"]) == (200, "drift: db=zz99 expected=a3 missing=items.stock")
    changed = sidecar.await_event("gate.answer_changed", lambda event: event["status"] == 200)
    assert changed["level"] == "critical"
    assert [line for line in sidecar.err if not line.startswith("{")] == []


def test_an_application_takes_its_models(database: TestDatabase, tmp_path: Path) -> None:
    project = make_project(tmp_path / "application").chain("a1", "a2", "a3")
    config = str(project.folder / "alembic.ini")
    metadata = MetaData()
    Table("items", metadata, Column("id", Integer, primary_key=True), Column("stock", Integer))
    Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Text), info={"gate": "ignore"})
    database.stamp("a3")
    database.execute(LACKING)
    engine = create_engine(database.url.replace("postgresql:", "postgresql+psycopg:"))
    for source in (engine, database.url):
        found = api.drift_of(source, config=config, models=metadata)
        assert (found.verdict, [str(item) for item in found.missing]) == ("INCOMPLETE", ["items.stock"])
        assert not api.fits(source, config=config, models=[metadata])
        assert api.drift_of(source, config=config).verdict == "CURRENT"
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE items ADD stock int")
        assert api.fits(connection, config=config, models=metadata)
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    with pytest.raises(BadSettings, match="`models` must be a MetaData"):
        api.drift_of(engine, config=config, models=Table)
    engine.dispose()


def test_many_missing_items_are_counted(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    record(project.folder, *(ExpectedTable(None, f"t{n:03}", ("id",)) for n in range(300)))
    database.stamp("a3")
    first = gate("check").out.splitlines()[0]
    assert first.endswith(",t009 and 290 more")
    found = json.loads(gate("check", "--json").out)
    assert (len(found["missing"]), found["missing_total"]) == (200, 300)


def test_a_name_from_the_recording_cannot_forge_a_line(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    name = "a b\u3000; DROP TABLE alembic_version --"
    record(project.folder, ExpectedTable(None, name, ("id",)))
    database.stamp("a3")
    checked = gate("check")
    assert checked.code == 1
    assert all(line.isprintable() for line in checked.out.splitlines())
    assert database.stamped() == {"a3"}


def test_the_log_says_once_what_is_missing_where_the_answer_stays_200(
    database: TestDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from gate.wsgi import Ready

    project = make_project(tmp_path / "application").chain("a1", "a2", "a3")
    metadata = MetaData()
    Table("items", metadata, Column("id", Integer, primary_key=True), Column("stock", Integer))
    database.stamp("zz99")
    database.execute(COMPLETE)
    ready = Ready(database.url, config=str(project.folder / "alembic.ini"), models=metadata, ttl=0)
    ready.startup()
    assert caplog.records == [] or {record.levelname for record in caplog.records} == {"INFO"}

    def status() -> str:
        answers: list[str] = []
        list(ready({"REQUEST_METHOD": "GET"}, lambda line, _: answers.append(line)))
        return answers[0]

    assert status() == "200 OK"
    database.execute("ALTER TABLE items DROP COLUMN stock")

    def critical() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]

    await_true(lambda: status() == "200 OK" and len(critical()) > 0, lambda: str(caplog.records))
    assert status() == "200 OK"
    assert len(critical()) == 1
    assert "missing=items.stock" in critical()[0]
    database.stamp("a3")
    await_true(lambda: status().startswith("503"), lambda: "it is still ready")
