"""What one sees from outside: who migrates, whether anybody does, and the last verdict."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import psycopg
import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import RunningProgram, await_true
from tests.support.projects import Project, wait_for_file

LIMIT = 4096


@pytest.fixture
def migrating(gate: GateRunner, project: Project) -> RunningProgram:
    """Another gate, in the middle of revision a4."""
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(60)")')
    other = gate.start("migrate")
    other.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    return other


def test_a_waiting_server_says_who_migrates(gate: GateRunner, migrating: RunningProgram) -> None:
    waiting = gate.start("run", "--", *SERVER)
    line = waiting.await_event("gate.waiting", lambda e: e.get("migrating", {}).get("revision") == "a4")
    who = line["migrating"]
    assert (who["revision"], who["progress"]) == ("a4", "4/4")
    assert socket.gethostname().startswith(who["host"])
    assert who["host"]
    assert who["since"] > 0
    assert "Migrating now: " in line["message"]
    assert "Nobody is migrating" not in line["message"]
    assert migrating.process.poll() is None


def test_an_unprivileged_role_sees_who_migrates_too(
    gate: GateRunner, database: TestDatabase, migrating: RunningProgram
) -> None:
    waiting = gate.start("wait", DATABASE_URL=database.create_role("x"))
    line = waiting.await_event("gate.waiting", lambda e: "migrating" in e)
    assert line["migrating"]["revision"] == "a4"
    assert migrating.process.poll() is None


def test_check_says_who_migrates(gate: GateRunner, migrating: RunningProgram) -> None:
    assert "at revision a4 (4/4)" in gate("check").out
    assert "at revision a4 (4/4)" in json.loads(gate("check", "--json").out)["migrating"]
    assert migrating.process.poll() is None


def test_the_end_of_a_migration_is_noticed_soon_although_pauses_are_long(
    gate: GateRunner, database: TestDatabase, migrating: RunningProgram
) -> None:
    waiting = gate.start("wait", GATE_POLL_MAX="60")
    waiting.await_event("gate.waiting", lambda e: "migrating" in e)
    database.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
    assert migrating.wait().code == 65
    database.stamp("a4")
    assert waiting.wait(timeout=8).code == 0


def test_busy_is_75_while_a_migrator_works(gate: GateRunner, database: TestDatabase, migrating: RunningProgram) -> None:
    ended = gate("check", "--busy")
    assert ended.code == 75
    assert "a4" in ended.out
    assert gate("check", "--busy", DATABASE_URL=database.create_role("x")).code == 75
    assert migrating.process.poll() is None


@pytest.fixture
def locking(gate: GateRunner, project: Project, database: TestDatabase) -> RunningProgram:
    """A migrator that holds the version table itself locked."""
    database.stamp("a3")
    alter = 'op.execute("ALTER TABLE alembic_version ALTER COLUMN version_num TYPE varchar(255)")'
    project.add("a4", "a3", f'{alter}\nop.execute("SELECT pg_sleep(60)")')
    other = gate.start("migrate")
    other.await_event("gate.revision_started", lambda e: e["revision"] == "a4")

    def locked() -> bool:
        return ("AccessExclusiveLock",) in database.execute(
            "SELECT mode FROM pg_locks WHERE granted AND relation = 'alembic_version'::regclass"
        )

    await_true(locked, lambda: "nobody locks it", other.process)
    return other


def test_a_migrator_that_locks_the_version_table_is_seen_all_the_same(
    gate: GateRunner, locking: RunningProgram
) -> None:
    soon = {"GATE_QUERY_TIMEOUT": "0.5"}
    busy = gate("check", "--busy", **soon)
    assert (busy.code, "a4" in busy.out) == (75, True)
    assert "Migrating now: " in gate("check", **soon).err
    waiting = gate.start("run", "--", *SERVER, **soon)
    line = waiting.await_event("gate.waiting")
    assert "at revision a4 (1/1)" in line["message"]
    assert locking.process.poll() is None


def test_a_wait_that_ends_while_a_migrator_locks_the_version_table_names_it_and_no_hanging_connection(
    gate: GateRunner, locking: RunningProgram
) -> None:
    ended = gate("wait", "--timeout", "1")  # less than what a look may take
    assert ended.code == 124
    assert "at revision a4 (1/1)" in ended.failure
    assert "hangs" not in ended.failure
    assert locking.process.poll() is None


def test_what_locks_the_version_table_at_the_last_look_is_not_taken_for_this_gates_own_migration(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    go = project.folder / "go"
    database.stamp("a3")
    project.add("a4", "a3", wait_for_file(go))
    migrating = gate.start("migrate", GATE_QUERY_TIMEOUT="0.5")
    migrating.await_event("gate.revision_started")
    with psycopg.connect(database.url) as other:
        other.execute("SELECT pg_advisory_lock(1)")
        locker = threading.Thread(target=lambda: other.execute("LOCK TABLE alembic_version"))
        locker.start()  # it stands in the queue behind the migration, and in front of the look that follows
        await_true(lambda: queued(database), lambda: "nobody waits for the table", migrating.process)
        go.touch()
        line = migrating.await_event("gate.waiting")
        locker.join()
    assert "a session other than the migration's has locked it" in line["message"]
    assert "Migrating now" not in line["message"]
    assert migrating.wait().code == 0


def queued(database: TestDatabase) -> bool:
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'alembic_version'::regclass"
    return bool(database.execute(f"SELECT EXISTS ({waiting})")[0][0])


def test_whoever_would_migrate_waits_for_a_migrator_that_locks_the_version_table(
    gate: GateRunner, database: TestDatabase, locking: RunningProgram
) -> None:
    ended = gate("migrate", GATE_QUERY_TIMEOUT="0.3", GATE_MIGRATION_LOCK_TIMEOUT="1")
    assert ended.code == 75
    assert "a4" in ended.failure
    assert locking.process.poll() is None


def test_busy_as_json_is_one_object(gate: GateRunner, migrating: RunningProgram) -> None:
    assert "a4" in json.loads(gate("check", "--busy", "--json").out)["migrating"]
    assert migrating.process.poll() is None


def test_busy_is_0_while_nobody_migrates(gate: GateRunner, database: TestDatabase) -> None:
    # A server that waits for a migration is no migrator: an update that brings the migration must not be blocked.
    database.stamp("a1")
    waiting = gate.start("run", "--", *SERVER)
    waiting.await_event("gate.waiting")
    assert gate("check", "--busy").code == 0


def test_busy_outlasts_a_slow_database_that_a_plain_check_gives_up(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a1")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND now() - query_start > interval '5500 ms'"
    )
    with psycopg.connect(database.url) as blocker:
        blocker.execute("LOCK TABLE alembic_version")
        busy = gate.start("check", "--busy")
        await_true(lambda: database.execute(waiting) == [(1,)], lambda: "".join(busy.err), busy.process)
    ended = busy.wait()
    assert (ended.code, ended.out, ended.err) == (0, "Nobody is migrating.\n", "")


def test_busy_is_0_for_every_error_so_that_a_broken_image_can_be_updated(gate: GateRunner, project: Project) -> None:
    assert gate("check", "--busy", DATABASE_URL="postgresql://postgres@127.0.0.1:1/shop").code == 0
    assert gate("check", "--busy", DATABASE_URL="nonsense").code == 0
    (project.versions / "a2.py").write_text("revision = (")
    assert gate("check", "--busy").code == 0


def test_the_termination_log_has_the_verdict_while_waiting_and_is_empty_at_the_hand_over(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    message = tmp_path / "termination-log"
    database.stamp("a1")
    waiting = gate.start("run", "--", "sh", "-c", f"cat {message}; echo started", GATE_TERMINATION_LOG=str(message))
    waiting.await_event("gate.waiting")
    assert message.read_text().startswith("BEHIND drift: db=a1 expected=a3. ")
    database.stamp("a1", "zz99")
    waiting.await_event("gate.waiting", lambda e: e["verdict"] == "DIVERGED")
    assert message.read_text().startswith("DIVERGED drift: db=a1,zz99 expected=a3. ")
    database.stamp("a3")
    assert waiting.wait().out == "started\n"
    assert message.read_text() == ""


@pytest.mark.parametrize("command", [("wait",), ("migrate",), ("run", "--", "true")])
def test_what_an_earlier_run_left_in_the_termination_log_is_emptied_at_success(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, command: tuple[str, ...]
) -> None:
    message = tmp_path / "termination-log"
    message.write_text("BEHIND, said the container before this one")
    database.stamp("a3")
    assert gate(*command, GATE_TERMINATION_LOG=str(message)).code == 0
    assert message.read_text() == ""


def test_the_termination_log_keeps_why_gate_ended(gate: GateRunner, project: Project, tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    told = {"GATE_TERMINATION_LOG": str(message)}
    assert gate("wait", GATE_TIMEOUT="0.3", **told).code == 124
    assert "GATE_TIMEOUT" in message.read_text()
    assert "drift: db=none expected=a3" in message.read_text()
    assert gate("wait", GATE_TIMEOUT="soon", **told).code == 78
    assert "GATE_TIMEOUT must be" in message.read_text()
    project.add("a4", "a3", f"raise RuntimeError('{'x' * 10_000}ü')")
    assert gate("migrate", **told).code == 65
    assert "in revision a4" in message.read_text()
    assert len(message.read_bytes()) <= LIMIT
    assert gate("run", "--", "no-such-command", GATE_BYPASS="1", **told).code == 127
    assert "no-such-command" in message.read_text()


def test_a_termination_log_that_cannot_be_written_does_not_stop_the_gate(
    gate: GateRunner, database: TestDatabase, tmp_path: Path
) -> None:
    database.stamp("a3")
    assert gate("wait", GATE_TERMINATION_LOG=str(tmp_path / "no" / "folder")).code == 0
    assert gate("wait", GATE_TERMINATION_LOG=str(tmp_path)).code == 0
