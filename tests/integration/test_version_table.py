"""Where the stamp is: schemas, search paths, rights and names, as a real PostgreSQL has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import SYNC_ENV, Project, make_project

ODD_TABLE = 'My "Versions".v2 x'
ODD_SCHEMA = "App Schema.eu"


def look(gate: GateRunner, **environment: str) -> dict[str, Any]:
    """What `gate check --json` says, with its exit code beside it."""
    ended = gate("check", "--json", **environment)
    return {"code": ended.code, **json.loads(ended.out)}


def role_of(url: str) -> str:
    return url.split("//")[1].split(":", maxsplit=1)[0]


def test_another_applications_tables_in_another_schema_leave_ours_empty(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE SCHEMA billing")
    database.execute("CREATE TABLE billing.invoices (id int)")
    assert look(gate)["verdict"] == "EMPTY"
    assert gate("migrate").code == 0
    assert look(gate)["verdict"] == "CURRENT"


def test_another_applications_tables_in_the_same_schema_are_unstamped(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE invoices (id int)")
    found = look(gate)
    assert (found["verdict"], found["schema"], found["code"]) == ("UNSTAMPED", "public", 0)


def test_views_and_sequences_are_no_tables(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE VIEW numbers AS SELECT 1 AS n")
    database.execute("CREATE SEQUENCE counter")
    assert look(gate)["verdict"] == "EMPTY"


def test_partitioned_tables_are_tables(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE parted (k int) PARTITION BY LIST (k)")
    assert look(gate)["verdict"] == "UNSTAMPED"


def test_with_a_schema_of_ones_own_only_its_tables_count(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE invoices (id int)")
    database.execute("CREATE SCHEMA app")
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="app")["verdict"] == "EMPTY"
    database.execute("CREATE TABLE app.things (id int)")
    found = look(gate, GATE_VERSION_TABLE_SCHEMA="app")
    assert (found["verdict"], found["schema"]) == ("UNSTAMPED", "app")


def test_another_applications_version_table_in_another_schema_is_never_taken_for_ours_nor_for_emptiness(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE SCHEMA billing")
    database.stamp("b7", table="billing.alembic_version")
    found = look(gate)
    assert (found["code"], found["verdict"]) == (69, None)
    assert "schema billing" in found["error"]
    assert "GATE_VERSION_TABLE_SCHEMA" in found["error"]
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="public")["verdict"] == "EMPTY"
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="billing")["verdict"] == "UNKNOWN"


def test_a_version_table_off_the_search_path_whose_rows_this_image_knows_is_named_with_its_setting(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp("a1", table="app.alembic_version")
    found = look(gate)
    assert (found["code"], found["verdict"]) == (78, None)
    assert "app.alembic_version holds a1" in found["error"]
    assert "GATE_VERSION_TABLE_SCHEMA=app" in found["error"]
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out, database.stamped("app.alembic_version")) == (78, "", {"a1"})
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="app")["verdict"] == "BEHIND"


@pytest.mark.parametrize("rights", ["superuser", "all rights"])
def test_a_role_that_lacks_no_right_is_asked_for_no_grant(
    gate: GateRunner, database: TestDatabase, rights: str
) -> None:
    database.execute("CREATE SCHEMA billing")
    database.stamp("b7", table="billing.alembic_version")
    url = database.create_role(
        "x", "GRANT USAGE ON SCHEMA billing TO {role}", "GRANT SELECT ON billing.alembic_version TO {role}"
    )
    found = look(gate) if rights == "superuser" else look(gate, DATABASE_URL=url)
    assert found["code"] == 69
    assert "set GATE_VERSION_TABLE_SCHEMA=billing" in found["error"]
    assert "GRANT" not in found["error"]


def test_a_role_that_lacks_one_right_is_asked_for_that_one(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE SCHEMA billing")
    database.stamp("a3", table="billing.alembic_version")
    url = database.create_role("x", "GRANT USAGE ON SCHEMA billing TO {role}")
    found = look(gate, DATABASE_URL=url)
    assert (found["code"], "GRANT USAGE" in found["error"]) == (69, False)
    assert f"GRANT SELECT ON billing.alembic_version TO {role_of(url)}" in found["error"]


def test_a_version_table_off_the_search_path_is_found_once_it_is_on_it(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp(table="app.alembic_version")
    waiting = gate.start("run", "--", *SERVER)
    line = waiting.await_event("gate.waiting")
    assert line["kind"] == "DatabaseUnavailable"
    assert "schema app" in line["message"]
    database.execute(f"ALTER DATABASE {database.name} SET search_path = app, public")
    database.stamp("a3", table="app.alembic_version")
    assert waiting.wait().out == "server started\n"


@pytest.mark.parametrize("path", ["app", '"$user", public'], ids=["on the search path", "off the search path"])
def test_a_version_table_that_this_role_may_not_see_names_schema_and_grant(
    gate: GateRunner, database: TestDatabase, path: str
) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp("a3", table="app.alembic_version")
    url = database.create_role("x", f"ALTER ROLE {{role}} SET search_path = {path}")
    found = look(gate, DATABASE_URL=url)
    assert (found["code"], found["verdict"]) == (69, None)
    assert f"GRANT USAGE ON SCHEMA app TO {role_of(url)}" in found["error"]


def test_the_grants_that_are_named_are_the_cure_one_after_the_other(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp("a3", table="app.alembic_version")
    url = database.create_role("x")
    role = role_of(url)
    told = {"DATABASE_URL": url, "GATE_VERSION_TABLE_SCHEMA": "app"}
    unseen = look(gate, **told)
    assert (unseen["code"], unseen["verdict"]) == (69, None)
    assert f"GRANT USAGE ON SCHEMA app TO {role}" in unseen["error"]
    database.execute(f"GRANT USAGE ON SCHEMA app TO {role}")
    unread = look(gate, **told)
    assert (unread["code"], unread["verdict"]) == (69, None)
    assert f"GRANT SELECT ON app.alembic_version TO {role}" in unread["error"]
    database.execute(f"GRANT SELECT ON app.alembic_version TO {role}")
    assert look(gate, **told)["verdict"] == "CURRENT"


def test_the_right_to_read_the_one_column_is_enough(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    url = database.create_role("x", "GRANT SELECT (version_num) ON alembic_version TO {role}")
    assert look(gate, DATABASE_URL=url)["verdict"] == "CURRENT"


def test_a_server_whose_role_may_not_read_the_stamp_waits_and_starts_once_it_may(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a3")
    url = database.create_role("x")
    waiting = gate.start("run", "--", *SERVER, DATABASE_URL=url)
    line = waiting.await_event("gate.waiting")
    assert line["level"] == "critical"
    assert "GRANT SELECT ON public.alembic_version" in line["message"]
    database.execute(f"GRANT SELECT ON alembic_version TO {role_of(url)}")
    assert waiting.wait().out == "server started\n"


@pytest.mark.parametrize("path", ["app", '"App, 2"', '"$user"'])
def test_a_schema_that_env_py_creates_is_waited_for_unless_gate_may_migrate(
    gate: GateRunner, database: TestDatabase, project: Project, path: str
) -> None:
    url = database.create_role(
        "x", f"GRANT CREATE ON DATABASE {database.name} TO {{role}}", f"ALTER ROLE {{role}} SET search_path = {path}"
    )
    schema = f'"{role_of(url)}"' if "user" in path else path
    env = project.folder / "migrations" / "env.py"
    create = f"    connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS {schema}')\n    connection.commit()\n"
    env.write_text(env.read_text().replace("    context.configure(", f"{create}    context.configure(", 1))
    found = look(gate, DATABASE_URL=url)
    assert (found["code"], found["verdict"]) == (69, None)
    assert "exists" in found["error"]
    ended = gate("run", "--", *SERVER, DATABASE_URL=url, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert database.stamped(f"{schema}.alembic_version") == {"a3"}


def test_a_schema_on_the_search_path_that_this_role_may_not_use_is_no_empty_database(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute('CREATE SCHEMA "App, 2"')
    url = database.create_role("x", 'ALTER ROLE {role} SET search_path = nowhere, "App, 2"')
    found = look(gate, DATABASE_URL=url)
    assert (found["code"], found["verdict"]) == (69, None)
    assert "GRANT USAGE ON SCHEMA" in found["error"]
    waiting = gate.start("migrate", DATABASE_URL=url)
    assert "GRANT USAGE ON SCHEMA" in waiting.await_event("gate.waiting")["message"]


def test_a_role_without_a_usable_schema_is_no_empty_database(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("x", "ALTER ROLE {role} SET search_path = nowhere")
    found = look(gate, DATABASE_URL=url)
    assert (found["code"], found["verdict"]) == (69, None)
    assert "search_path" in found["error"]


@pytest.mark.parametrize(
    "source",
    [
        'context.configure(connection=connection, version_table_schema="app")',
        'SCHEMA = "app"\n    context.configure(connection=connection, version_table_schema=SCHEMA)',
        'arguments = {"version_table_schema": "app"}\n    context.configure(connection=connection, **arguments)',
    ],
    ids=["keyword", "constant", "dict"],
)
def test_a_schema_that_stands_in_env_py_is_found_there(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, source: str
) -> None:
    environment = SYNC_ENV.format(driver="psycopg", options="")
    if source.startswith("SCHEMA"):  # where a project has it: at the top
        constant, _, source = source.partition("\n    ")
        environment = constant + environment
    environment = environment.replace("context.configure(connection=connection)", source)
    gate.folder = make_project(tmp_path / "app", environment=environment).chain("a1", "a2").folder
    database.execute("CREATE SCHEMA app")
    database.stamp("a1", table="app.alembic_version")
    database.execute("CREATE TABLE t_a1 (id int)")
    before = look(gate)
    assert (before["verdict"], before["schema"], before["stamped"]) == ("BEHIND", "app", ["a1"])
    assert gate("migrate").code == 0
    assert database.stamped("app.alembic_version") == {"a2"}
    assert look(gate)["verdict"] == "CURRENT"


def test_the_setting_wins_over_env_py(gate: GateRunner, database: TestDatabase, tmp_path: Path) -> None:
    gate.folder = make_project(tmp_path / "app", options=', version_table_schema="app"').chain("a1").folder
    for schema, revision in (("app", "zz99"), ("other", "a1")):
        database.execute(f"CREATE SCHEMA {schema}")
        database.stamp(revision, table=f"{schema}.alembic_version")
    assert look(gate)["stamped"] == ["zz99"]
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="other")["stamped"] == ["a1"]


def test_a_schema_that_does_not_exist_yet_is_empty(gate: GateRunner) -> None:
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="app")["verdict"] == "EMPTY"


def test_a_computed_name_must_be_told(gate: GateRunner, database: TestDatabase, tmp_path: Path) -> None:
    computed = make_project(tmp_path / "computed", options=', version_table="versions_" + os.environ["TENANT"]')
    gate.folder = computed.chain("a1").folder
    ended = gate("check", TENANT="eu")
    assert ended.code == 78
    assert "GATE_VERSION_TABLE" in ended.err
    database.stamp("a1", table="versions_eu")
    assert look(gate, TENANT="eu", GATE_VERSION_TABLE="versions_eu")["verdict"] == "CURRENT"


@pytest.mark.parametrize("by_setting", [True, False], ids=["by the setting", "from env.py"])
def test_names_with_capitals_spaces_quotes_and_dots_are_quoted(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, *, by_setting: bool
) -> None:
    options = f", version_table={ODD_TABLE!r}, version_table_schema={ODD_SCHEMA!r}"
    gate.folder = make_project(tmp_path / "odd", options=options).chain("a1", "a2").folder
    told = {"GATE_VERSION_TABLE": ODD_TABLE, "GATE_VERSION_TABLE_SCHEMA": ODD_SCHEMA} if by_setting else {}
    database.execute(f'CREATE SCHEMA "{ODD_SCHEMA}"')
    quoted = '"{}"."{}"'.format(ODD_SCHEMA, ODD_TABLE.replace('"', '""'))
    database.stamp("zz99", table=quoted)
    assert look(gate, **told)["stamped"] == ["zz99"]
    database.execute(f"DROP TABLE {quoted}")
    assert look(gate, **told)["verdict"] == "EMPTY"
    ended = gate("migrate", **told)
    assert ended.code == 0, ended.err
    assert database.stamped(quoted) == {"a2"}


@pytest.mark.parametrize("table", ['"Versions"', '"my versions"', '"a.b"', '"o\'clock"', '"back\\slash"', '"100%"'])
def test_an_odd_name_is_found_on_the_search_path(gate: GateRunner, database: TestDatabase, table: str) -> None:
    database.stamp("a3", table=table)
    assert look(gate, GATE_VERSION_TABLE=table.strip('"'))["verdict"] == "CURRENT"


def test_a_name_in_capitals_is_not_the_one_in_small_letters(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("zz99", table='"Versions"')
    found = look(gate, GATE_VERSION_TABLE="versions")
    assert found["code"] == 78
    assert "Set GATE_VERSION_TABLE=Versions and GATE_VERSION_TABLE_SCHEMA=public" in found["error"]


def test_a_name_made_for_injection_is_a_name(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("zz99")
    name = "x'); DROP TABLE alembic_version; --"
    assert look(gate, GATE_VERSION_TABLE=name)["verdict"] == "UNSTAMPED"
    assert database.tables() == {"alembic_version"}


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_may_stand_for_the_version_table(gate: GateRunner, database: TestDatabase, kind: str) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp("a3", table="app.alembic_version")
    database.execute(f"CREATE {kind} alembic_version AS SELECT version_num FROM app.alembic_version")
    found = look(gate)
    assert (found["verdict"], found["schema"]) == ("CURRENT", "public")


def test_a_table_without_the_column_is_not_alembics(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE alembic_version (version text)")
    found = look(gate)
    assert (found["code"], found["verdict"]) == (69, None)
    assert "public.alembic_version" in found["error"]
    assert "no column version_num" in found["error"]


def test_a_revision_that_would_forge_log_lines_is_shown_escaped(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE alembic_version (version_num text)")
    database.execute("INSERT INTO alembic_version VALUES (E'x\\nCURRENT \\x1b[2J')")
    ended = gate("check")
    assert ended.out.startswith("UNKNOWN drift: db=x\\nCURRENT \\x1b[2J expected=a3\n")


def test_a_foreign_table_with_a_million_rows_is_not_read_whole(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE alembic_version AS SELECT n::text AS version_num FROM generate_series(1, 200000) n")
    found = look(gate)
    assert found["verdict"] == "UNKNOWN"
    assert len(found["stamped"]) <= 1000


def test_two_version_tables_of_two_projects_in_one_database_do_not_meet(
    gate: GateRunner, database: TestDatabase, project: Project, tmp_path: Path
) -> None:
    assert gate("migrate").code == 0
    other = make_project(tmp_path / "other", options=', version_table="billing_version"').chain("b1", "b2")
    gate.folder = other.folder
    assert look(gate)["verdict"] == "UNSTAMPED"
    assert gate("migrate").code == 0
    assert database.stamped("billing_version") == {"b2"}
    gate.folder = project.folder
    assert look(gate)["verdict"] == "CURRENT"
