"""Several histories in one image: one gate checks, waits for, migrates and reports all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import ProgramResult, RunningProgram, await_true
from tests.support.projects import SYNC_ENV, Project, make_project, wait_for_file, with_offline_branch

BOTH = ("-n", "a", "-n", "b")
STRICT = {"GATE_ON_UNSTAMPED": "wait"}


class Histories:
    """A folder with the sections a (a1, a2; version table va) and b (b1; vb) in one alembic.ini."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a = make_project(folder / "a", options=", version_table='va'").chain("a1", "a2")
        self.b = make_project(folder / "b", options=", version_table='vb'").chain("b1")
        self.write_ini()

    def write_ini(self, a: str = "", b: str = "") -> None:
        """Write alembic.ini with these further lines for each section."""
        here = "script_location = %(here)s"
        (self.folder / "alembic.ini").write_text(f"[a]\n{here}/a/migrations\n{a}\n[b]\n{here}/b/migrations\n{b}\n")

    def set_options(self, project: Project, options: str) -> None:
        """Give env.py of one history these arguments of `context.configure`."""
        (project.folder / "migrations" / "env.py").write_text(SYNC_ENV.format(driver="psycopg", options=options))


@pytest.fixture
def two(tmp_path: Path) -> Histories:
    return Histories(tmp_path / "two")


@pytest.fixture
def gate(two: Histories, database: TestDatabase) -> Iterator[GateRunner]:
    runner = GateRunner(two.folder, database.url)
    with runner.running:
        yield runner


def sections(ended: ProgramResult, event: str) -> list[str]:
    return [each["section"] for each in ended.events if each["event"] == event]


# ---- migrating


