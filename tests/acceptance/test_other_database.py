"""env.py that connects elsewhere than gate looked: nothing may be applied there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.projects import ASYNC_ENV, SYNC_ENV, make_project

SQLITE_ENV = """
from alembic import context
from sqlalchemy import create_engine

with create_engine("sqlite:///{path}").connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("command", [("migrate",), ("run", "--", *SERVER)])
def test_env_py_that_connects_to_another_database_applies_nothing(
    gate: GateRunner,
    database: TestDatabase,
    another_database: TestDatabase,
    tmp_path: Path,
    driver: str,
    command: tuple[str, ...],
) -> None:
    template = ASYNC_ENV if driver == "asyncpg" else SYNC_ENV
    environment = template.format(driver=driver, options="").replace(
        'os.environ["DATABASE_URL"]', repr(another_database.url)
    )
    gate.folder = make_project(tmp_path / "elsewhere", environment=environment).chain("a1", "a2").folder
    ended = gate(*command, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (78, "")
    assert another_database.name in ended.failure
    assert "Nothing was applied" in ended.failure
    assert another_database.tables() == database.tables() == set()


def test_env_py_that_connects_to_another_kind_of_database_applies_nothing(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "test.db"
    gate.folder = make_project(tmp_path / "lite", environment=SQLITE_ENV.format(path=path)).chain("a1").folder
    ended = gate("migrate")
    assert ended.code == 78
    assert "sqlite" in ended.failure
    assert "Nothing was applied" in ended.failure
    assert database.tables() == set()
    assert not path.exists() or path.stat().st_size == 0


@pytest.mark.parametrize("named_for", ["env.py alone", "gate alone"])
def test_an_env_py_that_keeps_its_stamp_in_another_table_applies_nothing(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, named_for: str
) -> None:
    environment = SYNC_ENV.format(driver="psycopg", options="")
    settings = {"GATE_VERSION_TABLE": "shop_version"}
    if named_for == "env.py alone":
        configure = "context.configure(connection=connection, **json.loads(OPTIONS))"
        environment = environment.replace("context.configure(connection=connection)", configure)
        environment = f'import json\nOPTIONS = \'{{"version_table": "shop_version"}}\'\n{environment}'
        settings = {}
    gate.folder = make_project(tmp_path / "elsewhere", environment=environment).chain("a1").folder
    ended = gate("migrate", **settings)
    assert ended.code == 78
    theirs, ours = ("shop_version", "alembic_version") if not settings else ("alembic_version", "shop_version")
    assert f"env.py uses the version table {theirs}, but gate reads {ours}" in ended.failure
    assert f"GATE_VERSION_TABLE={theirs}" in ended.failure
    assert "Nothing was applied" in ended.failure
    assert database.tables() == set()
    if not settings:
        assert gate("migrate", GATE_VERSION_TABLE="shop_version").code == 0


def test_the_same_database_by_another_name_of_its_host_is_no_other_database(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    url = database.url.replace("127.0.0.1", "localhost")
    environment = SYNC_ENV.format(driver="psycopg", options="").replace('os.environ["DATABASE_URL"]', repr(url))
    gate.folder = make_project(tmp_path / "same", environment=environment).chain("a1").folder
    assert gate("migrate").code == 0
    assert database.stamped() == {"a1"}


def test_a_migration_url_leads_the_migration_there_and_the_last_look_goes_where_the_server_will(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase
) -> None:
    # Migrated is the one, used is the other: the server must not start on a database that nobody migrated.
    waiting = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1", MIGRATION_DATABASE_URL=another_database.url)
    line = waiting.await_event("gate.waiting")
    assert (line["verdict"], line["database"]) == ("EMPTY", database.name)
    assert "Correct one of the URLs" in line["message"]
    assert "RUN_MIGRATIONS" not in line["message"]
    assert another_database.stamped() == {"a3"}
    assert waiting.out == []
    database.stamp("a3")
    assert waiting.wait().out == "server started\n"


def test_a_refusal_of_where_the_server_will_look_denies_no_migration(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase
) -> None:
    database.execute("CREATE TABLE other (id int)")
    environment = {"RUN_MIGRATIONS": "1", "MIGRATION_DATABASE_URL": another_database.url, "GATE_ON_UNSTAMPED": "refuse"}
    ended = gate("run", "--", *SERVER, **environment)
    assert (ended.code, another_database.stamped()) == (76, {"a3"})
    assert "Nothing migrated" not in ended.failure
    assert "Correct one of the URLs" in ended.failure


def test_the_last_look_goes_where_libpqs_own_variables_lead_the_server(
    gate: GateRunner, database: TestDatabase, another_database: TestDatabase
) -> None:
    place = urlsplit(database.url)
    libpq = {
        "PGHOST": place.hostname or "",
        "PGPORT": str(place.port),
        "PGUSER": "postgres",
        "PGDATABASE": database.name,
    }
    environment = {"DATABASE_URL": "", "MIGRATION_DATABASE_URL": another_database.url, "RUN_MIGRATIONS": "1", **libpq}
    waiting = gate.start("run", "--", *SERVER, **environment)
    line = waiting.await_event("gate.waiting")
    assert (line["verdict"], line["database"]) == ("EMPTY", database.name)
    assert another_database.stamped() == {"a3"}
    database.stamp("a3")
    assert waiting.wait().out == "server started\n"
