"""What holds for one schema holds for each of many: env.py's of all kinds, settings, and a list that changes."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from demo.embedded_postgres import environment_without_settings, free_port
from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import GATE_COMMAND, await_true
from tests.support.projects import Project, wait_for_file
from tests.support.tenants import add_logged, applied, create_tenants, migrated, only_in, stamps, use_cookbook_env

TENANTS = [f"t{number}" for number in range(6)]
ALL_APPLIED = [("a2", name) for name in TENANTS]


@pytest.mark.parametrize("driver", ["psycopg2", "pg8000"])
def test_any_driver_of_env_py_migrates_them(
    gate: GateRunner, project: Project, database: TestDatabase, driver: str
) -> None:
    create_tenants(database, TENANTS, "a1")
    use_cookbook_env(project, driver=driver)
    done = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert done.code == 0, done.err
    assert applied(database) == ALL_APPLIED


ASYNC_ENV = """
import asyncio, os
from alembic import context
from sqlalchemy import make_url, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

tenant = os.environ["GATE_TENANT"]


def migrate(connection):
    context.configure(connection=connection, version_table_schema=tenant)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.execute(text(f"SET search_path TO {tenant}"))
        await connection.commit()
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
"""


def test_an_asynchronous_env_py_that_reads_the_variable_migrates_them(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    (project.folder / "migrations" / "env.py").write_text(ASYNC_ENV)
    done = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert done.code == 0, done.err
    assert applied(database) == ALL_APPLIED


def test_the_name_of_the_argument_is_a_setting_and_other_arguments_stay(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    use_cookbook_env(
        project, argument="tenant", before='assert context.get_x_argument(as_dictionary=True)["colour"] == "red"'
    )
    done = gate("migrate", "--schemas", "t*", "-x", "colour=red", GATE_SCHEMA_ARGUMENT="tenant")
    assert done.code == 0, done.err
    assert applied(database) == ALL_APPLIED


def test_an_env_py_that_ignores_the_schema_is_refused_with_the_way_out(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    database.stamp("a1")
    (project.folder / "migrations" / "env.py").write_text(
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine, make_url\n"
        'url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")\n'
        "with create_engine(url).connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n"
    )
    failed = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert failed.code == 78, failed.err
    assert 'context.get_x_argument(as_dictionary=True)["schema"]' in failed.failure
    assert "GATE_TENANT" in failed.failure
    assert applied(database) == []


def test_an_env_py_that_loops_over_all_schemas_is_refused_before_the_first_revision(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    (project.folder / "migrations" / "env.py").write_text(
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine, make_url, text\n"
        'url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")\n'
        f"for tenant in {TENANTS!r}:\n"
        "    with create_engine(url).connect() as connection:\n"
        '        connection.execute(text(f"SET search_path TO {tenant}"))\n'
        "        connection.commit()\n"
        "        context.configure(connection=connection)\n"
        "        with context.begin_transaction():\n            context.run_migrations()\n"
    )
    failed = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert failed.code == 78, failed.err
    assert "in one run" in failed.failure
    assert "GATE_TENANT" in failed.failure
    assert applied(database) == []


def test_an_upgrade_command_runs_for_each_schema(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    create_tenants(database, TENANTS, "a1")
    command = f'{sys.executable} -m alembic -x "schema={{schema}}" upgrade heads'
    done = gate("migrate", "--schemas", "t*", "--jobs", "2", GATE_UPGRADE_COMMAND=command)
    assert done.code == 0, done.err
    assert applied(database) == ALL_APPLIED
    assert done.names().count("gate.upgrade_command") == 1


def test_without_a_lock_they_are_migrated_too(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, TENANTS, "a1")
    done = gate("migrate", "--schemas", "t*", "--jobs", "3", GATE_LOCK="none")
    assert (done.code, applied(database)) == (0, ALL_APPLIED)


def test_what_may_wait_is_applied_by_a_second_run(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    create_tenants(database, TENANTS, "a1")
    add_logged(project, "a3", "a2")
    path = project.versions / "a3.py"
    path.write_text(path.read_text() + "\npost_deploy = True\n")
    assert gate("migrate", "--schemas", "t*", "--jobs", "2").code == 0
    assert applied(database) == ALL_APPLIED
    assert gate("migrate", "--schemas", "t*", "--jobs", "2", "--post-deploy").code == 0
    assert stamps(database, TENANTS) == dict.fromkeys(TENANTS, "a3")


def test_a_busy_table_of_one_schema_is_tried_again_while_the_others_go_on(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    database.execute("CREATE TABLE t4.busy (id int)")
    add_logged(project, "a2", "a1", only_in("t4", 'op.execute("ALTER TABLE busy ADD COLUMN n int")'))
    with psycopg.connect(database.url) as holder:
        holder.execute("SELECT * FROM t4.busy")
        running = gate.start("migrate", "--schemas", "t*", "--jobs", "2", GATE_TABLE_LOCK_TIMEOUT="0.3")
        event = running.await_event("gate.table_lock_timeout")
        assert event["schema"] == "t4"
        running.await_event("gate.schema_migrated", lambda each: each["schema"] == "t5")
    assert running.wait().code == 0
    assert applied(database) == ALL_APPLIED


def test_indexes_are_created_concurrently_in_several_schemas_at_once(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    for name in TENANTS:
        database.execute(f"CREATE TABLE {name}.things (id int)")
    index = 'with op.get_context().autocommit_block():\n    op.execute("CREATE INDEX CONCURRENTLY i ON things (id)")'
    project.add("a2", "a1", index)
    done = gate("migrate", "--schemas", "t*", "--jobs", "6")
    assert done.code == 0, done.err
    [(valid,)] = database.execute(
        "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid::regclass::text ~ '[.]i$'"
    )
    assert valid == 6
    assert "gate.invalid_indexes" not in done.names()


def test_an_invalid_index_of_any_schema_is_named_once_at_the_end(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    database.execute("CREATE TABLE t3.things (id int)")
    database.execute("INSERT INTO t3.things VALUES (1), (1)")
    with psycopg.connect(database.url, autocommit=True) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON t3.things (id)")
    done = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert done.code == 0
    assert [event["indexes"] for event in done.events if event["event"] == "gate.invalid_indexes"] == [["t3.i"]]


def test_a_schema_that_is_named_and_missing_fails_with_the_cause(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, ["t1", "t2"], "a1")
    failed = gate("migrate", "--schemas", "t1,t9,t2", "--keep-going")
    assert failed.code == 65
    assert "t9: Schema t9 does not exist, and env.py did not create it" in failed.failure
    assert sorted(migrated(failed)) == ["t1", "t2"]


def test_env_py_may_create_a_new_schema(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    create_tenants(database, ["t1"], "a1")
    create = "connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS {quoted}'))"
    use_cookbook_env(project, before=create)
    done = gate("migrate", "--schemas", "t1,t9")
    assert done.code == 0, done.err
    assert stamps(database, ["t1", "t9"]) == {"t1": "a2", "t9": "a2"}


def test_a_schema_that_is_dropped_meanwhile_is_not_created_again(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    barrier = tmp_path / "go"
    use_cookbook_env(project, before="connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS {quoted}'))")
    add_logged(project, "a2", "a1", only_in("t0", wait_for_file(barrier)))
    running = gate.start("migrate", "--schemas", "t*", GATE_LOG_LEVEL="debug")
    running.await_event("gate.revision_started", lambda event: event["schema"] == "t0")
    database.execute("DROP SCHEMA t3 CASCADE")
    barrier.touch()
    done = running.wait()
    assert done.code == 0, done.err
    event = done.event("gate.schema_dropped")
    assert (event["schema"], event["level"]) == ("t3", "info")
    assert database.execute("SELECT FROM pg_namespace WHERE nspname = 't3'") == []
    assert applied(database) == [("a2", name) for name in TENANTS if name != "t3"]


def test_a_schema_that_is_dropped_between_two_of_its_revisions_is_no_failure(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    """Alembic holds locks in a schema only while a transaction is open."""
    create_tenants(database, TENANTS, "a1")
    barrier = tmp_path / "go"
    wait = "\n".join(f"    {line}" for line in wait_for_file(barrier).splitlines())
    wait = f"with op.get_context().autocommit_block():\n{wait}"
    project.add("a2", "a1", only_in("t3", wait))
    running = gate.start("migrate", "--schemas", "t*", GATE_LOG_LEVEL="debug")
    running.await_event("gate.revision_started", lambda event: event["schema"] == "t3")
    database.execute("DROP SCHEMA t3 CASCADE")
    barrier.touch()
    done = running.wait()
    assert done.code == 0, done.err
    assert done.event("gate.schema_dropped")["schema"] == "t3"
    left = [name for name in TENANTS if name != "t3"]
    assert stamps(database, left) == dict.fromkeys(left, "a2")


def test_a_schema_that_is_created_meanwhile_is_migrated_by_the_same_run(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    barrier = tmp_path / "go"
    add_logged(project, "a2", "a1", only_in("t5", wait_for_file(barrier)))
    running = gate.start("migrate", "--schemas", "t*", "--jobs", "2")
    running.await_event("gate.schema_migrated", lambda event: event["progress"] == "5/6")
    create_tenants(database, ["t7"], "a1")
    barrier.touch()
    done = running.wait()
    assert done.code == 0, done.err
    assert applied(database) == [*ALL_APPLIED, ("a2", "t7")]


def test_a_schema_whose_lock_another_gate_holds_is_left_to_it(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    barrier = tmp_path / "go"
    add_logged(project, "a2", "a1", only_in("t0", wait_for_file(barrier)))
    one = gate.start("migrate", "--schemas", "t0", GATE_LOG_LEVEL="debug")
    one.await_event("gate.revision_started")
    other = gate.start("migrate", "--schemas", "t*", "--jobs", "2")
    other.await_event("gate.schemas_migrated")
    assert stamps(database, TENANTS) == {**dict.fromkeys(TENANTS, "a2"), "t0": "a1"}
    barrier.touch()
    results = [one.wait(), other.wait()]
    assert [each.code for each in results] == [0, 0]
    assert [sorted(migrated(each)) for each in results] == [["t0"], TENANTS[1:]]
    assert applied(database) == ALL_APPLIED


def test_while_another_gate_migrates_the_first_schema_the_others_wait(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    barrier = tmp_path / "go"
    add_logged(project, "a2", "a1", only_in("t0", wait_for_file(barrier)))
    one = gate.start("migrate", "--schemas", "t*", "--first", "t0", GATE_LOG_LEVEL="debug")
    one.await_event("gate.revision_started")
    other = gate.start("migrate", "--schemas", "t*", "--first", "t0", "--jobs", "2", GATE_POLL_MAX="0.5")
    other.await_event("gate.waiting_for_lock")
    assert stamps(database, TENANTS) == dict.fromkeys(TENANTS, "a1")
    barrier.touch()
    results = [one.wait(), other.wait()]
    assert [each.code for each in results] == [0, 0]
    assert migrated(results[0])[0] == "t0"
    assert applied(database) == ALL_APPLIED


def test_a_role_with_too_few_connections_for_all_jobs_is_refused_with_the_number(
    gate: GateRunner, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    grants = [f"GRANT ALL ON SCHEMA {name} TO {{role}}" for name in TENANTS]
    grants += [f"GRANT ALL ON {name}.alembic_version TO {{role}}" for name in TENANTS]
    url = database.create_role("secret", *grants, "ALTER ROLE {role} CONNECTION LIMIT 9")
    failed = gate("migrate", "--schemas", "t*", "--jobs", "3", DATABASE_URL=url)
    assert failed.code == 78, failed.err
    assert "gate needs 10 connections" in failed.failure
    assert applied(database) == []


def test_each_upgrade_sees_the_migration_url_as_its_database_url(
    gate: GateRunner, project: Project, database: TestDatabase, another_database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    (project.folder / "shop.py").write_text("import os\nURL = os.environ['DATABASE_URL']\n")
    use_cookbook_env(project, imports="import shop", before='assert shop.URL == os.environ["DATABASE_URL"]')
    create_tenants(another_database, TENANTS, "a2")
    done = gate(
        "migrate", "--schemas", "t*", "--jobs", "2", DATABASE_URL=another_database.url,
        MIGRATION_DATABASE_URL=database.url, PYTHONPATH=str(project.folder),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert applied(database) == ALL_APPLIED


def test_the_placeholder_shows_how_many_are_done(
    gate: GateRunner, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    create_tenants(database, TENANTS, "a1")
    barrier = tmp_path / "go"
    add_logged(project, "a2", "a1", only_in("t5", wait_for_file(barrier)))
    port = free_port()
    arguments = ("run", "--schemas", "t*", "--", "true")
    running = gate.start(*arguments, RUN_MIGRATIONS="1", GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    running.await_event("gate.schema_migrated", lambda event: event["progress"] == "5/6")

    def shown() -> str:
        return str(httpx.get(f"http://127.0.0.1:{port}/health/ready").json().get("migrating"))

    await_true(lambda: "at schema 5/6" in shown(), shown, running.process)
    barrier.touch()
    assert running.wait().code == 0


def test_a_terminal_shows_a_progress_bar_and_every_line_of_the_log_whole(
    project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    ours, theirs = pty.openpty()
    environment = {**environment_without_settings(), "DATABASE_URL": database.url, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [*GATE_COMMAND, "migrate", "--schemas", "t*", "--jobs", "2"],
        cwd=project.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        output = b"".join(_read_terminal(ours))
    os.close(ours)
    text = output.decode()
    assert process.returncode == 0, text
    assert re.search(r"\d/6", text)
    assert "schemas" in text
    for name in TENANTS:
        assert re.search(
            rf"(^|[\r\n\x1b\[K])\d\d:\d\d:\d\d INFO     gate.schema_migrated: Schema {name} migrated .*\r\n", text
        )


def _read_terminal(descriptor: int) -> list[bytes]:
    chunks = []
    while select.select([descriptor], [], [], 60)[0]:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except OSError:  # the other end is closed
            break
        chunks.append(chunk)
    return chunks


def test_where_no_terminal_is_there_is_no_progress_bar(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, TENANTS, "a1")
    done = gate("migrate", "--schemas", "t*", GATE_LOG_FORMAT="console")
    assert done.code == 0
    assert "\r" not in done.err
    assert "%" not in done.err


def test_what_is_missing_in_a_schema_that_was_migrated_is_noticed(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    (project.folder / "models.py").write_text(
        "from sqlalchemy import Column, Integer, MetaData, Table\n"
        "metadata = MetaData()\nTable('new', metadata, Column('id', Integer, primary_key=True))\n"
    )
    assert gate("expect", "--no-env-py", "models:metadata", PYTHONPATH=str(project.folder)).code == 0
    create = 'op.execute("CREATE TABLE new (id int PRIMARY KEY)")'
    skipped = f'if op.get_bind().exec_driver_sql("SELECT current_schema()").scalar() != "t4":\n    {create}'
    add_logged(project, "a2", "a1", skipped)
    failed = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert failed.code == 76, failed.err
    assert "t4" in failed.failure
    assert "new" in failed.failure


def test_with_keep_going_the_others_are_migrated_although_one_has_diverged(
    gate: GateRunner, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    database.execute("INSERT INTO t3.alembic_version VALUES ('another')")
    refused = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (refused.code, migrated(refused)) == (76, [])
    refused = gate("migrate", "--schemas", "t*", "--jobs", "2", "--keep-going")
    assert (refused.code, sorted(migrated(refused))) == (76, [name for name in TENANTS if name != "t3"])


def test_a_server_in_stay_mode_starts_when_the_failed_schema_is_repaired(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    add_logged(project, "a2", "a1", only_in("t3", 'raise ValueError("broken")'))
    running = gate.start(
        "run", "--schemas", "t*", "--keep-going", "--", "true", RUN_MIGRATIONS="1", GATE_ON_FAILURE="stay",
        GATE_POLL_MAX="0.5",
    )  # fmt: skip
    running.await_event("gate.staying")
    database.execute("UPDATE t3.alembic_version SET version_num = 'a2'")
    done = running.wait()
    assert (done.code, done.names()[-1]) == (0, "gate.starting")