def test_both_are_migrated_in_their_order_and_each_line_names_its_history(
    gate: GateRunner, database: TestDatabase
) -> None:
    ended = gate("run", "-n", "b", "-n", "a", "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert (database.stamped("va"), database.stamped("vb")) == ({"a2"}, {"b1"})
    assert sections(ended, "gate.migrated") == ["b", "a"]
    assert sections(ended, "gate.current") == ["b", "a"]
    own = [each for each in ended.events if each["event"] != "gate.starting"]
    assert [each["message"] for each in own if not each["message"].startswith(f"[{each.get('section')}] ")] == []
    assert "section" not in ended.event("gate.starting")


def test_of_five_replicas_one_migrates_each_history_and_five_start(gate: GateRunner, database: TestDatabase) -> None:
    replicas = [gate.start("run", *BOTH, "--", *SERVER, RUN_MIGRATIONS="1") for _ in range(5)]
    ended = [replica.wait() for replica in replicas]
    assert [(each.code, each.out) for each in ended] == [(0, "server started\n")] * 5
    assert sorted(name for each in ended for name in sections(each, "gate.migrating")) == ["a", "b"]


def test_each_history_has_a_lock_of_its_own(gate: GateRunner, two: Histories, tmp_path: Path) -> None:
    """Migrating a goes on while another gate migrates b, and the other way round."""
    two.a.add("a3", "a2", wait_for_file(tmp_path / "go"))
    first = gate.start("migrate", *BOTH)
    first.await_event("gate.revision_started", lambda each: each["revision"] == "a3")
    assert gate("migrate", "-n", "b").code == 0
    (tmp_path / "go").touch()
    assert first.wait().code == 0


def test_if_the_second_fails_the_first_stays_migrated_and_the_message_says_so(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    two.b.add("b2", "b1", 'op.execute("SELECT 1/0")')
    ended = gate("run", *BOTH, "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out) == (65, "")
    assert database.stamped("va") == {"a2"}
    event = ended.event("gate.failed")
    assert event["section"] == "b"
    assert event["message"].startswith("[b] ")
    assert "division by zero" in event["message"]
    assert "gate has migrated [a] before, which stays so." in event["message"]


def test_if_the_first_fails_the_second_is_not_begun(gate: GateRunner, two: Histories, database: TestDatabase) -> None:
    two.a.add("a3", "a2", 'op.execute("SELECT 1/0")')
    ended = gate("migrate", *BOTH)
    assert ended.code == 65
    assert "gate has not begun with [b]." in ended.failure
    assert "t_b1" not in database.tables()


def test_wrong_settings_of_the_second_end_gate_before_the_first_is_migrated(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    (two.b.versions / "b2.py").write_text("revision = 'b2'\ndown_revision = 'nowhere'\n")
    ended = gate("migrate", *BOTH)
    assert (ended.code, ended.event("gate.failed")["section"]) == (78, "b")
    assert database.tables() == set()


def test_a_history_that_another_migration_undoes_is_not_migrated_for_ever(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    two.b.add("b2", "b1", "op.execute(\"UPDATE va SET version_num = 'a1'\")")
    ended = gate("migrate", *BOTH, GATE_TIMEOUT="60")
    assert (ended.code, ended.event("gate.failed")["section"]) == (65, "a")
    assert "behind again" in ended.failure
    assert sections(ended, "gate.migrating") == ["a", "b"]


def stay_because_of_b(gate: GateRunner, two: Histories, termination_log: Path) -> RunningProgram:
    """Start a gate that migrates a, fails in b and keeps running."""
    two.b.add("b2", "b1", 'op.execute("SELECT 1/0")')
    settings = {"RUN_MIGRATIONS": "1", "GATE_ON_FAILURE": "stay", "GATE_TERMINATION_LOG": str(termination_log)}
    return gate.start("run", *BOTH, "--", *SERVER, **settings)


def test_after_a_failure_gate_stays_until_both_fit(
    gate: GateRunner, two: Histories, database: TestDatabase, tmp_path: Path
) -> None:
    log = tmp_path / "termination"
    staying = stay_because_of_b(gate, two, log)
    event = staying.await_event("gate.staying")
    assert (event["section"], event["message"][:4]) == ("b", "[b] ")
    assert "[a]" in event["message"]
    staying.await_event("gate.waiting")
    database.stamp("b2", table="vb")
    ended = staying.wait()
    assert (ended.code, ended.out, log.read_text()) == (0, "server started\n", "")


def test_the_termination_message_stays_while_one_of_several_does_not_fit(
    gate: GateRunner, two: Histories, database: TestDatabase, tmp_path: Path
) -> None:
    """Each attempt passes the first history again, which is no reason to empty the file."""
    message = tmp_path / "termination"
    staying = stay_because_of_b(gate, two, message)
    staying.await_event("gate.staying")
    read = []

    def has_tried_for_some_time() -> bool:
        read.append(message.read_text())
        return sum('"gate.waiting"' in line for line in staying.err) > 1

    await_true(has_tried_for_some_time, lambda: f"too few attempts: {staying.err}")
    assert [text for text in read if not text.startswith("[b] ")] == []
    database.stamp("b2", table="vb")
    assert (staying.wait().code, message.read_text()) == (0, "")


def test_in_stay_mode_a_mistake_in_the_second_is_mended_after_the_first_was_migrated(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    """gate may still migrate b: its upgrade has not begun."""
    two.write_ini(b="databases = one, two")
    staying = gate.start("run", *BOTH, "--", *SERVER, RUN_MIGRATIONS="1", GATE_ON_FAILURE="stay")
    assert staying.await_event("gate.staying")["section"] == "b"
    two.write_ini()
    ended = staying.wait()
    assert (ended.code, ended.out) == (0, "server started\n")
    assert database.stamped("vb") == {"b1"}


# ---- waiting


def test_the_server_starts_when_both_fit(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1", table="va")
    database.stamp("b1", table="vb")
    waiting = gate.start("run", *BOTH, "--", *SERVER, **STRICT)
    line = waiting.await_event("gate.waiting")
    assert (line["section"], line["verdict"]) == ("a", "BEHIND")
    assert "drift: db=a1 expected=a2" in line["message"]
    database.stamp("nothing-yet", table="vb")
    database.stamp("a2", table="va")
    database.stamp("b1", table="vb")
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, "server started\n")
    assert "gate.migrating" not in ended.names()


def test_a_history_that_no_longer_fits_when_the_others_do_is_waited_for_again(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a2", table="va")
    database.execute("CREATE TABLE vb (version_num varchar(32) PRIMARY KEY)")
    waiting = gate.start("run", *BOTH, "--", *SERVER, GATE_POLL_MAX="0.5")
    waiting.await_event("gate.waiting", lambda each: each["section"] == "b")
    database.stamp("a1", table="va")
    database.stamp("b1", table="vb")
    waiting.await_event("gate.waiting", lambda each: each["section"] == "a")
    assert waiting.out == []
    database.stamp("a2", table="va")
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, "server started\n")


@pytest.mark.parametrize("command", ["run", "wait", "migrate"])
def test_one_time_limit_holds_for_all(gate: GateRunner, database: TestDatabase, command: str) -> None:
    """b is locked by somebody else for ever, so that migrating waits, too."""
    database.stamp("a2", table="va")
    server = ["--", *SERVER] if command == "run" else []
    database.stamp("newer", table="vb")
    ended = gate(command, *BOTH, "--timeout", "2", *server, GATE_ON_UNKNOWN="wait")
    assert (ended.code, ended.out) == (124, "")
    event = ended.event("gate.failed")
    assert (event["section"], "within 2 s (GATE_TIMEOUT)" in event["message"]) == ("b", True)
    assert sections(ended, "gate.current") == ["a"]


def test_while_gate_waits_the_placeholder_names_the_history(gate: GateRunner, database: TestDatabase) -> None:
    port = free_port()
    database.stamp("a2", table="va")
    database.execute("CREATE TABLE vb (version_num varchar(32) PRIMARY KEY)")
    waiting = gate.start("run", *BOTH, "--", *SERVER, GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    waiting.await_event("gate.waiting", lambda each: each["section"] == "b")

    def answered() -> bool:
        found = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10)
        return found.status_code == 503 and found.json().get("section") == "b"

    await_true(answered, lambda: "no answer names b", waiting.process)
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).json()["detail"].startswith("[b] drift: ")


# ---- reporting


def test_check_prints_each_and_exits_with_the_worst(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1", table="va")
    database.stamp("b1", table="vb")
    ended = gate("check", *BOTH)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0] == "[a] BEHIND drift: db=a1 expected=a2"
    assert "[b] CURRENT drift: db=b1 expected=b1" in lines
    assert [line for line in lines if not line.startswith(("[a] ", "[b] "))] == []
    database.stamp("a2", table="va")
    assert gate("check", *BOTH).code == 0


def test_check_in_json_is_one_object_with_the_worst_and_all(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a2", table="va")
    database.execute("CREATE TABLE vb (version_num varchar(32) PRIMARY KEY)")
    ended = gate("check", *BOTH, "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["section"], found["verdict"]) == (1, "b", "BEHIND")
    assert [(each["section"], each["verdict"]) for each in found["histories"]] == [("a", "CURRENT"), ("b", "BEHIND")]
    assert "histories" not in json.loads(gate("check", "-n", "a", "--json").out)


def test_a_history_that_cannot_be_checked_does_not_hide_the_others(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    database.stamp("a2", table="va")
    (two.b.versions / "b1.py").write_text("revision = 'b1'\ndown_revision = 'nowhere'\n")
    ended = gate("check", *BOTH, "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["section"], found["verdict"]) == (78, "b", None)
    assert "nowhere" in found["error"]
    assert found["histories"][0]["verdict"] == "CURRENT"
    assert "gate: [b] " in ended.err


def test_heads_are_those_of_all(gate: GateRunner) -> None:
    assert gate("heads", *BOTH, DATABASE_URL="").out == "[a] a2\n[b] b1\n"
    found = json.loads(gate("heads", *BOTH, "--json").out)
    assert (found["heads"], found["revisions"]) == (["a2", "b1"], 3)
    assert [each["section"] for each in found["histories"]] == ["a", "b"]


def test_the_plan_shows_each_history(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1", table="va")
    ended = gate("plan", *BOTH)
    assert (ended.code, ended.err) == (0, "")
    assert "[a]   1/1  a2: make a2" in ended.out
    assert "[b]   1/1  b1: make b1" in ended.out
    found = json.loads(gate("plan", *BOTH, "--json").out)
    revisions = [[each["revision"] for each in history["revisions"]] for history in found["histories"]]
    assert revisions == [["a2"], ["b1"]]
    assert database.tables() == {"va"}


def test_the_plan_as_sql_is_one_script_with_a_comment_for_each_history(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    for project in (two.a, two.b):
        env = project.folder / "migrations" / "env.py"
        env.write_text(with_offline_branch(env.read_text(), "dialect_name='postgresql'"))
    ended = gate("plan", *BOTH, "--sql")
    assert ended.code == 0, ended.err
    lines = [line for line in ended.out.splitlines() if line.startswith(("-- [", "CREATE TABLE t_"))]
    assert lines == ["-- [a]", "CREATE TABLE t_a1 (id int);", "CREATE TABLE t_a2 (id int);", "-- [b]", *lines[4:]]
    assert lines[4:] == ["CREATE TABLE t_b1 (id int);"]
    database.execute(ended.out)


def test_busy_is_a_migration_of_any_history(gate: GateRunner, two: Histories, tmp_path: Path) -> None:
    two.b.add("b2", "b1", wait_for_file(tmp_path / "go"))
    migrating = gate.start("migrate", *BOTH)
    migrating.await_event("gate.revision_started", lambda each: each["revision"] == "b2")
    assert gate("check", *BOTH, "--busy").code == 75
    found = json.loads(gate("check", *BOTH, "--busy", "--json").out)
    assert "at revision b2" in found["migrating"]
    (tmp_path / "go").touch()
    assert migrating.wait().code == 0
    assert gate("check", *BOTH, "--busy").code == 0


@pytest.fixture
def serving(gate: GateRunner, database: TestDatabase) -> tuple[RunningProgram, str]:
    database.stamp("a2", table="va")
    database.execute("CREATE TABLE vb (version_num varchar(32) PRIMARY KEY)")
    port = free_port()
    process = gate.start("serve", *BOTH, "--listen", f"127.0.0.1:{port}", GATE_TTL="0.1")
    process.await_event("gate.serving")
    return process, f"http://127.0.0.1:{port}"


def test_readiness_is_one_answer_with_the_worst_verdict_and_its_history(
    serving: tuple[RunningProgram, str], database: TestDatabase
) -> None:
    process, url = serving
    found = httpx.get(f"{url}/health/ready", timeout=10)
    assert (found.status_code, found.json()["section"], found.json()["verdict"]) == (503, "b", "BEHIND")
    assert process.await_event("gate.answer_changed", lambda each: each["section"] == "b")["level"] == "critical"
    database.stamp("b1", table="vb")

    def ready() -> bool:
        return httpx.get(f"{url}/health/ready", timeout=10).status_code == 200

    await_true(ready, lambda: "not ready although both fit", process.process)
    metrics = httpx.get(f"{url}/metrics", timeout=10).text
    assert 'gate_schema_current{section="a"} 1.0' in metrics
    assert 'gate_schema_verdict{section="b",verdict="CURRENT"} 1.0' in metrics


# ---- what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", "a", "-n", "a"), "-n names a twice"),
        (("-c", "alembic.ini", "-c", "./alembic.ini"), "twice"),
        (("-c", "a/alembic.ini", "-c", "b/alembic.ini", "-n", "x"), "-n x"),
        (("-c", "a/alembic.ini", "-c", "b/alembic.ini", "-c", "pyproject.toml"), "pyproject.toml"),
    ],
)
def test_what_is_not_clear_is_refused(gate: GateRunner, words: tuple[str, ...], said: str) -> None:
    ended = gate("check", *words)
    assert (ended.code, said in ended.err, ended.out) == (2, True, "")


def test_a_section_that_does_not_exist_is_named_and_nothing_is_migrated(
    gate: GateRunner, database: TestDatabase
) -> None:
    ended = gate("migrate", *BOTH, "-n", "typo")
    assert (ended.code, ended.event("gate.failed")["section"]) == (78, "typo")
    assert "no section [typo]" in ended.failure
    assert database.tables() == set()


@pytest.mark.parametrize("command", ["check", "wait", "migrate", "plan"])
def test_two_histories_that_share_a_version_table_are_refused(
    gate: GateRunner, two: Histories, database: TestDatabase, command: str
) -> None:
    two.set_options(two.b, ", version_table='va'")
    ended = gate(command, *BOTH)
    assert ended.code == 78
    assert "[a] and [b] would share the version table va" in ended.err
    assert "version_table_schema to context.configure" in ended.err
    assert database.tables() == set()


def test_a_version_table_that_a_setting_names_is_not_shared(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("migrate", *BOTH, GATE_VERSION_TABLE="v")
    assert ended.code == 78
    assert "gate run -n A --version-table A_TABLE -- gate run -n B" in ended.failure
    assert database.tables() == set()


@pytest.mark.parametrize("order", [BOTH, ("-n", "b", "-n", "a")], ids="".join)
def test_a_version_table_that_only_the_search_path_shows_to_be_shared_is_refused(
    gate: GateRunner, two: Histories, database: TestDatabase, order: tuple[str, ...]
) -> None:
    two.set_options(two.b, ", version_table='va', version_table_schema='public'")
    ended = gate("run", *order, "--", *SERVER, RUN_MIGRATIONS="1")
    assert (ended.code, ended.out, ended.event("gate.failed")["section"]) == (78, "", "a")
    assert "would share the version table public.va" in ended.failure
    assert gate("check", *order).code == 78


def test_two_histories_may_use_the_same_revision_ids(gate: GateRunner, two: Histories, database: TestDatabase) -> None:
    """Sequential ids, as 0001: the table of the one holds ids that the other knows, and is not taken for its own."""
    for project in (two.a, two.b):
        for script in project.versions.glob("*.py"):
            script.unlink()
    two.a.add("0001", None, 'op.execute("CREATE TABLE t_a (id int)")')
    two.b.add("0001", None, 'op.execute("CREATE TABLE t_b (id int)")')
    assert gate("check", *BOTH).code == 1
    assert gate("migrate", *BOTH).code == 0
    assert (database.stamped("va"), database.stamped("vb")) == ({"0001"}, {"0001"})
    two.a.add("0002", "0001", "pass")
    database.stamp("0002", table="vb")
    found = json.loads(gate("check", *BOTH, "--json").out)
    assert [each["verdict"] for each in found["histories"]] == ["BEHIND", "UNKNOWN"]


def test_two_histories_in_two_databases_may_use_the_same_name(
    gate: GateRunner, two: Histories, database: TestDatabase, another_database: TestDatabase
) -> None:
    url = 'make_url(os.environ["DATABASE_URL"])'
    for each, place in ((two.a, database), (two.b, another_database)):
        two.set_options(each, "")
        env = each.folder / "migrations" / "env.py"
        env.write_text(env.read_text().replace(url, f"make_url({place.url!r})"))
    two.write_ini(f"sqlalchemy.url = {database.url}", f"sqlalchemy.url = {another_database.url}")
    ended = gate("run", *BOTH, "--", *SERVER, RUN_MIGRATIONS="1", DATABASE_URL="")
    assert (ended.code, ended.out) == (0, "server started\n"), ended.err
    assert (database.stamped(), another_database.stamped()) == ({"a2"}, {"b1"})
    assert gate("check", *BOTH).code == 78


def test_several_ini_files_are_several_histories(gate: GateRunner, database: TestDatabase) -> None:
    files = ("-c", "a/alembic.ini", "-c", "b/alembic.ini")
    ended = gate("migrate", *files)
    assert (ended.code, sections(ended, "gate.migrated")) == (0, ["a/alembic.ini", "b/alembic.ini"])
    assert gate("check", *files).out.startswith("[a/alembic.ini] CURRENT")


def test_an_upgrade_command_names_the_history(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("migrate", *BOTH, GATE_UPGRADE_COMMAND="true")
    assert (ended.code, "{section}" in ended.failure) == (78, True)
    ended = gate("migrate", *BOTH, GATE_UPGRADE_COMMAND=f"{sys.executable} -m alembic -n {{section}} upgrade heads")
    assert ended.code == 0, ended.err
    assert (database.stamped("va"), database.stamped("vb")) == ({"a2"}, {"b1"})


def test_bypass_skips_all(gate: GateRunner) -> None:
    ended = gate("run", "-n", "typo", "-n", "b", "--", *SERVER, GATE_BYPASS="1")
    assert (ended.code, ended.out) == (0, "server started\n")


# ---- what the code needs

MODELS = """
from sqlalchemy import Column, Integer, MetaData, Table

metadata = MetaData()
Table({name!r}, metadata, Column("id", Integer))
"""


def with_models(two: Histories) -> None:
    """Let each env.py know a table of its own, which its first revision creates."""
    for project, table, name in ((two.a, "va", "t_a1"), (two.b, "vb", "t_b1")):
        options = f", version_table={table!r}, target_metadata=metadata"
        env = SYNC_ENV.format(driver="psycopg", options=options)
        offline = f"dialect_name='postgresql'{options}"
        text = MODELS.format(name=name) + with_offline_branch(env, offline)
        (project.folder / "migrations" / "env.py").write_text(text)


def test_each_section_has_its_own_record_of_what_the_code_needs(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    with_models(two)
    ended = gate("expect", *BOTH, DATABASE_URL="")
    assert ended.code == 0, ended.err
    assert [line.partition(":")[0] for line in ended.out.splitlines()] == [
        "gate-expected.a.json",
        "gate-expected.b.json",
    ]
    assert gate("expect", *BOTH, "--check", DATABASE_URL="").code == 0
    assert gate("migrate", *BOTH).code == 0
    database.execute("DROP TABLE t_b1")
    found = json.loads(gate("check", *BOTH, "--json").out)
    assert [(each["verdict"], each["missing_total"]) for each in found["histories"]] == [
        ("CURRENT", 0),
        ("INCOMPLETE", 1),
    ]
    (two.folder / "gate-expected.b.json").unlink()
    ended = gate("expect", *BOTH, "--check", DATABASE_URL="")
    assert (ended.code, "gate: [b] gate-expected.b.json does not exist" in ended.err) == (1, True)


def test_one_record_for_two_histories_is_refused(gate: GateRunner, two: Histories, tmp_path: Path) -> None:
    with_models(two)
    ended = gate("expect", *BOTH, "shop.models:Base")
    assert (ended.code, "once for each section" in ended.err) == (2, True)
    for command in ("expect", "check"):
        ended = gate(command, *BOTH, "--expected", "one.json")
        assert (ended.code, "gate-expected.SECTION.json" in ended.err) == (78, True)
    for name in ("a", "b"):
        (two.folder / f"{name}.ini").write_text(f"[alembic]\nscript_location = %(here)s/{name}/migrations\n")
    files = ("-c", "a.ini", "-c", "b.ini")
    assert gate("heads", *files).out == "[a.ini] a2\n[b.ini] b1\n"
    ended = gate("expect", *files)
    assert (ended.code, "would share the file of gate expect" in ended.err) == (78, True)
    assert gate("expect", "-c", "a.ini").code == 0
    ended = gate("check", *files)
    assert (ended.code, "would share the file of gate expect" in ended.err) == (78, True)


def test_each_history_has_a_version_table_in_each_schema_of_the_tenants(
    gate: GateRunner, two: Histories, database: TestDatabase
) -> None:
    for project, table in ((two.a, "va"), (two.b, "vb")):
        schema = 'context.get_x_argument(as_dictionary=True)["schema"]'
        two.set_options(project, f", version_table={table!r}, version_table_schema={schema}")
        for script in project.versions.glob("*.py"):
            script.write_text(script.read_text().replace("CREATE TABLE t_", "CREATE TABLE IF NOT EXISTS t_"))
    for schema in ("t1", "t2"):
        database.execute(f"CREATE SCHEMA {schema}")
    ended = gate("migrate", *BOTH, "--schemas", "t1,t2")
    assert ended.code == 0, ended.err
    assert [database.stamped(f"{schema}.{table}") for schema in ("t1", "t2") for table in ("va", "vb")] == [
        {"a2"},
        {"b1"},
        {"a2"},
        {"b1"},
    ]
    ended = gate("check", *BOTH, "--schemas", "t1,t2")
    assert (ended.code, ended.out.splitlines()[0][:12]) == (0, "[a] CURRENT ")
