"""What gate does not see of the version table is never taken for Alembic's default, nor for a table without rows."""

from __future__ import annotations

import json
import py_compile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine

from gate import drift_of
from gate.database.postgresql import stamp
from gate.database.stamp import TableName
from gate.errors import GateError
from gate.image.env_py import VersionTable
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.pooler import PoolerFactory, pooler_factory
from tests.support.projects import SYNC_ENV, Project, make_project


def look(gate: GateRunner, **environment: str) -> dict[str, Any]:
    """What `gate check --json` says, with its exit code and what it wrote to standard error."""
    ended = gate("check", "--json", **environment)
    return {"code": ended.code, "err": ended.err, **json.loads(ended.out)}


def sqlalchemy_url(database: TestDatabase) -> str:
    return database.url.replace("://", "+psycopg://")


@pytest.fixture
def pooler(tmp_path: Path, database: TestDatabase) -> Iterator[PoolerFactory]:
    with pooler_factory(tmp_path, database.server) as start:
        yield start


def rewrite(gate: GateRunner, options: str, head: str = "", before: str = "") -> None:
    """Give env.py these arguments of `configure`, lines at its top, and lines before the call."""
    text = SYNC_ENV.format(driver="psycopg", options=options)
    text = text.replace("    context.configure(", f"{before}    context.configure(", 1)
    (gate.folder / "migrations" / "env.py").write_text(f"{head}\n{text}")


def reject(found: dict[str, Any], *parts: str, code: int = 78) -> None:
    """Assert that the check ended with this code, no verdict, and a message that contains these parts."""
    assert (found["code"], found["verdict"]) == (code, None), found
    missing = [part for part in parts if part not in found["error"]]
    assert missing == [], found["error"]


HIDING = {
    "options that come from elsewhere": (", **options", "from options import options", ""),
    "options from a call": (", **make_options()", "from options import make_options", ""),
    "options from a function's argument": (", **options", "def read(options): pass\nfrom options import *", ""),
    "options that a call fills": (", **options", "from options import fill\noptions = {}\nfill(options)", ""),
    "options that are merged": (", **options", "from options import more\noptions = {}\noptions.update(more)", ""),
    "an attribute": (", **app.options", "import app", ""),
}


@pytest.mark.parametrize("form", HIDING)
def test_options_that_env_py_unpacks_unread_are_no_default_table(
    gate: GateRunner, database: TestDatabase, form: str
) -> None:
    rewrite(gate, *HIDING[form])
    database.stamp("a1", table="stamp_shop")
    database.execute("CREATE TABLE t_a1 (id int)")
    reject(look(gate), "stamp_shop", "holds a1", "env.py, line", "GATE_VERSION_TABLE=stamp_shop")
    assert look(gate, GATE_VERSION_TABLE="stamp_shop")["verdict"] == "BEHIND"
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (78, "")
    assert database.stamped("stamp_shop") == {"a1"}


def test_an_env_py_that_imports_all_of_itself_shows_no_table(gate: GateRunner, database: TestDatabase) -> None:
    (gate.folder / "migrations" / "env.py").write_text("from shop.migrations import run\nrun()\n")
    database.stamp("a1", table="stamp_shop")
    reject(look(gate), "calls no context.configure", "stamp_shop")


def test_an_env_py_with_only_its_offline_half_shows_no_table(gate: GateRunner, database: TestDatabase) -> None:
    text = "from alembic import context\nfrom shop import online\ncontext.configure(url='x', literal_binds=True)\n"
    (gate.folder / "migrations" / "env.py").write_text(text)
    database.stamp("a1", table="stamp_shop")
    reject(look(gate), "calls no context.configure", "stamp_shop")


def test_an_env_py_that_is_there_as_bytecode_only_shows_no_table(gate: GateRunner, database: TestDatabase) -> None:
    rewrite(gate, ", version_table='stamp_shop'")
    env = gate.folder / "migrations" / "env.py"
    py_compile.compile(str(env), cfile=str(env.with_suffix(".pyc")))
    env.unlink()
    database.stamp("a1", table="stamp_shop")
    reject(look(gate), "env.py does not exist as a source file", "stamp_shop")


