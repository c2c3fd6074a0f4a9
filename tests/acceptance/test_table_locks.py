"""A migration never queues the traffic: it waits for a lock only so long, and tries again (hazards.md 15)."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from gate.database.lock import LOCK_CLASS
from tests.conftest import GateRunner, TestDatabase
from tests.support.pooler import PoolerFactory
from tests.support.programs import TIMEOUT, RunningProgram, await_true
from tests.support.projects import SYNC_ENV, Project, make_project

LIMIT = 2.0
SETTINGS = {"GATE_TABLE_LOCK_TIMEOUT": f"{LIMIT:g}", "GATE_POLL_MAX": "0.5"}
QUICK = {"GATE_TABLE_LOCK_TIMEOUT": "0.5", "GATE_POLL_MAX": "0.5"}
ALTER = 'op.execute("ALTER TABLE items ADD COLUMN stock int")'
ONCE = 'op.execute("INSERT INTO done VALUES (1)")'
LAST = f"{ONCE}\n{ALTER}"
DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000")


@pytest.fixture
def items(database: TestDatabase, project: Project) -> TestDatabase:
    """A table that an application uses, and a last revision that changes it."""
    database.execute("CREATE TABLE items AS SELECT generate_series(1, 10) AS id")
    database.execute("CREATE TABLE done (n int)")
    project.add("a4", "a3", LAST)
    return database


@contextmanager
def holder(database: TestDatabase, statement: str = "SELECT * FROM items") -> Iterator[psycopg.Connection]:
    """A transaction that stays open; the table is locked until it ends."""
    with psycopg.connect(database.url, application_name="web") as connection:
        connection.execute(statement)
        yield connection


class Reader(threading.Thread):
    """An application that reads all the time; `longest`: seconds of its slowest SELECT."""

    def __init__(self, database: TestDatabase) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.longest, self.count = 0.0, 0
        self._url = database.url

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self.over.is_set():
                began = time.monotonic()
                connection.execute("SELECT count(*) FROM items")
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1
                self.over.wait(0.01)


@contextmanager
def reader(database: TestDatabase) -> Iterator[Reader]:
    reading = Reader(database)
    reading.start()
    try:
        yield reading
    finally:
        reading.over.set()
        reading.join(TIMEOUT)


def lock_timeouts(program: RunningProgram, number: int) -> None:
    """Wait until the migration has been tried so often."""
    program.await_event("gate.table_lock_timeout", lambda e: e["attempt"] >= number)


def is_applied_once(database: TestDatabase) -> bool:
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'stock'"
    return (
        database.stamped() == {"a4"}
        and database.execute("SELECT * FROM done") == [(1,)]
        and database.execute(columns) == [(1,)]
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_select_waits_longer_than_the_time_out_and_the_migration_ends_when_the_holder_is_gone(
    gate: GateRunner, project: Project, items: TestDatabase, driver: str
) -> None:
    env = make_project(project.folder.with_name(driver), driver=driver).folder / "migrations" / "env.py"
    env.replace(project.folder / "migrations" / "env.py")
    with reader(items) as reading:
        with holder(items) as open_:
            migrating = gate.start("migrate", **SETTINGS)
            lock_timeouts(migrating, 2)
            pid = open_.info.backend_pid
        ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert is_applied_once(items)
    event = ended.event("gate.table_lock_timeout")
    assert (event["revision"], event["relation"], event["blocked_by"]) == ("a4", "items", [pid])
    assert event["conflict"] == "timeout"
    assert f"blocked by backend {pid} (web; idle in transaction; its transaction began" in event["message"]
    assert f"SELECT pg_terminate_backend({pid})" in event["message"]
    assert "(try 2 of 11)" in event["message"]
    assert reading.count > 0
    assert reading.longest < LIMIT + 1


def test_through_a_pooler_no_limit_leaks_to_another_client(
    gate: GateRunner, items: TestDatabase, pooler: PoolerFactory
) -> None:
    gate.url = pooler("transaction", 4).url(items.name)
    with holder(items):
        migrating = gate.start("migrate", **QUICK)
        lock_timeouts(migrating, 1)
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert is_applied_once(items)
    with psycopg.connect(gate.url, autocommit=True, prepare_threshold=None) as client:
        assert client.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_a_deadlock_with_the_application_is_tried_again(
    gate: GateRunner, project: Project, items: TestDatabase
) -> None:
    items.execute("CREATE TABLE orders (id int)")
    project.add("a4", "a3", f'{ONCE}\nop.execute("LOCK TABLE orders")\nop.execute("SELECT pg_sleep(1)")\n{ALTER}')
    with psycopg.connect(items.url, application_name="web") as application:
        application.execute("SET deadlock_timeout = '1h'")  # so that the migration is the victim
        application.execute("SELECT * FROM items")
        migrating = gate.start("migrate", GATE_TABLE_LOCK_TIMEOUT="30")
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass AND mode = 'AccessExclusiveLock'"
        await_true(lambda: items.execute(waiting) == [(1,)], lambda: "".join(migrating.err), migrating.process)
        application.execute("SELECT * FROM orders")  # returns when the migration has been rolled back
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert ended.event("gate.table_lock_timeout")["conflict"] == "deadlock"
    assert is_applied_once(items)


def test_exhausted_retries_are_65_and_name_who_blocks_and_how_to_end_it(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items) as open_:
        ended = gate("migrate", "--table-lock-timeout", "0.5", "--table-lock-retries", "1")
        pid = open_.info.backend_pid
    assert ended.code == 65
    assert "after 2 tries (GATE_TABLE_LOCK_RETRIES=1)" in ended.failure
    assert f"for a lock on items, blocked by backend {pid} (web; idle in transaction" in ended.failure
    assert f"SELECT pg_terminate_backend({pid})" in ended.failure
    assert "Still pending: a1, a2, a3, a4" in ended.failure
    assert ended.names().count("gate.table_lock_timeout") == 1


def test_a_role_that_may_not_see_others_still_names_who_blocks(
    gate: GateRunner, project: Project, items: TestDatabase
) -> None:
    gate.url = items.create_role(
        "secret", "GRANT CREATE ON SCHEMA public TO {role}", "ALTER TABLE items OWNER TO {role}",
        "ALTER TABLE done OWNER TO {role}",
    )  # fmt: skip
    with holder(items) as open_:
        ended = gate("migrate", GATE_TABLE_LOCK_RETRIES="0", **QUICK)
        pid = open_.info.backend_pid
    assert ended.code == 65
    assert f"blocked by backend {pid} (web); to end that session: SELECT pg_terminate_backend({pid})" in ended.failure


def test_sigterm_between_two_tries_ends_gate_and_leaves_nothing(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items):
        migrating = gate.start("migrate", **QUICK)
        lock_timeouts(migrating, 3)  # a pause of some four seconds begins
        migrating.signal(signal.SIGTERM)
        ended = migrating.wait(timeout=20)
    assert ended.code == 143
    assert "gate.migration_interrupted" in ended.names()
    assert items.tables() == {"items", "done"}
    assert items.execute("SELECT * FROM done") == []


def test_after_a_kill_between_two_tries_the_next_migrator_finishes(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items):
        migrating = gate.start("migrate", **QUICK)
        lock_timeouts(migrating, 3)
        migrating.process.kill()
    ended = gate("migrate", **QUICK)
    assert ended.code == 0, ended.err
    assert is_applied_once(items)


def test_a_migration_lock_that_is_lost_between_two_tries_is_69(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items):
        migrating = gate.start("migrate", **QUICK)
        lock_timeouts(migrating, 3)
        items.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            f" WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND granted"
        )
        ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert "lock was lost" in ended.failure


def test_of_five_migrators_one_tries_again_and_all_succeed(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items):
        five = [gate.start("migrate", **QUICK) for _ in range(5)]
        await_true(
            lambda: sum("gate.table_lock_timeout" in line for each in five for line in each.err) >= 2,
            lambda: "\n".join("".join(each.err) for each in five),
        )
    ended = [each.wait() for each in five]
    assert [each.code for each in ended] == [0] * 5
    assert sum("gate.table_lock_timeout" in each.names() for each in ended) == 1
    assert is_applied_once(items)


def test_gate_migration_timeout_ends_the_tries(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items):
        ended = gate("migrate", GATE_MIGRATION_TIMEOUT="8", **QUICK)
    assert ended.code == 65
    assert "GATE_MIGRATION_TIMEOUT" in ended.failure


def test_one_transaction_for_all_revisions_is_repeated_as_a_whole_and_said_once(
    gate: GateRunner, items: TestDatabase
) -> None:
    with holder(items):
        migrating = gate.start("migrate", **QUICK)
        lock_timeouts(migrating, 2)
    ended = migrating.wait()
    assert ended.code == 0
    assert ended.err.count("transaction_per_migration=True") == 1
    started = [e["revision"] for e in ended.events if e["event"] == "gate.revision_started"]
    assert started == ["a1", "a2", "a3", "a4"] * (len(started) // 4)


def test_with_a_transaction_for_each_revision_only_the_one_that_failed_is_repeated(
    gate: GateRunner, project: Project, items: TestDatabase
) -> None:
    env = SYNC_ENV.format(driver="psycopg", options=", transaction_per_migration=True")
    (project.folder / "migrations" / "env.py").write_text(env)
    with holder(items):
        migrating = gate.start("migrate", **QUICK)
        lock_timeouts(migrating, 1)
        assert items.stamped() == {"a3"}
    ended = migrating.wait()
    assert ended.code == 0
    started = [e["revision"] for e in ended.events if e["event"] == "gate.revision_started"]
    assert started[:4] == ["a1", "a2", "a3", "a4"]
    assert set(started[4:]) == {"a4"}
    assert "transaction_per_migration=True" not in ended.err
    assert is_applied_once(items)


@pytest.mark.parametrize("options", ["", ", transaction_per_migration=True"])
def test_a_retry_under_post_deploy_goes_on_to_the_revisions_that_may_wait(
    gate: GateRunner, project: Project, items: TestDatabase, options: str
) -> None:
    (project.folder / "migrations" / "env.py").write_text(SYNC_ENV.format(driver="psycopg", options=options))
    for revision, down, upgrade in (("a4", "a3", LAST), ("a5", "a4", 'op.execute("DROP TABLE t_a1")')):
        path = project.add(revision, down, upgrade)
        path.write_text(path.read_text().replace("depends_on =", "post_deploy = True\ndepends_on =", 1))
    with holder(items):
        migrating = gate.start("migrate", "--post-deploy", **QUICK)
        lock_timeouts(migrating, 2)
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert ended.event("gate.table_lock_timeout")["revision"] == "a4"
    started = [e["revision"] for e in ended.events if e["event"] == "gate.revision_started"]
    assert started[-2:] == ["a4", "a5"]
    assert started.count("a5") == 1
    assert items.stamped() == {"a5"}
    assert items.execute("SELECT * FROM done") == [(1,)]
    assert "t_a1" not in items.tables()
    assert gate("check").out.startswith("CURRENT ")


def test_without_post_deploy_a_busy_table_does_not_keep_the_required_revisions_waiting(
    gate: GateRunner, project: Project, items: TestDatabase
) -> None:
    path = project.add("a4", "a3", LAST)
    path.write_text(path.read_text().replace("depends_on =", "post_deploy = True\ndepends_on =", 1))
    with holder(items):
        ended = gate("migrate", **QUICK)
    assert ended.code == 0, ended.err
    assert "gate.table_lock_timeout" not in ended.names()
    assert items.stamped() == {"a3"}


COMMITTED = {
    "autocommit_block": "with op.get_context().autocommit_block():\n    " + ONCE,
    "a commit": f"{ONCE}\nop.get_bind().commit()",
    "COMMIT": f'{ONCE}\nop.execute("COMMIT")\nop.execute("SET LOCAL lock_timeout = 500")',
    "COMMIT in a text": 'op.execute("INSERT INTO done VALUES (1); COMMIT; BEGIN; SET LOCAL lock_timeout = 500")',
    "another connection": (
        "with op.get_bind().engine.begin() as other:\n    other.exec_driver_sql('INSERT INTO done VALUES (1)')"
    ),
    "another engine in autocommit": (
        "other = op.get_bind().engine.execution_options(isolation_level='AUTOCOMMIT')\n"
        "with other.connect() as c:\n    c.exec_driver_sql('INSERT INTO done VALUES (1)')"
    ),
}


@pytest.mark.parametrize("how", COMMITTED)
def test_what_committed_by_itself_is_not_repeated(
    gate: GateRunner, project: Project, items: TestDatabase, how: str
) -> None:
    project.add("a4", "a3", f"{COMMITTED[how]}\n{ALTER}")
    with holder(items):
        ended = gate("migrate", **QUICK)
    assert ended.code == 65, ended.err
    assert "a part of a4 was committed and would be repeated" in ended.failure
    assert "Undo them by hand" in ended.failure
    assert "gate.table_lock_timeout" not in ended.names()
    assert items.execute("SELECT * FROM done") == [(1,)]


SHOW = 'print("limit", op.get_bind().exec_driver_sql("SHOW lock_timeout").scalar(), flush=True)'
OWN = {
    "env.py": ("", "    connection.exec_driver_sql(\"SET lock_timeout = '7s'\")\n    connection.commit()\n", SHOW),
    "the revision": ("", "", f"op.execute(\"SET LOCAL lock_timeout = '7s'\")\n{SHOW}"),
    "the role": ("ALTER DATABASE {name} SET lock_timeout = '7s'", "", SHOW),
}


@pytest.mark.parametrize("who", OWN)
def test_a_limit_of_its_own_wins(gate: GateRunner, project: Project, items: TestDatabase, who: str) -> None:
    setting, environment, revision = OWN[who]
    if setting:
        items.execute(setting.format(name=items.name))
    env = project.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace("    context.configure", f"{environment}    context.configure"))
    project.add("a4", "a3", revision)
    ended = gate("migrate", **SETTINGS)
    assert ended.code == 0, ended.err
    assert "limit 7s\n" in ended.out


@pytest.mark.parametrize("driver", DRIVERS)
def test_each_transaction_has_the_limit_and_an_autocommit_block_has_none(
    gate: GateRunner, project: Project, items: TestDatabase, driver: str
) -> None:
    env = make_project(project.folder.with_name(driver), driver=driver).folder / "migrations" / "env.py"
    env.replace(project.folder / "migrations" / "env.py")
    block = "with op.get_context().autocommit_block():\n    " + SHOW
    index = '    op.execute("CREATE INDEX CONCURRENTLY items_id ON items (id)")'
    index = "" if driver == "pg8000" else index  # with it, `alembic upgrade heads` fails in such a block, too
    project.add("a4", "a3", f"{SHOW}\n{block}\n{index}\n{SHOW}")
    ended = gate("migrate", **SETTINGS)
    assert ended.code == 0, ended.err
    assert [line for line in ended.out.splitlines() if "limit" in line] == ["limit 2s", "limit 0", "limit 2s"]


def test_the_isolation_level_can_still_be_set_in_the_transaction(
    gate: GateRunner, project: Project, items: TestDatabase
) -> None:
    env = project.folder / "migrations" / "env.py"
    level = "        connection.exec_driver_sql('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')\n"
    text = env.read_text().replace("        context.run_migrations()", f"{level}        context.run_migrations()")
    env.write_text(text.replace("    context.configure", "    transaction = connection.begin()\n    context.configure"))
    env.write_text(env.read_text() + "    transaction.commit()\n")
    ended = gate("migrate", **SETTINGS)
    assert ended.code == 0, ended.err


def test_an_upgrade_command_gets_no_limit_and_gate_says_so(gate: GateRunner, items: TestDatabase) -> None:
    ended = gate("migrate", GATE_UPGRADE_COMMAND="true", **SETTINGS)
    assert "GATE_TABLE_LOCK_TIMEOUT has no effect" in ended.event("gate.upgrade_command")["message"]


def test_without_the_setting_a_migration_waits_for_a_lock_as_alembic_does(
    gate: GateRunner, project: Project, items: TestDatabase
) -> None:
    project.add("a4", "a3", f"{SHOW}\n{LAST}")
    with holder(items):
        migrating = gate.start("migrate")
        migrating.await_output("limit 0")
    assert migrating.wait().code == 0
    assert is_applied_once(items)


def test_a_long_statement_says_who_blocks_it_and_since_when(gate: GateRunner, items: TestDatabase) -> None:
    with holder(items) as open_:
        migrating = gate.start("migrate")
        event = migrating.await_event("gate.long_statement")
        pid = open_.info.backend_pid
    assert event["blocked_by"] == [pid]
    assert event["relation"] == "items"
    assert (
        f"a lock on items, blocked by backend {pid} (web; idle in transaction; its transaction began"
        in (event["message"])
    )
    assert f"SELECT pg_terminate_backend({pid})" in event["message"]
    assert migrating.wait().code == 0
