"""A database that goes away in the middle of a migration: exit 69, whatever the driver, and the next run continues."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from gate.database.location import Database
from gate.database.lock import LOCK_CLASS, LockKey, Migrator
from gate.database.postgresql.connection import close, connect
from gate.database.postgresql.lock import acquire
from gate.database.sessions import terminate_orphans
from gate.errors import DatabaseUnavailable, LockLost
from gate.migration.monitor import SERVER_CHECK_INTERVAL, UNANSWERED_TIMEOUT
from gate.process.threads import BackgroundCall
from gate.settings.database_url import UrlSource
from tests.conftest import SERVER, GateRunner, TestDatabase, new_database
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.programs import TIMEOUT, ProgramResult, RunningProgram, await_true
from tests.support.projects import HeldEnvPy, Project, make_project

DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000")
KEY = LockKey.of(None, "alembic_version")
SHORT = {"GATE_CONNECT_TIMEOUT": "1", "GATE_QUERY_TIMEOUT": "1"}

ACTIVE = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()"
WORKING = "application_name LIKE '" + KEY.working_name + "%'"
HOLDING = f"pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND granted)"


class Scene(NamedTuple):
    """A migration that sleeps in its last revision, with all that a test needs to take its database away."""

    gate: GateRunner
    project: Project
    server: EmbeddedPostgres
    database: TestDatabase
    proxy: FaultyProxy

    def start(self, *words: str, **settings: str) -> RunningProgram:
        """Start a migration, and wait until its last revision runs."""
        migrating = self.gate.start(*(words or ("migrate",)), **settings)
        await_true(lambda: self.is_sleeping, lambda: "".join(migrating.err), migrating.process)
        return migrating

    @property
    def is_sleeping(self) -> bool:
        """Whether the last revision runs in the server."""
        return self.database.execute(f"{ACTIVE} AND state = 'active'") != [(0,)]

    def terminate(self, which: str) -> None:
        """Terminate backends as an administrator does."""
        here = "datname = current_database()"
        found = self.database.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {here} AND {which}"
        )
        assert found == [(True,)]

    def finishes(self) -> ProgramResult:
        """Migrate again, with a last revision that does not sleep."""
        self.project.add("a4", "a3", SCRIPT.format(id="a4"))
        return self.gate("migrate")


SCRIPT = 'op.execute("CREATE TABLE t_{id} (id int)")'


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server that a test may restart."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@pytest.fixture(params=DRIVERS)
def scene(request: pytest.FixtureRequest, server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Scene]:
    """One for each driver; each revision commits by itself."""
    project = make_project(
        tmp_path / "project", driver=request.param, options=", transaction_per_migration=True"
    ).chain("a1", "a2", "a3")
    project.add("a4", "a3", SCRIPT.format(id="a4") + '\nop.execute("SELECT pg_sleep(300)")')
    with new_database(server) as database, faulty_proxy(server.port) as proxy:
        gate = GateRunner(project.folder, database.url.replace(f":{server.port}", f":{proxy.port}"))
        with gate.running:
            yield Scene(gate, project, server, database, proxy)


one_driver = pytest.mark.parametrize("scene", ["psycopg"], indirect=True)


def restart(number: signal.Signals) -> Callable[[Scene], None]:
    def way(scene: Scene) -> None:
        scene.server.stop(number)
        scene.server.start()

    return way


WAYS: dict[str, Callable[[Scene], None]] = {
    "the server crashed": restart(signal.SIGQUIT),
    "the server restarted": restart(signal.SIGINT),
    "an administrator terminated the migration": lambda scene: scene.terminate(WORKING),
    "an administrator terminated the lock": lambda scene: scene.terminate(HOLDING),
    "a firewall reset the connections": lambda scene: scene.proxy.reset(),
    "a proxy lost the server and acknowledges": lambda scene: scene.proxy.lose_server(),
}


REPORTED_BY_DRIVERS = (
    "the server crashed",
    "an administrator terminated the migration",
    "a firewall reset the connections",
)
"""The ways that each driver reports in its own words. The others are the same for it, or gate notices them itself."""


@pytest.mark.parametrize(
    ("scene", "way"),
    [*(("psycopg", way) for way in WAYS), *product(DRIVERS[1:], REPORTED_BY_DRIVERS)],
    indirect=["scene"],
)
def test_a_database_that_goes_away_in_a_migration_is_69_and_the_next_run_finishes(scene: Scene, way: str) -> None:
    migrating = scene.start(**SHORT)
    WAYS[way](scene)
    ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert ended.event("gate.failed")["kind"] == "DatabaseLost"
    assert "The database went away in revision a4 (4/4)" in ended.failure
    assert "What had committed stays" in ended.failure
    assert "Try again" in ended.failure
    assert "Traceback" not in ended.failure
    assert scene.database.tables() == {"alembic_version", "t_a1", "t_a2", "t_a3"}
    assert scene.finishes().code == 0
    assert scene.database.stamped() == {"a4"}


@one_driver
def test_what_was_applied_is_not_to_be_undone_where_nobody_can_see_it(scene: Scene) -> None:
    migrating = scene.start(**SHORT)
    scene.proxy.is_open = False
    scene.proxy.reset()
    ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert "gate could not check whether anything was committed" in ended.failure
    assert "If `gate plan` lists one of them as pending" in ended.failure
    assert "although the revision is pending" not in ended.failure


@pytest.mark.parametrize(
    ("scene", "kept"),
    [*((driver, False) for driver in DRIVERS), ("psycopg", True)],
    indirect=["scene"],
    ids=[*(f"{driver}, its session is gone" for driver in DRIVERS), "its session has finished"],
)
def test_a_migration_that_waits_for_an_answer_that_never_comes_is_69(scene: Scene, *, kept: bool) -> None:
    scene.project.add("a4", "a3", "op.execute(\"SELECT pg_sleep(3), 'pg_sleep(300)'\")")
    migrating = scene.start()
    if kept:
        scene.proxy.freeze_newest()
    else:
        scene.proxy.lose_server(newest=True)
    ended = migrating.wait(timeout=UNANSWERED_TIMEOUT + 30)
    assert ended.code == 69, ended.err
    found = "its session in the server " + ("has finished its statement" if kept else "is gone")
    assert found in ended.failure
    assert "in revision a4 (4/4)" in ended.failure
    assert "gate.migration_idle" not in ended.names()


@one_driver
def test_an_answer_that_never_comes_before_the_first_revision_is_tried_again(scene: Scene) -> None:
    env = scene.project.folder / "migrations" / "env.py"
    slow = "    connection.exec_driver_sql(\"SELECT pg_sleep(2), 'pg_sleep(300)'\")\n    connection.rollback()\n"
    env.write_text(env.read_text().replace("    context.configure", f"{slow}    context.configure"))
    scene.project.add("a4", "a3")
    migrating = scene.start()
    scene.proxy.freeze_newest()
    waiting = migrating.await_event("gate.waiting")
    assert "before the first revision" in waiting["message"]
    assert "has finished its statement" in waiting["message"]
    assert migrating.wait().code == 0
    assert scene.database.stamped() == {"a4"}


@pytest.mark.parametrize(
    ("scene", "way", "run"),
    [
        ("psycopg", "silent", 1),
        ("psycopg", "silent", 2),
        ("psycopg2", "silent", 2),
        *((driver, "reset", 1) for driver in DRIVERS),
    ],
    indirect=["scene"],
)
def test_a_connection_that_env_py_cannot_open_for_a_moment_is_tried_again(scene: Scene, way: str, run: int) -> None:
    env_py = HeldEnvPy.create(scene.project, run)
    scene.project.add("a4", "a3")
    migrating = scene.gate.start("migrate", **SHORT)
    env_py.wait(migrating)
    if way == "silent":
        scene.proxy.is_open = False
    else:
        scene.proxy.new_connections = partial(scene.proxy.reset, newest=True)
    env_py.release()
    waiting = migrating.await_event("gate.waiting")
    scene.proxy.is_open, scene.proxy.new_connections = True, None
    assert "The database went away before the first revision" in waiting["message"]
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert scene.database.stamped() == {"a4"}


def test_an_env_py_that_finds_no_connection_left_for_a_moment_is_tried_again(scene: Scene) -> None:
    url = scene.database.create_role(
        "x", "ALTER ROLE {role} CONNECTION LIMIT 3", "GRANT ALL ON SCHEMA public TO {role}"
    )
    env_py = HeldEnvPy.create(scene.project, run=1)
    scene.project.add("a4", "a3")
    migrating = scene.gate.start("migrate", DATABASE_URL=url)
    env_py.wait(migrating)
    with psycopg.connect(url):
        env_py.release()
        waiting = migrating.await_event("gate.waiting")
    assert "too many connections for role" in waiting["message"]
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert scene.database.stamped() == {"a4"}


def test_a_connection_that_env_py_can_never_open_is_65(scene: Scene) -> None:
    env = scene.project.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace(".set(drivername", ".set(port=1, drivername"))
    ended = scene.gate("migrate")
    assert ended.code == 65, ended.err
    assert "env.py must take its URL from DATABASE_URL" in ended.failure


@one_driver
def test_a_migration_that_computes_for_long_is_not_taken_for_a_lost_one(scene: Scene) -> None:
    seconds = UNANSWERED_TIMEOUT + 2 * SERVER_CHECK_INTERVAL
    compute = f'op.execute("SELECT 1")\nimport time\ntime.sleep({seconds})\nop.execute("SELECT pg_sleep({seconds})")'
    scene.project.add("a4", "a3", compute)
    ended = scene.gate("migrate")
    assert ended.code == 0, ended.err
    assert "gate.migration_idle" in ended.names()


@one_driver
@pytest.mark.parametrize("question", ["publish", "verify", "sessions", "cancel", "terminate", "orphans", "release"])
def test_every_question_about_the_lock_has_a_limit(scene: Scene, question: str) -> None:
    place = Database(UrlSource("DATABASE_URL", scene.gate.url), None, 1, 1)
    began = time.monotonic()
    with acquire(place, KEY) as lock:
        scene.proxy.freeze()
        scene.proxy.is_open = False  # a new connection receives nothing either
        questions: dict[str, Callable[[], object]] = {
            "publish": lambda: lock.publish_progress(Migrator("web-1", 1, 3, "a1", 1)),
            "verify": lock.verify,
            "sessions": lambda: lock.sessions.activity(lock.sessions.own(())),
            "cancel": lambda: lock.sessions.cancel([1]),
            "terminate": lambda: lock.sessions.terminate([1]),
            "orphans": lambda: terminate_orphans(lock.sessions),
            "release": lambda: None,
        }
        with suppress(LockLost, DatabaseUnavailable):
            questions[question]()
            assert question in {"release", "cancel", "terminate"}, "it was answered"
        if question in {"publish", "verify"}:
            with pytest.raises(LockLost):
                lock.verify()
    assert time.monotonic() - began < TIMEOUT


FAULTS = (FaultyProxy.freeze_newest, FaultyProxy.reset, FaultyProxy.truncate)


@one_driver
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_network_that_fails_while_the_lock_is_requested_is_waited_for(
    scene: Scene, fault: Callable[[FaultyProxy], None]
) -> None:
    scene.project.add("a4", "a3")

    def fail() -> None:
        fault(scene.proxy)

    scene.proxy.on_message(b"pg_try_advisory_xact_lock", fail, skipped=1)  # the second connection's
    migrating = scene.gate.start("migrate", **SHORT, GATE_POLL_MAX="0.5")
    assert migrating.await_event("gate.waiting")["kind"] == "DatabaseUnavailable"
    ended = migrating.wait()
    assert ended.code == 0, ended.err
    assert scene.database.stamped() == {"a4"}


@pytest.mark.parametrize("scene", ["psycopg", "psycopg2"], indirect=True)
def test_a_migration_that_closes_its_connection_itself_is_65(scene: Scene) -> None:
    scene.project.add("a4", "a3", "op.get_bind().connection.dbapi_connection.close()\nop.execute('SELECT 1')")
    ended = scene.gate("migrate")
    assert ended.code == 65, ended.err
    assert "in revision a4 (4/4)" in ended.failure


@one_driver
def test_a_connection_is_never_closed_under_a_call_that_still_waits(scene: Scene) -> None:
    connection = connect(Database(UrlSource("DATABASE_URL", scene.gate.url), None, 1, 1))
    scene.proxy.freeze()
    call = BackgroundCall(lambda: connection.execute("SELECT 1"))
    await_true(connection.lock.locked, lambda: "the call has not begun")
    close(connection)
    with pytest.raises(psycopg.OperationalError):
        call.result(TIMEOUT)
    assert connection.closed


STAY = {"GATE_ON_FAILURE": "stay", "RUN_MIGRATIONS": "1", "GATE_POLL_MAX": "0.5"}


@one_driver
def test_stay_migrates_again_after_the_database_went_away(scene: Scene) -> None:
    running = scene.start("run", "--", *SERVER, **STAY)
    scene.terminate(WORKING)
    staying = running.await_event("gate.staying")
    assert staying["kind"] == "DatabaseLost"
    assert "migrates again (at most 5 more times)" in staying["message"]
    scene.project.add("a4", "a3", SCRIPT.format(id="a4"))
    ended = running.wait()
    if ended.code == 65:
        pytest.fail(ended.err)
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert scene.database.stamped() == {"a4"}


CRASH = 'op.execute("SELECT pg_terminate_backend(pg_backend_pid())")'


@one_driver
def test_a_migration_that_ends_its_own_session_each_time_is_tried_five_more_times_and_then_never(scene: Scene) -> None:
    scene.project.add("a4", "a3", CRASH)
    assert [scene.gate("migrate").code for _ in range(2)] == [69, 69]
    running = scene.gate.start("run", "--", *SERVER, **STAY)
    last = "checks again without repeating the upgrade"
    running.await_event("gate.staying", lambda e: last in e["message"])
    waiting = running.await_event("gate.waiting", lambda e: e.get("verdict") == "BEHIND")
    assert "does not try again" in waiting["message"]
    scene.project.add("a4", "a3")
    assert scene.gate("migrate").code == 0
    ended = running.wait()
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert ended.names().count("gate.migrating") == 6
    assert ended.names().count("gate.staying") == 6


@one_driver
def test_a_run_that_may_not_stay_ends_with_69_and_starts_no_server(scene: Scene) -> None:
    running = scene.start("run", "--", *SERVER, RUN_MIGRATIONS="1")
    scene.terminate(HOLDING)
    ended = running.wait()
    assert (ended.code, ended.out) == (69, ""), ended.err


PSYCOPG_COMMAND = "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT pg_sleep(300)')"


@one_driver
@pytest.mark.parametrize("way", ["the server crashed", "an administrator terminated the lock"])
def test_an_upgrade_command_that_fails_with_the_lock_lost_is_69(scene: Scene, way: str) -> None:
    migrating = scene.start(GATE_UPGRADE_COMMAND=f'{sys.executable} -c "{PSYCOPG_COMMAND}"')
    WAYS[way](scene)
    ended = migrating.wait()
    assert ended.code == 69, ended.err
    assert "lock was lost" in ended.failure


@one_driver
def test_an_upgrade_command_whose_session_alone_is_terminated_is_65(scene: Scene) -> None:
    migrating = scene.start(GATE_UPGRADE_COMMAND=f'{sys.executable} -c "{PSYCOPG_COMMAND}"')
    scene.terminate(WORKING)
    assert migrating.wait().code == 65


REPORT_OPTIONS = """
import os, socket
driver = op.get_bind().connection.driver_connection
found = getattr(driver, "_usock", None) or getattr(driver, "_transport", None) or driver
found = found.get_extra_info("socket") if hasattr(found, "get_extra_info") else found
with socket.socket(fileno=os.dup(found.fileno())) as s:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    tcp = [s.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
    print("options", s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *tcp, flush=True)
"""


def test_each_connection_of_a_migration_notices_a_server_that_is_gone(scene: Scene) -> None:
    scene.project.add("a4", "a3", REPORT_OPTIONS)
    ended = scene.gate("migrate")
    assert "options 1 5 2 3 10000\n" in ended.out + ended.err


@pytest.mark.parametrize("scene", ["psycopg", "psycopg2"], indirect=True)
def test_what_the_url_says_about_keep_alives_is_kept(scene: Scene) -> None:
    scene.project.add("a4", "a3", REPORT_OPTIONS)
    scene.gate.url += "?keepalives=0&keepalives_idle=77&tcp_user_timeout=0"
    ended = scene.gate("migrate")
    assert "options 0 " in ended.out + ended.err
    assert " 2 3 0\n" in ended.out + ended.err
