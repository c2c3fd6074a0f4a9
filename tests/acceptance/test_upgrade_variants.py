"""Migrating by another role, another driver, another program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import Project, make_project

ALEMBIC = f"{sys.executable} -m alembic upgrade heads"


def role_of(url: str) -> str:
    return url.split("//")[1].split(":", maxsplit=1)[0]


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_env_py_may_use_any_driver(gate: GateRunner, database: TestDatabase, tmp_path: Path, driver: str) -> None:
    gate.folder = make_project(tmp_path / driver, driver=driver).chain("a1", "a2").folder
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (0, "server started\n")
    assert database.stamped() == {"a2"}
    assert database.tables() == {"t_a1", "t_a2", "alembic_version"}
    assert [e["progress"] for e in ended.events if e["event"] == "gate.revision_applied"] == ["1/2", "2/2"]


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql+psycopg2", "postgresql+psycopg", "postgres"])
def test_gate_looks_through_any_drivers_url(gate: GateRunner, database: TestDatabase, scheme: str) -> None:
    database.stamp("a3")
    assert gate("check", DATABASE_URL=database.server.url(database.name, scheme=scheme)).code == 0


def test_a_migration_gets_the_url_verbatim(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    url = (
        database.server.url(database.name, scheme="postgresql+asyncpg") + "?prepared_statement_cache_size=0&ssl=disable"
    )
    env = project.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace(".set(", ".set(query={}, "))
    project.add("a4", "a3", "import os\nprint(os.environ['DATABASE_URL'])")
    ended = gate("migrate", DATABASE_URL=url)
    assert (ended.code, ended.out) == (0, url + "\n")


def test_a_more_privileged_role_migrates_and_the_server_keeps_its_own(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    url = database.create_role("x")
    grant = f"GRANT SELECT ON alembic_version TO {role_of(url)}"
    project.add("a4", "a3", f"import os\nop.execute({grant!r})\nprint(os.environ['DATABASE_URL'], flush=True)")
    environment = {"DATABASE_URL": url, "MIGRATION_DATABASE_URL": database.url, "RUN_MIGRATIONS": "1"}
    ended = gate("run", "--", "sh", "-c", 'echo "$DATABASE_URL"', **environment)
    assert ended.code == 0, ended.err
    assert ended.out == f"{database.url}\n{url}\n"
    assert database.stamped() == {"a4"}


def test_a_migrated_schema_that_the_servers_role_may_not_read_keeps_the_server_waiting(
    gate: GateRunner, database: TestDatabase
) -> None:
    url = database.create_role("x")
    environment = {"DATABASE_URL": url, "MIGRATION_DATABASE_URL": database.url, "RUN_MIGRATIONS": "1"}
    waiting = gate.start("run", "--", *SERVER, **environment)
    line = waiting.await_event("gate.waiting")
    assert f"GRANT SELECT ON public.alembic_version TO {role_of(url)}" in line["message"]
    database.execute(f"GRANT SELECT ON alembic_version TO {role_of(url)}")
    ended = waiting.wait()
    assert ended.out == "server started\n"
    assert ended.names().count("gate.migrating") == 1


def test_a_role_that_may_not_migrate_fails_with_its_cause(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("migrate", DATABASE_URL=database.create_role("x"))
    assert ended.code == 65
    assert "permission denied" in ended.failure
    assert database.tables() == set()


def test_wait_and_check_look_by_the_servers_role_and_not_by_the_migrations(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase
) -> None:
    another_database.stamp("a3")
    found = gate("check", "--json", MIGRATION_DATABASE_URL=another_database.url)
    assert json.loads(found.out)["database"] == database.name
    assert gate("wait", MIGRATION_DATABASE_URL=another_database.url, GATE_TIMEOUT="0.3").code == 124


def test_an_upgrade_command_upgrades_instead_of_gate(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_UPGRADE_COMMAND=ALEMBIC)
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert database.stamped() == {"a3"}
    assert ended.event("gate.upgrade_command")["level"] == "info"
    assert "applied" not in ended.event("gate.migrated")["message"].split(";")[0]


def test_an_upgrade_command_sees_the_migration_url(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase
) -> None:
    environment = {"GATE_UPGRADE_COMMAND": ALEMBIC, "MIGRATION_DATABASE_URL": database.url}
    assert gate("migrate", DATABASE_URL=another_database.url, GATE_TIMEOUT="2", **environment).code == 124
    assert database.stamped() == {"a3"}
    assert another_database.tables() == set()


def test_of_three_upgrade_commands_at_once_one_runs(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    runs = project.folder / "runs"
    command = f"""sh -c 'echo run >> {runs}; sleep 0.5; {ALEMBIC}'"""
    migrating = [gate.start("migrate", GATE_UPGRADE_COMMAND=command) for _ in range(3)]
    assert [each.wait().code for each in migrating] == [0, 0, 0]
    assert runs.read_text() == "run\n"
    assert database.stamped() == {"a3"}


@pytest.mark.parametrize(
    ("command", "cause"),
    [("sh -c 'exit 3'", "exit code 3"), ("true", "EMPTY"), ("/no/such/alembic upgrade", "/no/such/alembic")],
    ids=["fails", "does nothing", "does not exist"],
)
def test_an_upgrade_command_that_does_not_upgrade_has_failed(
    gate: GateRunner, database: TestDatabase, command: str, cause: str
) -> None:
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_UPGRADE_COMMAND=command)
    assert (ended.code, ended.out) == (65, "")
    assert cause in ended.failure
    assert database.tables() == set()


def test_an_upgrade_commands_children_end_with_it(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    project.add("a4", "a3", "print('computing', flush=True)\nwhile True: pass")
    migrating = gate.start("migrate", GATE_UPGRADE_COMMAND=f"sh -c '{ALEMBIC}; true'")
    migrating.await_output("computing")
    migrating.process.terminate()
    assert migrating.wait(timeout=10).code == 143
    assert database.backends() == []
    assert database.tables() == set()


def test_an_argument_for_env_py_reaches_it(gate: GateRunner, project: Project) -> None:
    env = project.folder / "migrations" / "env.py"
    env.write_text(env.read_text() + "\nprint(sorted(context.get_x_argument()))\n")
    assert gate("migrate", "-x", "tenant=eu", "-x", "dry").out == "['dry', 'tenant=eu']\n"


def test_a_project_without_an_ini_file_is_read_and_migrated(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    (project.folder / "alembic.ini").unlink()
    (project.folder / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/migrations"\n')
    assert gate("heads").out == "a3\n"
    assert gate("migrate").code == 0
    assert database.stamped() == {"a3"}


def test_a_section_of_the_ini_file_may_be_chosen(gate: GateRunner, project: Project, database: TestDatabase) -> None:
    (project.folder / "other.ini").write_text("[billing]\nscript_location = %(here)s/migrations\n")
    (project.folder / "alembic.ini").unlink()
    assert gate("heads", "-c", "other.ini").code == 78
    assert gate("heads", "-c", "other.ini", "-n", "billing").out == "a3\n"
    assert gate("migrate", "-c", "other.ini", "--name", "billing").code == 0
    assert database.stamped() == {"a3"}


def test_scripts_that_compute_their_revision_are_loaded_by_alembic_and_the_log_says_which(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    path = project.add("a4", "a3")
    path.write_text(path.read_text().replace("revision = 'a4'", "revision = 'a' + str(4)"))
    ended = gate("migrate")
    assert ended.code == 0
    assert str(path) in ended.event("gate.asked_alembic")["message"]
    assert database.stamped() == {"a4"}