@pytest.mark.parametrize("other", ["stamp_shop", "alembic_version"])
def test_a_branch_that_is_not_taken_names_no_table(gate: GateRunner, database: TestDatabase, other: str) -> None:
    rewrite(gate, ", **options", "import os\noptions = {}\nif os.environ.get('X'):\n    options['version_table'] = 'v'")
    database.stamp("a3", table="v")
    assert look(gate)["verdict"] == "CURRENT"
    database.stamp("a1", table=other)
    reject(look(gate), "one branch", f"public.{other} holds a1", "public.v")
    assert look(gate, GATE_VERSION_TABLE=other, GATE_VERSION_TABLE_SCHEMA="public")["verdict"] == "BEHIND"


def test_a_default_table_beside_the_real_one_is_not_believed(gate: GateRunner, database: TestDatabase) -> None:
    rewrite(gate, ", **options", "from options import options")
    database.stamp("a3")
    assert look(gate)["verdict"] == "CURRENT"
    database.stamp("a1", table="stamp_shop")
    reject(look(gate), "public.alembic_version, which holds a3", "public.stamp_shop holds a1")
    settings = {"GATE_VERSION_TABLE": "alembic_version", "GATE_VERSION_TABLE_SCHEMA": "public"}
    assert look(gate, **settings)["verdict"] == "CURRENT"
    assert look(gate, GATE_VERSION_TABLE="stamp_shop")["verdict"] == "BEHIND"


COMPUTED = {
    "table": (
        ", version_table=os.environ.get('V', 'v')",
        "version_table=os.environ.get('V', 'v')",
        "GATE_VERSION_TABLE",
    ),
    "schema": (", version_table_schema=os.environ.get('S')", "os.environ.get('S')", "GATE_VERSION_TABLE_SCHEMA"),
    "table, in capitals": (", version_table='v'.upper()", "version_table='v'.upper()", "GATE_VERSION_TABLE"),
}


@pytest.mark.parametrize("form", COMPUTED)
def test_what_env_py_computes_is_named_with_file_line_and_setting(gate: GateRunner, form: str) -> None:
    options, expression, setting = COMPUTED[form]
    rewrite(gate, options)
    reject(look(gate), "migrations/env.py, line 9", expression, f"set {setting}.")


def test_one_setting_does_not_answer_for_the_other(gate: GateRunner, database: TestDatabase) -> None:
    rewrite(gate, ", version_table=os.environ.get('T', 'v'), version_table_schema=os.environ.get('S')")
    database.stamp("a1", table="v")
    reject(look(gate, GATE_VERSION_TABLE_SCHEMA="public"), "computes the name", "v holds a1")
    database.execute("CREATE SCHEMA app")
    database.stamp("a1", table="app.w")
    reject(look(gate, GATE_VERSION_TABLE="x"), "computes the schema", "GATE_VERSION_TABLE_SCHEMA")
    settings = {"GATE_VERSION_TABLE": "v", "GATE_VERSION_TABLE_SCHEMA": "public"}
    assert look(gate, **settings)["verdict"] == "BEHIND"


CHOOSING = {
    "SET": "    connection.exec_driver_sql('SET search_path TO core')\n",
    "SET LOCAL in an f-string": "    connection.exec_driver_sql(f'set local search_path = {connection}')\n",
    "default_schema_name": "    connection.dialect.default_schema_name = 'core'\n",
    "an option": "    options = {'options': '-csearch_path=core'}\n",
    "schema_translate_map": "    connection = connection.execution_options(schema_translate_map={None: 'core'})\n",
}


@pytest.mark.parametrize("form", CHOOSING)
def test_a_schema_that_env_py_chooses_by_a_statement_is_computed(
    gate: GateRunner, database: TestDatabase, form: str
) -> None:
    rewrite(gate, "", before=CHOOSING[form])
    reject(look(gate), "env.py, line 9", "computes the schema", "GATE_VERSION_TABLE_SCHEMA")
    ended = gate("migrate")
    assert (ended.code, database.tables()) == (78, set())
    database.stamp("a3")
    assert look(gate)["verdict"] == "CURRENT"
    database.execute("CREATE SCHEMA core")
    database.stamp("a1", table="core.alembic_version")
    reject(look(gate), "core.alembic_version holds a1")
    assert look(gate, GATE_VERSION_TABLE_SCHEMA="core")["verdict"] == "BEHIND"


