"""Before the first revision env.py runs once without steps: one version table, the one that gate inspected, or 78."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import ASYNC_ENV, SYNC_ENV, make_project

CONFIGURE = "context.configure(connection=connection)"

IN_CORE = {
    "search_path": "run('SET search_path TO core')\nconnection.commit()",
    "search_path by a function": "run(\"SELECT set_config('search_path', 'core', false)\")\nconnection.commit()",
    "schema_translate_map": "connection = connection.execution_options(schema_translate_map={None: 'core'})",
    "version_table_schema": 'import json\noptions = json.loads(\'{"version_table_schema": "core"}\')',
}
"""Ways in which an env.py keeps its version table in the schema core."""

AUTOCOMMIT = {"none": "", "engine": ', isolation_level="AUTOCOMMIT"'}


def env_py(body: str, *, driver: str = "psycopg", autocommit: str = "none", options: str = "") -> str:
    """An env.py that runs these lines before it configures, with `run` and `options` to use; `{configure}` repeats."""
    template = ASYNC_ENV if driver == "asyncpg" else SYNC_ENV
    configure = f"context.configure(connection=connection, **options{options})"
    lines = f"options = {{}}\nrun = connection.exec_driver_sql\n{body}\n{configure}"
    text = template.format(driver=driver, options="").replace(
        "poolclass=pool.NullPool", f"poolclass=pool.NullPool{AUTOCOMMIT[autocommit]}"
    )
    indent = next(line for line in text.splitlines() if CONFIGURE in line).partition("context")[0]
    return text.replace(f"{indent}{CONFIGURE}", "\n".join(indent + line for line in lines.splitlines()))


@pytest.mark.parametrize("how", IN_CORE)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_stamp_in_another_schema_than_gate_inspected_is_refused_before_anything_is_applied(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, how: str, driver: str
) -> None:
    database.execute("CREATE SCHEMA core")
    environment = env_py(IN_CORE[how], driver=driver)
    gate.folder = make_project(tmp_path / "core", environment=environment).chain("a1").folder
    ended = gate("migrate")
    assert (ended.code, "core" in ended.failure) == (78, True)
    assert "GATE_VERSION_TABLE_SCHEMA" in ended.failure
    assert "gate.revision_started" not in ended.names()
    assert database.execute("SELECT FROM pg_tables WHERE schemaname IN ('core', 'public')") == []


@pytest.mark.parametrize("how", ["search_path", "version_table_schema"])
def test_a_stamp_in_the_schema_that_a_setting_names_is_migrated(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, how: str
) -> None:
    database.execute("CREATE SCHEMA core")
    gate.folder = make_project(tmp_path / "core", environment=env_py(IN_CORE[how])).chain("a1").folder
    assert gate("migrate", GATE_VERSION_TABLE_SCHEMA="core").code == 0
    assert database.stamped("core.alembic_version") == {"a1"}


LOOP = """
import os
from alembic import context
from sqlalchemy import create_engine, make_url, pool

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    for {name} in {names}:
        context.configure(connection=connection, {option}={name})
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
"""

DATABASES = """
import os
from alembic import context
from sqlalchemy import create_engine, make_url, pool

for name in (None, {other!r}):
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    url = url.set(database=name) if name else url
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""


def test_one_run_of_env_py_with_many_schemas_is_refused_with_their_number_and_the_first_of_them(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    for number in range(12):
        database.execute(f"CREATE SCHEMA t{number}")
    names = "[f't{number}' for number in range(12)]"
    environment = LOOP.format(name="tenant", names=names, option="version_table_schema")
    gate.folder = make_project(tmp_path / "tenants", environment=environment).chain("a1").folder
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_VERSION_TABLE_SCHEMA="t0")
    assert (ended.code, ended.out) == (78, "")
    assert "12 version tables" in ended.failure
    assert "t0, t1" in ended.failure
    assert "gate migrate -n SECTION -n SECTION" in ended.failure
    assert "GATE_SCHEMAS" in ended.failure
    assert database.execute("SELECT FROM pg_tables WHERE tablename LIKE 'alembic%' OR tablename LIKE 't\\_%'") == []


