"""The search on a hot standby: it only reads, and locks nothing but the catalog, in the weakest mode."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from gate.database.postgresql.missing import find_missing
from tests.conftest import GateRunner, TestDatabase
from tests.support.needs import ITEMS, missing, needs, record
from tests.support.programs import await_true
from tests.support.projects import Project

CREATE = "CREATE TABLE items (id serial PRIMARY KEY, name text)"


def await_replay(primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> None:
    """Wait until the standby has applied all that the primary has written."""
    [(written,)] = primary.execute("SELECT CAST(pg_current_wal_lsn() AS text)")
    replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
    await_true(lambda: standby.execute(replayed) == [(True,)], lambda: "the standby does not follow its primary")


@pytest.fixture(scope="module")
def primary() -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def standby(primary: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres().follow(primary)
    yield server
    server.remove()


def test_a_check_with_expectations_judges_a_standby_as_its_primary(
    project: Project, primary: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
    primary.execute("CREATE DATABASE shop")
    origin, copy = TestDatabase(primary, "shop"), TestDatabase(standby, "shop")
    origin.stamp("a3")
    origin.execute(CREATE)
    record(project.folder, ITEMS)
    gate = GateRunner(project.folder, copy.url)
    await_replay(primary, standby)
    assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]
    assert gate("check").code == 0
    origin.execute("ALTER TABLE items DROP COLUMN name; ALTER TABLE items ADD sku text NOT NULL")
    await_replay(primary, standby)
    assert missing(copy.url, ITEMS) == ["items.name", "items.sku(NOT NULL)"]
    ended = gate("check")
    assert (ended.code, ended.out.split()[0]) == (1, "INCOMPLETE")


def test_the_search_only_reads_the_catalog(database: TestDatabase) -> None:
    database.execute(f"{CREATE}; ALTER TABLE items DROP COLUMN name; ALTER TABLE items ADD sku text NOT NULL")
    with psycopg.connect(database.url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET TRANSACTION READ ONLY")
        found = find_missing(
            lambda statement, names: connection.execute(
                statement.replace("%", "%%").replace(":needs", "%(needs)s"), {"needs": names}
            ).fetchone(),
            needs(ITEMS),
        )
        locks = connection.execute(
            "SELECT relation::regclass::text, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
        ).fetchall()
    assert found.total == 2
    assert {mode for _, mode in locks} == {"AccessShareLock"}
    assert {name for name, _ in locks if not str(name).startswith("pg_")} == set(), "it waits for no migration"