CHOOSING_NOTHING = {
    "PostgreSQL's own": "    connection.exec_driver_sql('SET search_path TO public')\n    connection.commit()\n",
    "quoted": """    connection.exec_driver_sql('SET search_path = "$user", public')\n    connection.commit()\n""",
    "a sentence": "    print('tables go to the first schema of the search_path of the role')\n",
    "a map of other schemas": "    connection = connection.execution_options(schema_translate_map={'tenant': 'x'})\n",
    "a map that maps nothing": "    connection = connection.execution_options(schema_translate_map={None: None})\n",
}


@pytest.mark.parametrize("form", CHOOSING_NOTHING)
def test_what_names_a_search_path_and_chooses_no_schema_holds_up_no_first_deployment(
    gate: GateRunner, database: TestDatabase, form: str
) -> None:
    rewrite(gate, "", before=CHOOSING_NOTHING[form])
    assert look(gate)["verdict"] == "EMPTY"
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a3"}


def test_a_search_path_in_a_docstring_chooses_nothing(gate: GateRunner) -> None:
    rewrite(gate, "", head='"""It needs no search_path."""')
    assert look(gate)["verdict"] == "EMPTY"


ASSIGNED = [
    "context.script.version_locations = ['a', 'b']",
    "script = context.script\nscript.version_locations.append('more')",
    "context.script.version_locations += ['more']",
    "setattr(context.script, 'version_locations', [])",
]


@pytest.mark.parametrize("line", ASSIGNED)
def test_folders_of_scripts_that_env_py_assigns_are_refused_with_its_line(gate: GateRunner, line: str) -> None:
    rewrite(gate, "", head=f"from alembic import context\n{line}")
    place = f"env.py, line {1 + len(line.splitlines())}"
    reject(look(gate), place, "version_locations", "gate -c FILE")
    assert gate("heads").code == 78


def test_folders_of_scripts_that_env_py_only_reads_are_no_mistake(gate: GateRunner) -> None:
    rewrite(gate, "", head="from alembic import context\nprint(context.script.version_locations)")
    assert gate("heads").out == "a3\n"


WRONG = {
    "the schema in the table's name": {"GATE_VERSION_TABLE": "app.Stamp"},
    "other capitals": {"GATE_VERSION_TABLE": "stamp"},
    "another schema": {"GATE_VERSION_TABLE": "Stamp", "GATE_VERSION_TABLE_SCHEMA": "nowhere"},
    "the schema in other capitals": {"GATE_VERSION_TABLE": "Stamp", "GATE_VERSION_TABLE_SCHEMA": "App"},
    "another name": {"GATE_VERSION_TABLE": "version"},
    "another name in the same schema": {"GATE_VERSION_TABLE": "version", "GATE_VERSION_TABLE_SCHEMA": "app"},
}


@pytest.mark.parametrize("form", WRONG)
def test_a_setting_that_names_the_table_wrongly_is_answered_with_the_right_one(
    gate: GateRunner, database: TestDatabase, form: str
) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp("a1", table='app."Stamp"')
    right = "Set GATE_VERSION_TABLE=Stamp and GATE_VERSION_TABLE_SCHEMA=app"
    reject(look(gate, **WRONG[form]), *(f"{n}={v}" for n, v in WRONG[form].items()), right)
    found = look(gate, GATE_VERSION_TABLE="Stamp", GATE_VERSION_TABLE_SCHEMA="app")
    assert found["verdict"] == "BEHIND"


@pytest.mark.parametrize("form", ["the schema in the table's name", "other capitals", "the schema in other capitals"])
def test_a_misspelt_name_is_noticed_whatever_the_table_holds(
    gate: GateRunner, database: TestDatabase, form: str
) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp(table='app."Stamp"')
    reject(look(gate, **WRONG[form]), "Set GATE_VERSION_TABLE=Stamp and GATE_VERSION_TABLE_SCHEMA=app")


