"""A failed migration exits 65, names its revision and what was committed, and the server is not started."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import await_true
from tests.support.projects import SYNC_ENV, Project, make_project

BROKEN = """\
op.execute("CREATE TABLE half (id int)")
op.execute("SELECT no_such_column FROM half")"""


@pytest.mark.parametrize("command", [("migrate",), ("run", "--", *SERVER)])
def test_a_failing_migration_is_rolled_back_and_named_and_the_server_is_not_started(
    gate: GateRunner, project: Project, database: TestDatabase, command: tuple[str, ...]
) -> None:
    path = project.add("a3", "a2", BROKEN)
    ended = gate(*command, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (65, "")
    assert "in revision a3 (3/3)" in ended.failure
    assert "no_such_column" in ended.failure
    assert f"{path}, line " in ended.failure
    assert "Committed: nothing. Still pending: a1, a2, a3." in ended.failure
    assert database.tables() == set()
    assert "Traceback" not in ended.err


def test_with_a_transaction_per_migration_the_failure_names_what_was_committed(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "each", options=", transaction_per_migration=True").chain("a1", "a2")
    project.add("a3", "a2", BROKEN)
    project.add("a4", "a3")
    gate.folder = project.folder
    ended = gate("migrate")
    assert ended.code == 65
    assert "Committed: a1, a2. Still pending: a3, a4." in ended.failure
    assert database.tables() == {"t_a1", "t_a2", "alembic_version"}
    assert database.stamped() == {"a2"}


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise SystemExit(0)", "sys.exit(0)"),
        ("import os; os._exit(0)", "exit code 0"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_a_migration_that_ends_in_any_other_way_has_failed_too(
    gate: GateRunner, project: Project, database: TestDatabase, body: str, cause: str
) -> None:
    project.add("a3", "a2", body)
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (65, "")
    assert "a3 (3/3)" in ended.failure
    assert cause in ended.failure
    assert database.tables() == set()


def test_an_env_py_that_does_not_commit_has_not_migrated(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    forgetful = SYNC_ENV.format(driver="psycopg", options="").replace("with context.begin_transaction():", "if True:")
    gate.folder = make_project(tmp_path / "forgetful", environment=forgetful).chain("a1").folder
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (65, "")
    assert "Check that env.py commits" in ended.failure
    assert database.tables() == set()


def test_an_env_py_that_cannot_be_imported_is_named_with_its_line(gate: GateRunner, project: Project) -> None:
    path = project.folder / "migrations" / "env.py"
    path.write_text("import no_such_module\n")
    ended = gate("migrate")
    assert ended.code == 65
    assert "no_such_module" in ended.failure
    assert f"{sys.executable} runs gate and env.py" in ended.failure
    assert f"{path}, line 1" in ended.failure


def test_a_migration_that_takes_too_long_is_cancelled(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    ended = gate("migrate", GATE_MIGRATION_TIMEOUT="5")
    assert ended.code == 65
    assert "GATE_MIGRATION_TIMEOUT" in ended.failure
    assert "a4 (4/4)" in ended.failure
    assert database.tables() == set()
    assert database.backends() == []


def test_stay_keeps_running_after_a_failed_migration_heals_and_never_repeats_it(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    tries = project.folder / "tries"
    project.add("a3", "a2", f"open({str(tries)!r}, 'a').write('once ')\n{BROKEN}")
    staying = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_ON_FAILURE="stay", GATE_POLL_MAX="0.2")
    line = staying.await_event("gate.staying")
    assert line["level"] == "critical"
    assert "a3" in line["message"]
    # The next check finds the schema behind; only then could gate migrate again.
    staying.await_event("gate.waiting", lambda e: e.get("verdict") == "EMPTY")
    assert staying.process.poll() is None
    assert staying.out == []
    database.stamp("a3")
    ended = staying.wait()
    assert (ended.code, ended.out) == (0, "server started\n")
    assert ended.names().count("gate.migrating") == 1
    assert tries.read_text() == "once "


def test_stay_never_starts_a_server_on_what_a_failed_migration_left_without_a_stamp(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.execute("CREATE TABLE t_a1 (id int)")  # UNSTAMPED, which lets a server start by default
    staying = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_ON_FAILURE="stay", GATE_POLL_MAX="0.2")
    assert "without repeating the upgrade" in staying.await_event("gate.staying")["message"]
    staying.await_event("gate.waiting", lambda e: e.get("verdict") == "UNSTAMPED")
    assert (staying.process.poll(), staying.out) == (None, [])
    database.stamp("a3")
    assert staying.wait().out == "server started\n"


def test_stay_starts_no_server_while_the_migrator_that_it_waited_for_still_works(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.execute("CREATE TABLE other (id int)")
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    migrating = gate.start("migrate")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    environment = {
        "RUN_MIGRATIONS": "1",
        "GATE_ON_FAILURE": "stay",
        "GATE_MIGRATION_LOCK_TIMEOUT": "0.5",
        "GATE_POLL_MAX": "0.2",
    }
    staying = gate.start("run", "--", *SERVER, **environment)
    assert staying.await_event("gate.staying")["kind"] == "LockTimeout"
    staying.await_event("gate.waiting", lambda e: e.get("verdict") == "UNSTAMPED")
    assert (staying.process.poll(), staying.out) == (None, [])


def test_a_failure_beside_a_stamp_of_another_image_does_not_claim_what_was_committed(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "each", options=", transaction_per_migration=True").chain("a1", "a2")
    stamp = (
        "with op.get_context().autocommit_block():\n    op.execute(\"UPDATE alembic_version SET version_num = 'zz99'\")"
    )
    project.add("a3", "a2", f"{stamp}\n1 / 0")
    gate.folder = project.folder
    ended = gate("migrate")
    assert ended.code == 65
    assert "gate cannot tell what was committed: the database is stamped with zz99" in ended.failure
    assert "Committed:" not in ended.failure
    assert "Still pending" not in ended.failure
    assert database.stamped() == {"zz99"}


def test_an_upgrade_that_ends_with_a_stamp_of_another_image_does_not_claim_what_is_pending(
    gate: GateRunner, database: TestDatabase
) -> None:
    script = gate.folder / "upgrade.py"
    script.write_text(
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['DATABASE_URL']) as connection:\n"
        "    connection.execute('CREATE TABLE alembic_version (version_num text PRIMARY KEY)')\n"
        "    connection.execute(\"INSERT INTO alembic_version VALUES ('zz99')\")\n"
    )
    ended = gate("migrate", GATE_UPGRADE_COMMAND=f"{sys.executable} {script}")
    assert ended.code == 65
    assert "gate cannot tell what is pending: the database is stamped with zz99" in ended.failure
    assert "Still pending" not in ended.failure
    assert database.stamped() == {"zz99"}


@pytest.mark.parametrize("how", ["its own", "a command"])
def test_where_tables_exist_without_a_stamp_the_remedy_is_to_stamp(
    gate: GateRunner, database: TestDatabase, how: str
) -> None:
    database.execute("CREATE TABLE t_a1 (id int)")
    command = {"GATE_UPGRADE_COMMAND": f"{sys.executable} -m alembic upgrade heads"} if how == "a command" else {}
    ended = gate("migrate", **command)
    assert ended.code == 65
    assert ended.failure.count("`alembic stamp REVISION`") == 1


def test_a_failure_names_the_revision_that_committed_changes_in_autocommit_mode(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    body = "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE stays (id int)')\n1 / 0"
    project.add("a4", "a3", body)
    ended = gate("migrate")
    assert ended.code == 65
    assert "stays" in database.tables()
    assert "Part of a4 ran in autocommit mode" in ended.failure
    assert "Undo them by hand" in ended.failure


def test_a_failure_names_an_earlier_revision_that_committed_in_autocommit_mode(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE stays (id int)')")
    project.add("a5", "a4", BROKEN)
    ended = gate("migrate")
    assert {"stays"} <= database.tables()
    pending = str(ended.failure).split("Still pending: ")[1].split(".")[0]
    assert ("Part of a4 ran in autocommit mode" in ended.failure) is ("a4" in pending)
    assert "rolled back with it" not in ended.failure


@pytest.mark.parametrize("where", ["the engine", "the connection"])
def test_a_failure_names_an_env_py_whose_connection_is_in_autocommit_mode(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, where: str
) -> None:
    autocommit = 'isolation_level="AUTOCOMMIT"'
    old, new = {
        "the engine": ("poolclass=pool.NullPool", f"poolclass=pool.NullPool, {autocommit}"),
        "the connection": (".connect()", f".connect().execution_options({autocommit})"),
    }[where]
    environment = SYNC_ENV.format(driver="psycopg", options="").replace(old, new)
    project = make_project(tmp_path / "autocommit", environment=environment).chain("a1")
    project.add("a2", "a1", BROKEN)
    gate.folder = project.folder
    ended = gate("migrate")
    assert (ended.code, "half" in database.tables()) == (65, True)
    assert "env.py's connection is in autocommit mode" in ended.failure


def test_a_failure_without_autocommit_does_not_mention_it(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", BROKEN)
    assert "autocommit" not in gate("migrate").failure


def test_a_failure_before_the_first_revision_points_to_env_py(gate: GateRunner, project: Project) -> None:
    (project.folder / "migrations" / "env.py").write_text("import os\nos.environ['NO_SUCH_URL']\n")
    ended = gate("migrate")
    assert ended.code == 65
    assert "env.py must take its URL from DATABASE_URL" in ended.failure


def test_a_failure_in_a_folder_beside_the_interpreters_is_located(gate: GateRunner, tmp_path: Path) -> None:
    beside = Path(f"{sys.prefix}-application-{tmp_path.name}")  # begins with the environment's path, and is not in it
    try:
        project = make_project(beside).chain("a1")
        path = project.add("a2", "a1", "1 / 0")
        gate.folder = project.folder
        assert f"{path}, line " in gate("migrate").failure
    finally:
        shutil.rmtree(beside)


@pytest.mark.parametrize("where", ["a revision", "env.py"])
def test_an_error_that_gate_itself_raises_is_located_in_the_applications_code(
    gate: GateRunner, project: Project, where: str
) -> None:
    calls_gate = "import gate; gate.drift_of('no URL')"
    if where == "a revision":
        path = project.add("a4", "a3", calls_gate)
    else:
        path = project.folder / "migrations" / "env.py"
        path.write_text(calls_gate)
    ended = gate("migrate")
    assert ended.code == 65
    assert f"({path}, line " in ended.failure


@pytest.mark.parametrize(
    ("environment", "stamp"),
    [({"GATE_ON_UNKNOWN": "refuse"}, "zz99"), ({"GATE_POLL_MAX": "often"}, "a3")],
    ids=["refused", "wrong settings"],
)
def test_stay_keeps_running_after_every_failure_that_would_end_it(
    gate: GateRunner, database: TestDatabase, environment: dict[str, str], stamp: str
) -> None:
    database.stamp(stamp)
    staying = gate.start("run", "--", *SERVER, GATE_ON_FAILURE="stay", **environment)
    staying.await_event("gate.waiting")
    assert staying.process.poll() is None
    assert staying.out == []
    staying.process.terminate()
    assert staying.wait().code == 143


def test_stay_starts_the_server_once_broken_scripts_are_fixed(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.stamp("a3")
    good = (project.versions / "a2.py").read_text()
    (project.versions / "a2.py").write_text("revision = (")
    staying = gate.start("run", "--", *SERVER, GATE_ON_FAILURE="stay")
    assert "a2.py" in staying.await_event("gate.staying")["message"]
    (project.versions / "a2.py").write_text(good)
    assert staying.wait().out == "server started\n"


@pytest.fixture
def port() -> int:
    return free_port()


def answered(port: int, path: str) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code
    except httpx.TransportError:
        return 0


def test_a_gate_that_stays_answers_on_its_port_between_its_tries(
    gate: GateRunner, project: Project, database: TestDatabase, port: int
) -> None:
    database.stamp("a3")
    good = (project.versions / "a2.py").read_text()
    (project.versions / "a2.py").write_text("revision = (")
    environment = {"GATE_ON_FAILURE": "stay", "GATE_PLACEHOLDER": f"127.0.0.1:{port}", "RUN_MIGRATIONS": "1"}
    staying = gate.start("run", "--", *SERVER, **environment)
    staying.await_event("gate.waiting")
    await_true(lambda: answered(port, "/health") == 200, lambda: "nothing answers", staying.process)
    assert answered(port, "/health/ready") == 503
    (project.versions / "a2.py").write_text(good)
    assert staying.wait().out == "server started\n"


def test_a_gate_that_stays_answers_on_its_port_whatever_other_setting_is_wrong(gate: GateRunner, port: int) -> None:
    environment = {"GATE_ON_FAILURE": "stay", "GATE_PLACEHOLDER": f"127.0.0.1:{port}", "GATE_TIMEOUT": "soon"}
    staying = gate.start("run", "--", *SERVER, **environment)
    staying.await_event("gate.staying")
    await_true(lambda: answered(port, "/health") == 200, lambda: "nothing answers", staying.process)


def test_a_limit_holds_for_a_gate_that_stays(gate: GateRunner, project: Project) -> None:
    (project.versions / "a2.py").write_text("revision = (")
    ended = gate("run", "--", *SERVER, GATE_ON_FAILURE="stay", GATE_TIMEOUT="2")
    assert (ended.code, ended.out) == (124, "")
    assert "GATE_TIMEOUT" in ended.failure
    assert "a2.py" in ended.failure


def test_a_gate_that_stays_after_a_failed_migration_ends_at_its_limit(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", "raise ValueError('no good')")
    ended = gate("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_ON_FAILURE="stay", GATE_TIMEOUT="4")
    assert ended.code == 124
    assert "within 4 s (GATE_TIMEOUT)" in ended.failure
    assert ended.names().count("gate.migrating") == 1


def test_a_gate_that_stays_looks_where_it_migrates_if_no_other_database_is_named(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a3", "a2", BROKEN)
    environment = {"DATABASE_URL": "", "MIGRATION_DATABASE_URL": database.url, "RUN_MIGRATIONS": "1"}
    staying = gate.start("run", "--", *SERVER, GATE_ON_FAILURE="stay", GATE_POLL_MAX="0.2", **environment)
    line = staying.await_event("gate.waiting", lambda e: e.get("verdict") == "EMPTY")
    assert "does not try again" in line["message"]
    assert "RUN_MIGRATIONS" not in line["message"]
    database.stamp("a3")
    assert staying.wait().out == "server started\n"


def test_a_gate_that_stayed_over_what_was_wrong_before_any_upgrade_still_migrates(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    good = (project.versions / "a2.py").read_text()
    (project.versions / "a2.py").write_text("revision = (")
    staying = gate.start("run", "--", *SERVER, RUN_MIGRATIONS="1", GATE_ON_FAILURE="stay")
    staying.await_event("gate.waiting")
    (project.versions / "a2.py").write_text(good)
    ended = staying.wait()
    assert (ended.code, ended.out) == (0, "server started\n")
    assert database.stamped() == {"a3"}
