"""`gate migrate` with GATE_SCHEMAS: a version table in each schema of one database."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conftest import GateRunner, TestDatabase
from tests.support.projects import Project
from tests.support.tenants import add_logged, applied, create_tenants, migrated, stamps

TENANTS = [f"t{number:03}" for number in range(30)]


def test_each_schema_is_migrated_once_with_one_line_and_again_none(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, TENANTS, "a1")
    done = gate("migrate", "--schemas", "t*", "--jobs", "3")
    assert done.code == 0, done.err
    assert sorted(migrated(done)) == TENANTS
    assert stamps(database, TENANTS) == dict.fromkeys(TENANTS, "a2")
    assert applied(database) == [("a2", name) for name in TENANTS]
    assert done.names()[-2:] == ["gate.schemas_migrated", "gate.current"]
    assert {*done.names()} == {"gate.schema_migrated", "gate.schemas_migrated", "gate.current"}
    assert "30 of 30 schemas" in done.event("gate.schemas_migrated")["message"]
    again = gate("migrate", "--schemas", "t*", "--jobs", "3")
    assert (again.code, migrated(again)) == (0, [])


def test_empty_schemas_and_those_at_different_revisions_are_brought_to_the_heads(
    gate: GateRunner, database: TestDatabase
) -> None:
    create_tenants(database, ["t1"], "a1")
    create_tenants(database, ["t2"])
    create_tenants(database, ["t3"], "a2")
    done = gate("migrate", "--schemas", "t3,t2,t1")
    assert (done.code, migrated(done)) == (0, ["t2", "t1"])
    assert stamps(database, ["t1", "t2", "t3"]) == dict.fromkeys(["t1", "t2", "t3"], "a2")


def test_the_details_of_each_schema_are_logged_at_level_debug(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, ["t1", "t2"], "a1")
    done = gate("migrate", "--schemas", "t1,t2", GATE_LOG_LEVEL="debug")
    details = [event for event in done.events if event["event"] == "gate.revision_applied"]
    assert [event["schema"] for event in details] == ["t1", "t2"]
    assert details[0]["message"].startswith("Schema t1: Applied 1/1 a2 make a2")
    assert {event["level"] for event in details} == {"debug"}


BREAKS = (
    'if op.get_bind().exec_driver_sql("SELECT current_schema()").scalar() in {names!r}:\n    raise ValueError("broken")'
)


def break_in(project: Project, *names: str) -> None:
    """Let the revision a2 fail in these schemas."""
    add_logged(project, "a2", "a1", BREAKS.format(names=set(names)))


def test_a_failing_schema_stops_what_has_not_begun_and_another_run_continues(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    break_in(project, "t007")
    failed = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert failed.code == 65
    assert "t007: The upgrade failed in revision a2 (1/1): ValueError: broken" in failed.failure
    assert "were not begun" in failed.failure
    assert "--keep-going" in failed.failure
    event = failed.event("gate.schema_failed")
    assert (event["schema"], event["level"]) == ("t007", "error")
    left = [name for name, stamp in stamps(database, TENANTS).items() if stamp == "a1"]
    assert "t007" in left
    assert set(TENANTS[20:]) <= set(left)
    add_logged(project, "a2", "a1")
    again = gate("migrate", "--schemas", "t*", "--jobs", "2")
    assert (again.code, sorted(migrated(again))) == (0, left)
    assert applied(database) == [("a2", name) for name in TENANTS]


def test_with_keep_going_only_those_fail_that_fail_and_all_are_named(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS, "a1")
    broken = ["t003", "t007", "t011", "t019", "t029"]
    break_in(project, *broken)
    failed = gate("migrate", "--schemas", "t*", "--jobs", "3", "--keep-going")
    assert failed.code == 65
    assert failed.failure.startswith("5 of 30 schemas failed: ")
    assert all(name in failed.failure for name in broken)
    named = [event["schema"] for event in failed.events if event["event"] == "gate.schema_failed"]
    assert sorted(named) == broken
    assert {name for name, stamp in stamps(database, TENANTS).items() if stamp == "a1"} == {*broken}


def test_five_migrators_share_the_schemas_and_apply_each_revision_once(
    gate: GateRunner, database: TestDatabase
) -> None:
    many = [f"t{number:03}" for number in range(40)]
    create_tenants(database, many, "a1")
    gates = [gate.start("migrate", "--schemas", "t*", "--jobs", "2") for _ in range(5)]
    results = [each.wait(280) for each in gates]
    assert [each.code for each in results] == [0] * 5, "\n".join(each.err for each in results)
    assert applied(database) == [("a2", name) for name in many]
    shares = Counter(name for each in results for name in migrated(each))
    assert shares == Counter(many)


def test_the_first_schema_is_migrated_alone(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, TENANTS[:6], "a1")
    done = gate("migrate", "--schemas", "t*", "--jobs", "6", "--first", "t003")
    assert (done.code, migrated(done)[0], len(migrated(done))) == (0, "t003", 6)


def test_if_the_first_schema_fails_nothing_else_begins_even_with_keep_going(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    create_tenants(database, TENANTS[:6], "a1")
    break_in(project, "t003")
    failed = gate("migrate", "--schemas", "t*", "--jobs", "6", "--first", "t003", "--keep-going")
    assert (failed.code, migrated(failed)) == (65, [])
    assert stamps(database, TENANTS[:6]) == dict.fromkeys(TENANTS[:6], "a1")


@pytest.mark.parametrize("stamp", ["a1", "a2"], ids=["behind", "current"])
def test_a_first_schema_that_is_none_of_them_is_a_mistake(gate: GateRunner, database: TestDatabase, stamp: str) -> None:
    create_tenants(database, TENANTS[:3], stamp)
    failed = gate("migrate", "--schemas", "t*", "--first", "t00")
    assert (failed.code, migrated(failed)) == (78, [])
    assert "--first names t00" in failed.failure


def test_a_first_schema_may_be_missing_where_there_is_no_schema_yet(gate: GateRunner) -> None:
    done = gate("migrate", "--schemas", "t*", "--first", "t0", GATE_SCHEMAS_MAY_BE_EMPTY="1")
    assert (done.code, migrated(done)) == (0, [])


def test_a_first_schema_without_schemas_is_a_mistake(gate: GateRunner) -> None:
    failed = gate("migrate", "--first", "t00")
    assert (failed.code, migrated(failed)) == (78, [])
    assert "GATE_SCHEMAS is not set" in failed.failure


def test_a_first_schema_that_is_current_already_delays_nothing(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, TENANTS[:3], "a1")
    create_tenants(database, ["t999"], "a2")
    done = gate("migrate", "--schemas", "t*", "--first", "t999")
    assert (done.code, migrated(done)) == (0, TENANTS[:3])


HOSTILE = [
    "with space",
    'quo"te',
    "per%cent",
    "per%(cent)s",
    "apo'strophe",
    "-x",
    "--help",
    "back\\slash",
    "new\nline",
    "UPPER",
    "ünïcödé",
    "日本語",
    "a,b",
    "a*b",
    "a=b",
    "{schema}",
    "s" * 63,
    "select",
    ":colon",
    "semi;colon",
]


def test_schemas_of_any_name_are_migrated(gate: GateRunner, database: TestDatabase) -> None:
    create_tenants(database, HOSTILE, "a1")
    quoted = ",".join('"' + name.replace('"', '""') + '"' for name in HOSTILE)
    done = gate("migrate", "--schemas", quoted, "--jobs", "4")
    assert done.code == 0, done.err
    assert sorted(migrated(done)) == sorted(HOSTILE)
    assert applied(database) == sorted(("a2", name) for name in HOSTILE)