def test_a_setting_that_names_an_existing_schema_is_believed_and_the_other_table_is_a_warning(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE SCHEMA billing")
    database.stamp("a3", table="billing.alembic_version")
    found = look(gate, GATE_VERSION_TABLE_SCHEMA="public")
    assert found["verdict"] == "EMPTY"
    assert "billing.alembic_version holds a3" in found["err"]
    waiting = gate.start("run", "--", *SERVER, GATE_VERSION_TABLE_SCHEMA="public")
    line = waiting.await_event("gate.other_version_table")
    assert (line["level"], "billing.alembic_version" in line["message"]) == ("warning", True)
    waiting.await_event("gate.waiting")


def test_a_literal_that_is_not_found_is_not_believed_beside_a_known_stamp(
    gate: GateRunner, database: TestDatabase
) -> None:
    rewrite(gate, ", version_table='new_name'")
    database.stamp("a1", table="old_name")
    reject(look(gate), "env.py names the version table new_name", "old_name holds a1")


def test_two_services_in_one_database_do_not_disturb_each_other(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    other = make_project(tmp_path / "other", options=", version_table='billing'").chain("b1", "b2").folder
    assert gate("migrate").code == 0
    gate.folder = other
    found = look(gate)
    assert (found["verdict"], found["err"]) == ("UNSTAMPED", "")
    assert gate("migrate").code == 0
    gate.folder = project.folder
    rewrite(gate, ", **options", "from options import options")
    found = look(gate)
    assert (found["verdict"], found["err"]) == ("CURRENT", "")


def test_another_column_version_num_with_other_values_does_not_matter(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE documents (id int, version_num text)")
    database.execute("INSERT INTO documents SELECT n, n::text FROM generate_series(1, 5000) n")
    database.execute("CREATE TABLE numbered (version_num int)")
    database.execute("INSERT INTO numbered VALUES (1), (NULL)")
    assert look(gate)["verdict"] == "UNSTAMPED"


@pytest.mark.parametrize("name", ['we"ird', "new\nline", "o'clock", "back\\slash", "100%", "a.b", "{0}", "ü", "%s"])
def test_a_hostile_name_of_another_table_is_read_and_shown_in_one_line(
    gate: GateRunner, database: TestDatabase, name: str
) -> None:
    rewrite(gate, ", **options", "from options import options")
    with psycopg.connect(database.url, autocommit=True) as connection:
        quoted = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(quoted))
        connection.execute(sql.SQL("CREATE TABLE {}.{} (version_num text)").format(quoted, quoted))
        connection.execute(sql.SQL("INSERT INTO {}.{} VALUES ('a1')").format(quoted, quoted))
    found = look(gate)
    reject(found, "holds a1")
    assert "\n" not in found["error"]
    with pytest.raises(GateError, match="holds a1"):
        drift_of(create_engine(sqlalchemy_url(database)), config=str(gate.folder / "alembic.ini"))


def test_thousands_of_other_tables_are_bounded(gate: GateRunner, database: TestDatabase) -> None:
    database.execute(
        "DO $$ BEGIN FOR n IN 1..1500 LOOP EXECUTE format("
        "'CREATE SCHEMA tenant_%s CREATE TABLE stamps (version_num text)', n); END LOOP; END $$"
    )
    database.execute("INSERT INTO tenant_7.stamps VALUES ('zz99')")
    statements: list[str] = []
    with psycopg.connect(database.url, autocommit=True) as connection:

        def run(statement: str) -> Sequence[Any] | None:
            statements.append(statement)
            return connection.execute(statement).fetchone()

        found = stamp.read_stamp(run, TableName(env_py=VersionTable(unseen="env.py hides it")))
    assert (len(statements), len(found.other_version_tables), found.rows) == (2, 20, None)


@pytest.mark.parametrize(("hides", "expected"), [(False, 2), (True, 3)])
def test_a_check_of_a_current_database_takes_two_statements(
    database: TestDatabase, *, hides: bool, expected: int
) -> None:
    database.stamp("a3")
    database.stamp("b1", table="other")
    statements: list[str] = []
    with psycopg.connect(database.url, autocommit=True) as connection:

        def run(statement: str) -> Sequence[Any] | None:
            statements.append(statement)
            return connection.execute(statement).fetchone()

        stamp.read_stamp(run, TableName(env_py=VersionTable(unseen="hidden" if hides else "")))
    assert len(statements) == expected


def test_a_table_that_the_role_may_not_read_is_named_with_its_grant(gate: GateRunner, database: TestDatabase) -> None:
    rewrite(gate, ", **options", "from options import options")
    database.execute("CREATE SCHEMA app")
    database.stamp("a1", table="app.stamp_shop")
    url = database.create_role("x")
    role = url.split("//")[1].partition(":")[0]
    found = look(gate, DATABASE_URL=url)
    grants = [f"GRANT USAGE ON SCHEMA app TO {role}", f"GRANT SELECT ON app.stamp_shop TO {role}"]
    reject(found, *grants, "GATE_VERSION_TABLE", code=69)
    for grant in grants:
        database.execute(grant)
    reject(look(gate, DATABASE_URL=url), "app.stamp_shop holds a1")


def test_what_a_role_may_not_read_does_not_disturb_an_env_py_that_shows_its_table(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("b1", table="billing")
    assert look(gate, DATABASE_URL=database.create_role("x"))["verdict"] == "UNSTAMPED"


def test_another_table_may_be_a_view_but_nobodys_function_runs_for_it(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE SCHEMA app")
    database.execute("CREATE TABLE app.rows (v text)")
    database.execute("INSERT INTO app.rows VALUES ('a1')")
    database.execute("CREATE VIEW app.stamps AS SELECT v AS version_num FROM app.rows")
    reject(look(gate), "app.stamps holds a1")
    owner = database.create_role("x").split("//")[1].partition(":")[0]
    database.execute("CREATE FUNCTION boom() RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$ran$$; END'")
    database.execute("CREATE OR REPLACE VIEW app.stamps AS SELECT boom() AS version_num")
    database.execute(f"ALTER VIEW app.stamps OWNER TO {owner}")
    assert look(gate)["verdict"] == "EMPTY"


# ---- rows that are hidden are not absent


@pytest.mark.parametrize("policy", ["", "USING (false)", "USING (version_num <> 'a3')"])
def test_rows_that_a_policy_hides_are_not_absent(gate: GateRunner, database: TestDatabase, policy: str) -> None:
    database.stamp("a2", "a3")
    url = database.create_role("x", "GRANT SELECT ON alembic_version TO {role}")
    role = url.split("//")[1].partition(":")[0]
    database.execute("ALTER TABLE alembic_version ENABLE ROW LEVEL SECURITY")
    if policy:
        database.execute(f"CREATE POLICY hiding ON alembic_version {policy}")
    cure = f"CREATE POLICY gate ON public.alembic_version FOR SELECT TO {role} USING (true)"
    reject(look(gate, DATABASE_URL=url), cure, "BYPASSRLS", "hiding" if policy else "no policy", code=69)
    assert look(gate)["verdict"] == "CURRENT"  # a superuser
    waiting = gate.start("run", "--", *SERVER, DATABASE_URL=url)
    assert "Row-level security" in waiting.await_event("gate.waiting")["message"]
    database.execute(cure)
    assert waiting.wait().out == "server started\n"


def test_a_restrictive_policy_hides_rows_whatever_others_show(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    url = database.create_role("x", "GRANT SELECT ON alembic_version TO {role}")
    database.execute("ALTER TABLE alembic_version ENABLE ROW LEVEL SECURITY")
    database.execute("CREATE POLICY shows ON alembic_version USING (true)")
    assert look(gate, DATABASE_URL=url)["verdict"] == "CURRENT"
    database.execute("CREATE POLICY hides ON alembic_version AS RESTRICTIVE USING (version_num = 'a1')")
    reject(look(gate, DATABASE_URL=url), "hides", code=69)


def test_a_policy_holds_for_the_owner_only_where_it_is_forced(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    url = database.create_role("x", "ALTER TABLE alembic_version OWNER TO {role}")
    database.execute("ALTER TABLE alembic_version ENABLE ROW LEVEL SECURITY")
    assert look(gate, DATABASE_URL=url)["verdict"] == "CURRENT"
    database.execute("ALTER TABLE alembic_version FORCE ROW LEVEL SECURITY")
    reject(look(gate, DATABASE_URL=url), "Row-level security", code=69)


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_without_rows_is_no_empty_version_table(gate: GateRunner, database: TestDatabase, kind: str) -> None:
    database.execute("CREATE SCHEMA app")
    database.stamp("a3", table="app.alembic_version")
    database.execute(f"CREATE {kind} alembic_version AS SELECT version_num FROM app.alembic_version WHERE false")
    reject(look(gate), "public.alembic_version", "GATE_VERSION_TABLE", code=69)


def test_a_temporary_table_never_counts(database: TestDatabase, project: Project) -> None:
    config = str(project.folder / "alembic.ini")
    with create_engine(sqlalchemy_url(database)).connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE alembic_version AS SELECT 'a3' AS version_num")
        assert drift_of(connection, config=config).verdict == "EMPTY"
        connection.commit()
        database.stamp("a1")
        assert drift_of(connection, config=config).stamped == ("a1",)
        connection.exec_driver_sql("SET search_path TO pg_temp, public")
        assert drift_of(connection, config=config).stamped == ("a1",)


@pytest.mark.parametrize("leftover", ["a temporary table", "a search_path"])
def test_what_another_client_of_a_pooler_left_is_not_the_stamp(
    gate: GateRunner, database: TestDatabase, pooler: PoolerFactory, leftover: str
) -> None:
    database.stamp("a1")
    database.execute("CREATE SCHEMA other")
    database.stamp("a3", table="other.alembic_version")
    gate.url = pooler("transaction", 1).url(database.name)
    with psycopg.connect(gate.url, autocommit=True, prepare_threshold=None) as client:
        if leftover == "a search_path":
            client.execute("SET search_path TO other")
        else:
            client.execute("CREATE TEMPORARY TABLE alembic_version AS SELECT 'a3' AS version_num")
        found = look(gate)
    assert (found["verdict"], found["schema"]) == ("BEHIND", "public")
    assert ("search_path other" in found["err"]) == (leftover == "a search_path")


@pytest.mark.parametrize("by", ["ALTER ROLE", "ALTER DATABASE", "the URL", "PGOPTIONS"])
def test_a_search_path_of_the_roles_own_is_its_own(gate: GateRunner, database: TestDatabase, by: str) -> None:
    database.stamp("a1")
    database.execute("CREATE SCHEMA other")
    database.stamp("a3", table="other.alembic_version")
    url = database.create_role(
        "x", "GRANT USAGE ON SCHEMA other TO {role}", "GRANT SELECT ON other.alembic_version TO {role}"
    )
    role = url.split("//")[1].partition(":")[0]
    settings = {"DATABASE_URL": url}
    if by == "the URL":
        settings["DATABASE_URL"] += "?options=-csearch_path%3Dother"
    elif by == "PGOPTIONS":
        settings["PGOPTIONS"] = "-c search_path=other"
    else:
        database.execute(f"{by} {role if by == 'ALTER ROLE' else database.name} SET search_path = other")
    found = look(gate, **settings)
    assert (found["verdict"], found["schema"], found["err"]) == ("CURRENT", "other", "")


# ---- rows that Alembic never wrote


@pytest.mark.parametrize("value", ["NULL", "''"])
@pytest.mark.parametrize("also", [[], ["a3"]])
def test_a_row_without_a_revision_starts_nothing(
    gate: GateRunner, database: TestDatabase, value: str, also: list[str]
) -> None:
    database.execute("CREATE TABLE alembic_version (version_num text)")
    for row in [value, *(f"'{each}'" for each in also)]:
        database.execute(f"INSERT INTO alembic_version VALUES ({row})")
    reject(look(gate), "a row without a revision", "public.alembic_version", code=69)
    ended = gate("run", "--", *SERVER, GATE_TIMEOUT="1", RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (124, "")


@pytest.mark.parametrize("row", ["base", "head", "heads", "-1", "shop@head", "+1", "a1:a3"])
def test_a_row_that_alembic_reads_as_a_symbol_is_unknown(
    gate: GateRunner, project: Project, database: TestDatabase, row: str
) -> None:
    project.add("based0001", "a3", labels="shop")
    database.execute("CREATE TABLE alembic_version (version_num text)")
    database.execute(f"INSERT INTO alembic_version VALUES ('{row}')")
    found = look(gate)
    assert (found["verdict"], found["unknown"]) == ("UNKNOWN", [row])


@pytest.mark.parametrize("row", ["a1", "a3"])
def test_a_row_that_a_char_column_pads_is_named_as_what_alembic_cannot_read(
    gate: GateRunner, database: TestDatabase, row: str
) -> None:
    database.execute(f"CREATE TABLE alembic_version AS SELECT '{row}'::char(32) AS version_num")
    reject(look(gate), row, "char(n)", "varchar(32)", code=69)


def test_an_id_that_is_longer_than_what_gate_reads_of_a_row_is_refused(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3").write_text((project.versions / "a3.py").read_text().replace("'a3'", repr("x" * 256), 1))
    ended = gate("heads")
    assert (ended.code, "256 characters" in ended.err, "a4.py" in ended.err) == (78, True, True)
