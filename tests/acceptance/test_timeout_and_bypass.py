"""GATE_TIMEOUT, and GATE_BYPASS for when gate itself is the problem."""

from __future__ import annotations

import time

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.namespaces import silent_host
from tests.support.projects import Project


@pytest.mark.parametrize("command", [("wait",), ("run", "--", *SERVER)])
def test_a_wait_with_a_timeout_ends_with_124_and_says_why(
    gate: GateRunner, database: TestDatabase, command: tuple[str, ...]
) -> None:
    database.stamp("a1")
    began = time.monotonic()
    ended = gate(*command, GATE_TIMEOUT="1.5")
    assert (ended.code, ended.out) == (124, "")
    assert time.monotonic() - began >= 1.5
    assert "GATE_TIMEOUT" in ended.failure
    assert "drift: db=a1 expected=a3" in ended.failure
    assert ended.event("gate.failed")["exit_code"] == 124


def test_a_timeout_shorter_than_the_first_check_still_says_why(gate: GateRunner) -> None:
    with silent_host() as host:
        url = f"postgresql://postgres@127.0.0.1:{host.getsockname()[1]}/shop"
        ended = gate("wait", DATABASE_URL=url, GATE_TIMEOUT="0.5", GATE_CONNECT_TIMEOUT="1", GATE_QUERY_TIMEOUT="1")
    assert ended.code == 124
    assert "did not answer" in ended.failure


def test_the_timeout_holds_while_a_check_hangs(gate: GateRunner) -> None:
    with silent_host() as host:
        url = f"postgresql://postgres@127.0.0.1:{host.getsockname()[1]}/shop"
        ended = gate.start("wait", DATABASE_URL=url, GATE_TIMEOUT="0.5", GATE_CONNECT_TIMEOUT="60").wait(timeout=10)
    assert ended.code == 124


def test_a_migrator_with_a_timeout_ends_while_its_database_is_away(gate: GateRunner) -> None:
    ended = gate("migrate", "--timeout", "0.5", DATABASE_URL="postgresql://postgres@127.0.0.1:1/shop")
    assert ended.code == 124
    assert "Nothing listens" in ended.failure


def test_the_flag_wins_over_the_variable(gate: GateRunner) -> None:
    assert gate("wait", "--timeout", "0.3", GATE_TIMEOUT="3600").code == 124


def test_the_schema_that_fits_just_in_time_passes(gate: GateRunner, database: TestDatabase) -> None:
    waiting = gate.start("wait", GATE_TIMEOUT="30")
    waiting.await_event("gate.waiting")
    database.stamp("a3")
    assert waiting.wait().code == 0


def broken_settings(_: Project) -> dict[str, str]:
    return {"DATABASE_URL": "nonsense", "GATE_TIMEOUT": "soon", "GATE_TIMEOT": "3", "RUN_MIGRATIONS": "maybe"}


def broken_scripts(project: Project) -> dict[str, str]:
    (project.versions / "a2.py").write_text("revision = (")
    return {"RUN_MIGRATIONS": "1"}


def no_configuration(project: Project) -> dict[str, str]:
    (project.folder / "alembic.ini").unlink()
    return {"RUN_MIGRATIONS": "1"}


def no_database(_: Project) -> dict[str, str]:
    return {"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/shop", "RUN_MIGRATIONS": "1"}


def nothing_broken(_: Project) -> dict[str, str]:
    return {"RUN_MIGRATIONS": "1"}


BROKEN = [broken_settings, broken_scripts, no_configuration, no_database, nothing_broken]


@pytest.mark.parametrize("breaking", BROKEN)
def test_bypass_starts_the_server_whatever_is_broken_and_migrates_nothing(
    gate: GateRunner, project: Project, database: TestDatabase, breaking: object
) -> None:
    assert callable(breaking)
    ended = gate("run", "--", *SERVER, GATE_BYPASS="1", **breaking(project))
    assert (ended.code, ended.out) == (0, "server started\n")
    assert ended.event("gate.bypassed")["level"] == "critical"
    assert database.tables() == set()


@pytest.mark.parametrize("command", ["wait", "migrate"])
def test_bypass_ends_a_one_shot_with_0_and_migrates_nothing(
    gate: GateRunner, database: TestDatabase, command: str
) -> None:
    ended = gate(command, GATE_BYPASS="yes", GATE_TIMEOUT="soon")
    assert ended.code == 0
    assert ended.event("gate.bypassed")["level"] == "critical"
    assert database.tables() == set()


@pytest.mark.parametrize("value", ["0", "off", "no", "false", ""])
def test_bypass_that_is_off_is_off(gate: GateRunner, value: str) -> None:
    assert gate("wait", GATE_BYPASS=value, GATE_TIMEOUT="0.2").code == 124
