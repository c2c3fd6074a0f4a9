"""A primary that is lost and replaced by its streaming standby, and one that still answers beside the new primary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import indent

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.conftest import GateRunner, TestDatabase
from tests.support.failover_rounds import ATTRIBUTES, Replication, crash, return_as_standby, url_of_both
from tests.support.faulty_proxy import faulty_proxy
from tests.support.pooler import PoolerFactory
from tests.support.programs import await_true
from tests.support.projects import ASYNC_ENV, SYNC_ENV, Project, wait_for_file

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


REQUEST = "SELECT state FROM pg_stat_activity WHERE query LIKE 'BEGIN%pg_try_advisory_xact_lock%'"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


def test_a_gate_at_a_standby_is_no_holder_of_the_lock(
    project: Project, replication: Replication, primary: TestDatabase, standby: EmbeddedPostgres
) -> None:
    with faulty_proxy(standby.port) as proxy:
        proxy.on_message(b"pg_try_advisory_xact_lock", proxy.freeze, is_forwarded=True)
        gate = GateRunner(project.folder, url_of_both([proxy.port], primary.name, "any"))
        with gate.running:
            migrating = gate.start("migrate", GATE_CONNECT_TIMEOUT="20", GATE_QUERY_TIMEOUT="20")
            answered = [("idle in transaction",)]
            await_true(lambda: standby.execute(REQUEST) == answered, lambda: "".join(migrating.err), migrating.process)
            assert standby.execute(LOCKS) == [(0,)]
    standby.promote()
    replication.replace(standby)


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


@pytest.fixture(scope="module")
def other_server() -> Iterator[EmbeddedPostgres]:
    """A second server that accepts writes, as a promoted standby does while the old primary still answers."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@pytest.fixture
def promoted(database: TestDatabase, other_server: EmbeddedPostgres) -> TestDatabase:
    """The database of the same name on the second server."""
    other_server.execute(f"CREATE DATABASE {database.name}")
    return TestDatabase(other_server, database.name)


def wait_in_env_py(project: Project, name: str, *, at_end: bool = False) -> Path:
    """Let env.py wait for a file before it connects, or at its end, and return the path of that file."""
    path, file = project.folder / "migrations" / "env.py", project.folder / name
    text, wait = path.read_text(), wait_for_file(file)
    path.write_text(f"{text}\n{wait}" if at_end else f"{wait}\n{text}")
    return file


def test_no_server_is_migrated_under_the_lock_of_another_one(
    project: Project, database: TestDatabase, promoted: TestDatabase
) -> None:
    file = wait_in_env_py(project, "returned")
    with faulty_proxy(database.server.port) as old:
        old.new_connections = partial(old.reset, newest=True)
        ports = [old.port, promoted.server.port]
        gate = GateRunner(project.folder, url_of_both(ports, database.name, "read-write"))
        with gate.running:
            migrating = gate.start("migrate", **SHORT)
            migrating.await_event("gate.migrating")
            old.new_connections = None  # the old primary returns, and accepts writes
            file.touch()
            away = migrating.await_event("gate.waiting", lambda e: "another server" in e["message"])
            ended = migrating.wait()
    assert "Nothing was applied; gate tries again." in away["message"]
    assert ended.code == 0, ended.err
    assert database.stamped() == {"a3"}
    assert promoted.tables() == set()


def test_a_failover_between_two_connections_is_not_taken_for_a_server_that_ignores_locks(
    project: Project, database: TestDatabase, promoted: TestDatabase
) -> None:
    with faulty_proxy(database.server.port) as old:

        def refuse() -> None:
            old.new_connections = partial(old.reset, newest=True)

        old.on_message(b"pg_try_advisory_xact_lock", refuse)
        ports = [old.port, promoted.server.port]
        gate = GateRunner(project.folder, url_of_both(ports, database.name, "read-write"))
        with gate.running:
            migrating = gate.start("migrate", **SHORT)
            away = migrating.await_event("gate.waiting")
            ended = migrating.wait()
    assert "another server" in away["message"]
    assert ended.code == 0, ended.err
    assert (database.tables(), promoted.stamped()) == (set(), {"a3"})


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_that_leads_elsewhere_before_the_first_revision_is_followed(
    gate: GateRunner, project: Project, database: TestDatabase, promoted: TestDatabase, pooler: PoolerFactory, mode: str
) -> None:
    file, pooled = wait_in_env_py(project, "switched"), pooler(mode)
    gate.url = pooled.url(database.name)
    migrating = gate.start("migrate", **SHORT)
    migrating.await_event("gate.migrating")
    pooled.lead_to(promoted.server.port)
    file.touch()
    migrating.await_event("gate.waiting", lambda e: "another server" in e["message"])
    assert migrating.wait().code == 0
    assert promoted.stamped() == {"a3"}
    assert database.tables() == set()


def test_no_transaction_is_run_on_a_server_without_the_lock(
    gate: GateRunner, project: Project, database: TestDatabase, promoted: TestDatabase, pooler: PoolerFactory
) -> None:
    (project.folder / "migrations" / "env.py").write_text(
        SYNC_ENV.format(driver="psycopg", options=", transaction_per_migration=True")
    )
    file, pooled = project.folder / "switched", pooler("transaction")
    project.add("a4", "a3", "with op.get_context().autocommit_block():\n" + indent(wait_for_file(file), "    "))
    project.add("a5", "a4", 'op.execute("CREATE TABLE t_a5 (id int)")')
    promoted.stamp("a3")
    gate.url = pooled.url(database.name)
    migrating = gate.start("migrate", **SHORT)
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    pooled.lead_to(promoted.server.port)
    file.touch()
    ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert "another server" in ended.failure
    assert (database.stamped(), promoted.stamped()) == ({"a3"}, {"a3"})


def test_a_migration_that_is_checked_on_another_server_is_69(
    gate: GateRunner, project: Project, database: TestDatabase, promoted: TestDatabase, pooler: PoolerFactory
) -> None:
    file, pooled = wait_in_env_py(project, "switched", at_end=True), pooler("session")
    (project.folder / "switched").touch()
    gate.url = pooled.url(database.name)
    project.add("a4", "a3", f"os = __import__('os')\nos.unlink({str(file)!r})")
    migrating = gate.start("migrate", **SHORT)
    migrating.await_event("gate.revision_applied", lambda e: e["revision"] == "a4")
    pooled.lead_to(promoted.server.port)
    file.touch()
    ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert "another server" in ended.failure
    assert database.stamped() == {"a4"}