def test_one_run_of_env_py_with_two_version_tables_is_refused(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    environment = LOOP.format(name="table", names="('alembic_version', 'audit_version')", option="version_table")
    gate.folder = make_project(tmp_path / "tables", environment=environment).chain("a1").folder
    ended = gate("migrate", GATE_VERSION_TABLE="alembic_version")
    assert ended.code == 78
    assert "public.alembic_version, public.audit_version" in ended.failure
    assert database.tables() == set()


TWICE = """
import os
from alembic import context
from sqlalchemy import create_engine, make_url, pool

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
    context.configure(connection=connection, version_table="audit_version")
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
"""

COMMANDS = (("check",), ("wait",), ("run", "--", *SERVER), ("migrate",), ("plan",))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("form", ["schemas", "tables", "databases", "one after the other"])
def test_no_command_judges_several_version_tables_by_the_first(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, form: str, command: tuple[str, ...]
) -> None:
    """The first is at head, so that it would pass alone."""
    environment = {
        "schemas": LOOP.format(name="tenant", names="('public', 't1')", option="version_table_schema"),
        "tables": LOOP.format(name="table", names="('alembic_version', 'audit_version')", option="version_table"),
        "databases": DATABASES.format(other="postgres"),
        "one after the other": TWICE,
    }[form]
    gate.folder = make_project(tmp_path / "several", environment=environment).chain("a1").folder
    database.stamp("a1")
    ended = gate(*command)
    assert (ended.code, ended.out) == (78, ""), ended.err
    assert "in one run: " in ended.err
    assert "env.py, line" in ended.err
    assert "-n SECTION -n SECTION" in ended.err
    assert "GATE_SCHEMAS" in ended.err
    assert database.tables() == {"alembic_version"}


def test_a_setting_that_names_one_of_several_version_tables_counts_with_a_warning(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    gate.folder = make_project(tmp_path / "several", environment=TWICE).chain("a1").folder
    database.stamp("a1", table="audit_version")
    ended = gate("run", "--", *SERVER, GATE_VERSION_TABLE="audit_version")
    assert (ended.code, ended.out) == (0, "server started\n")
    assert "gate checks only audit_version" in ended.event("gate.several_version_tables")["message"]


def test_one_run_of_env_py_with_two_databases_is_refused(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase, tmp_path: Path
) -> None:
    environment = DATABASES.format(other=another_database.name)
    gate.folder = make_project(tmp_path / "databases", environment=environment).chain("a1").folder
    ended = gate("migrate", GATE_VERSION_TABLE="alembic_version")
    assert ended.code == 78
    assert f"2 databases ({database.name}, {another_database.name})" in ended.failure
    assert database.tables() == another_database.tables() == set()


def test_an_env_py_that_forgives_errors_does_not_forgive_the_refusal(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase, tmp_path: Path
) -> None:
    environment = DATABASES.format(other=another_database.name)
    lines = [f"    {line}" for line in environment.splitlines()]
    environment = "\n".join(["try:", *lines, "except:", "    pass", ""])
    gate.folder = make_project(tmp_path / "databases", environment=environment).chain("a1").folder
    assert gate("migrate", GATE_VERSION_TABLE="alembic_version").code == 78
    assert database.tables() == another_database.tables() == set()


def test_the_same_version_table_twice_in_one_run_is_one(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    environment = LOOP.format(name="flag", names="(True, False)", option="compare_type")
    gate.folder = make_project(tmp_path / "twice", environment=environment).chain("a1").folder
    assert gate("migrate").code == 0
    assert database.stamped() == {"a1"}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("autocommit", AUTOCOMMIT)
@pytest.mark.parametrize("options", ["", ", transactional_ddl=False"])
def test_the_dry_run_leaves_no_version_table_and_prints_nothing_twice(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, driver: str, autocommit: str, options: str
) -> None:
    seen = "run(\"SELECT to_regclass('alembic_version') IS NULL\").scalar()"
    body = f"print('before', {seen}, flush=True)\nconnection.rollback()"
    environment = env_py(body, driver=driver, autocommit=autocommit, options=options) + "\nprint('after')\n"
    gate.folder = make_project(tmp_path / "printing", environment=environment).chain("a1", "a2").folder
    ended = gate("migrate")
    assert (ended.code, ended.out) == (0, "before True\nafter\n"), ended.err
    assert database.stamped() == {"a2"}
    assert ended.names().count("gate.revision_started") == 2


def test_an_asynchronous_engine_with_a_pool_serves_both_runs(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "pooled", driver="asyncpg").chain("a1")
    env = project.folder / "migrations" / "env.py"
    module = "import os\nfrom sqlalchemy import make_url\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
    url = 'make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")'
    (project.folder / "application.py").write_text(f"{module}engine = create_async_engine({url})\n")
    text = env.read_text().replace("    engine = create_async_engine(url, poolclass=pool.NullPool)\n", "")
    env.write_text(
        text.replace("    await engine.dispose()\n", "").replace(
            "import asyncio", "from application import engine\nimport asyncio"
        )
    )
    (project.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"
    )
    gate.folder = project.folder
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a1"}


def test_what_env_py_does_with_the_tables_after_the_revisions_does_not_fail_the_dry_run(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    environment = SYNC_ENV.format(driver="psycopg", options="") + (
        "    connection.exec_driver_sql('INSERT INTO t_a1 VALUES (1)')\n    connection.commit()\n"
    )
    gate.folder = make_project(tmp_path / "seeds", environment=environment).chain("a1").folder
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert database.execute("SELECT count(*) FROM t_a1") == [(1,)]


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("import os; os._exit(3)", "ended with exit code 3"),
        ("import os; os._exit(0)", "ended with exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("raise SystemExit(4)", "it called sys.exit(4)"),
        ("print('a last word'); 1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_env_py_that_ends_the_dry_run_has_failed(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, end: str, cause: str
) -> None:
    gate.folder = make_project(tmp_path / "ends", environment=f"{end}\n").chain("a1").folder
    ended = gate("migrate")
    assert (ended.code, cause in ended.failure) == (65, True), ended.err
    assert ended.out == ("a last word\n" if "last word" in end else "")
    assert database.tables() == set()


def test_the_time_limit_holds_while_env_py_is_verified(gate: GateRunner, tmp_path: Path) -> None:
    gate.folder = make_project(tmp_path / "hangs", environment="import time\ntime.sleep(600)\n").chain("a1").folder
    ended = gate("migrate", GATE_MIGRATION_TIMEOUT="2")
    assert (ended.code, "GATE_MIGRATION_TIMEOUT" in ended.failure) == (65, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_gate_while_env_py_is_verified(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, number: signal.Signals
) -> None:
    body = "print('verifying', flush=True)\nrun('SELECT pg_sleep(600)')"
    gate.folder = make_project(tmp_path / "hangs", environment=env_py(body)).chain("a1").folder
    running = gate.start("migrate")
    running.await_output("verifying")
    running.signal(number)
    assert running.wait(10).code == 128 + number
    assert database.backends() == []


def test_processes_of_the_dry_run_are_gone_before_the_upgrade(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    # As a proxy to the database, which listens on a port, may be started by env.py.
    # Clients are given ports from 32768 on.
    proxy = "import socket, subprocess, sys\nwith socket.create_server(('127.0.0.1', 0)) as server:\n    pass\n"
    listen = (
        "import socket, time; s = socket.create_server(('127.0.0.1', {port})); print(1, flush=True); time.sleep(60)"
    )
    port_file = tmp_path / "port"
    environment = (
        f"import os, subprocess, sys\nfrom pathlib import Path\nport_file = Path({str(port_file)!r})\n{proxy}"
        "if not port_file.exists():\n    port_file.write_text(str(20000 + os.getpid() % 10000))\n"
        f"code = {listen!r}.format(port=port_file.read_text())\n"
        "proxy = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)\n"
        "assert proxy.stdout.read(1) == b'1'\n" + SYNC_ENV.format(driver="psycopg", options="")
    )
    gate.folder = make_project(tmp_path / "proxy", environment=environment).chain("a1").folder
    ended = gate("migrate")
    assert ended.code == 0, ended.err
    assert ended.event("gate.child_processes_killed")["processes"] == 1
