"""A primary that is lost and replaced by its streaming standby, as gates see it that wait or read one or the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.conftest import GateRunner, TestDatabase
from tests.support.failover_rounds import ATTRIBUTES, Replication, crash, return_as_standby, url_of_both
from tests.support.faulty_proxy import faulty_proxy
from tests.support.projects import ASYNC_ENV, SYNC_ENV, Project

SHORT = {"GATE_POLL_MAX": "0.5", "GATE_CONNECT_TIMEOUT": "2", "GATE_QUERY_TIMEOUT": "2"}
SERVER = ("--", sys.executable, "-c", "print('server started', flush=True)")


@pytest.fixture(scope="module")
def replication() -> Iterator[Replication]:
    """A primary that each test replaces by another one."""
    with Replication.start() as replication:
        yield replication


@pytest.fixture
def primary(replication: Replication) -> TestDatabase:
    """A new database on the primary."""
    return replication.new_database()


@pytest.fixture
def standby(replication: Replication, primary: TestDatabase) -> EmbeddedPostgres:
    """The standby of that primary."""
    return replication.add_standby(synchronous=True)


@pytest.mark.parametrize(
    ("attribute", "repeated"),
    [("read-write", False), ("primary", True)],
    ids=["host=a,b&port=1,2 read-write", "host=a:1&host=b:2 primary"],
)
def test_gates_that_wait_pass_when_the_promoted_standby_is_migrated(
    project: Project,
    replication: Replication,
    primary: TestDatabase,
    standby: EmbeddedPostgres,
    attribute: str,
    repeated: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    ports = [standby.port, primary.server.port]
    gate = GateRunner(project.folder, url_of_both(ports, primary.name, attribute, repeated=repeated))
    with gate.running:
        waiting = [gate.start(*words, **SHORT) for words in (("wait",), ("run", *SERVER))]
        for each in waiting:
            each.await_event("gate.waiting", lambda e: e.get("verdict") == "EMPTY")
        crash(primary.server)
        for each in waiting:
            away = each.await_event("gate.waiting", lambda e: "standby" in e["message"])
            assert "accepts writes" in away["message"], away
        standby.promote()
        return_as_standby(primary.server)
        migrated = gate("migrate", **SHORT)
        assert migrated.code == 0, migrated.err
        ended = [each.wait() for each in waiting]
    assert [each.code for each in ended] == [0, 0], ended
    assert ended[1].out == "server started\n"
    assert TestDatabase(standby, primary.name).stamped() == {"a3"}
    replication.replace(standby)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_each_driver_that_knows_several_hosts_migrates_the_promoted_standby(
    project: Project, replication: Replication, primary: TestDatabase, standby: EmbeddedPostgres, driver: str
) -> None:
    environment = (ASYNC_ENV if driver == "asyncpg" else SYNC_ENV).format(driver=driver, options="")
    (project.folder / "migrations" / "env.py").write_text(environment)
    ports = [primary.server.port, standby.port]
    url = url_of_both(ports, primary.name, "primary", repeated=True).replace("postgresql:", f"postgresql+{driver}:")
    gate = GateRunner(project.folder, url)
    with gate.running:
        crash(primary.server)
        migrating = gate.start("migrate", **SHORT)
        migrating.await_event("gate.waiting", lambda e: "standby" in e["message"])
        standby.promote()
        return_as_standby(primary.server)
        ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert TestDatabase(standby, primary.name).stamped() == {"a3"}
    replication.replace(standby)


def test_a_migration_passes_over_a_host_that_accepts_and_is_silent(project: Project, database: TestDatabase) -> None:
    (project.folder / "migrations" / "env.py").write_text(SYNC_ENV.format(driver="psycopg2", options=""))
    with faulty_proxy(database.server.port) as proxy:
        proxy.is_open = False
        gate = GateRunner(project.folder, url_of_both([proxy.port, database.server.port], database.name, "primary"))
        with gate.running:
            ended = gate("migrate", **SHORT)
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a3"}


def test_a_standby_that_is_never_promoted_is_waited_for_and_named(
    project: Project, replication: Replication, primary: TestDatabase, standby: EmbeddedPostgres
) -> None:
    both, alone = [primary.server.port, standby.port], [standby.port]
    gate = GateRunner(project.folder, "")
    with gate.running:
        crash(primary.server)
        urls = [url_of_both(both, primary.name, "any"), url_of_both(alone, primary.name, "any")]
        urls += [url_of_both(both, primary.name, attribute) for attribute in ATTRIBUTES]
        migrating = [gate.start("migrate", DATABASE_URL=url, GATE_TIMEOUT="8", **SHORT) for url in urls]
        results = [each.wait() for each in migrating]
    for ended in results:
        assert ended.code == 124, ended.err
        assert "standby" in ended.event("gate.waiting")["message"], ended.err
        assert "standby" in ended.failure
    standby.promote()
    replication.replace(standby)
