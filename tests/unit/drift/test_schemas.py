"""Many schemas, judged as one: the worst verdict, the line that counts, and the decision."""

from __future__ import annotations

import pytest

from gate.database.lock import Migrator
from gate.database.missing import Kind, Missing, Shortfall
from gate.database.stamp import OtherTable, Stamp, TableName
from gate.drift import messages
from gate.drift.comparison import Verdict
from gate.drift.decision import decide_for
from gate.drift.inspector import Inspection
from gate.drift.schemas import compare_schemas
from gate.errors import BadSettings
from gate.image.revision_graph import Revision, RevisionGraph
from gate.settings.schema_source import SchemaSource
from gate.settings.settings import Decision, Policy

GRAPH = RevisionGraph([Revision("a1"), Revision("a2", down=("a1",)), Revision("a3", down=("a2",))])
SOURCE = SchemaSource(patterns=("t*",))
LACKING = Shortfall((Missing(Kind.COLUMN, "t1", "items", "stock"),), 1)


def stamp(name: str, *rows: str, **fields: object) -> Stamp:
    return Stamp("shop", name, rows or None)._replace(**fields)  # type: ignore[arg-type]


def inspect(*stamps: Stamp, may_be_empty: bool = False) -> Inspection:
    return compare_schemas(GRAPH, TableName(), stamps, SOURCE, may_be_empty=may_be_empty)


def test_the_line_counts_by_verdict_and_names_the_first_few() -> None:
    found = inspect(*(stamp(f"t{n}", "a3") for n in range(998)), stamp("t998", "a2"), stamp("t999", "a1"))
    assert str(found.drift) == "drift: 998 of 1,000 schemas expected=a3; BEHIND t998 (a2), t999 (a1)"
    assert found.drift.verdict is Verdict.BEHIND
    assert found.drift.pending == ("a2", "a3"), "those of the schema that lacks the most"
    assert messages.finding(found.drift, "shop", found.table) == (
        "Database shop: 2 of 1,000 schemas are not at the head(s). "
        "Schema t999 lacks 2 revisions (a2, a3) of this image."
    )


def test_ten_thousand_schemas_give_a_short_line() -> None:
    found = inspect(*(stamp(f"t{n}", "a1") for n in range(10_000)))
    assert str(found.drift) == (
        "drift: 0 of 10,000 schemas expected=a3; BEHIND t0 (a1), t1 (a1), t2 (a1), t3 (a1), t4 (a1) and 9,995 more"
    )


def test_an_answer_to_the_public_counts_and_names_nobody() -> None:
    found = inspect(stamp("alice_ltd", "a1"), stamp("bob_inc", "a3"), stamp("carol", "x"))
    assert found.drift.public_line == "drift: 1 of 3 schemas expected=a3; BEHIND 1; UNKNOWN 1"


def test_a_hostile_name_stays_in_its_line() -> None:
    line = str(inspect(stamp("t\n{}\x1b[2J" + "x" * 200, "a1")).drift)
    assert line.isprintable()
    assert len(line) < 200


@pytest.mark.parametrize(
    ("stamps", "verdict"),
    [
        ([stamp("t1", "a3"), stamp("t2", "a3")], Verdict.CURRENT),
        ([stamp("t1", "a3"), stamp("t2", "zz")], Verdict.UNKNOWN),
        ([stamp("t1", "a3", shortfall=Shortfall()), stamp("t2", "zz", shortfall=Shortfall())], Verdict.AHEAD),
        ([stamp("t1", "a3", shortfall=LACKING), stamp("t2", "a3")], Verdict.INCOMPLETE),
        ([stamp("t1", "zz"), stamp("t2")], Verdict.EMPTY),
        ([stamp("t1", "zz"), stamp("t2", other_tables=True)], Verdict.UNSTAMPED),
        ([stamp("t1"), stamp("t2", "a1")], Verdict.BEHIND),
        ([stamp("t1", "a1", "zz"), stamp("t2", "a1")], Verdict.DIVERGED),
    ],
)
def test_the_worst_verdict_is_the_one_of_the_whole(stamps: list[Stamp], verdict: Verdict) -> None:
    for order in (stamps, stamps[::-1]):
        assert inspect(*order).drift.verdict is verdict


def test_each_schema_is_judged_by_itself() -> None:
    migrator = Migrator("web-1", 1, 2, "a2", 1)
    found = inspect(stamp("t1", "a3"), stamp("t2", "a1", migrator=migrator), stamp("t3", schema_exists=False))
    assert found.schemas is not None
    assert [(s.name, s.drift.verdict, s.migrator, s.exists) for s in found.schemas] == [
        ("t1", Verdict.CURRENT, None, True),
        ("t2", Verdict.BEHIND, migrator, True),
        ("t3", Verdict.EMPTY, None, False),
    ]
    assert found.stamp.migrator == migrator


def test_a_schema_that_does_not_exist_is_called_so() -> None:
    drift = inspect(stamp("t1", "a3"), stamp("gone", schema_exists=False)).drift
    assert "Schema gone does not exist." in messages.finding(drift, "shop")


def test_no_schema_at_all_is_not_all_fit() -> None:
    with pytest.raises(BadSettings, match=r"GATE_SCHEMAS \(t\*\) names no schema"):
        inspect()
    found = inspect(may_be_empty=True)
    assert (found.drift.verdict, found.schemas) == (Verdict.CURRENT, ())
    assert decide_for(found.drift, Policy()) is Decision.GO


def test_a_schema_with_another_version_table_is_not_taken_for_empty() -> None:
    other = OtherTable("t1", "alembic_versions", ("a1",))
    with pytest.raises(BadSettings, match="set GATE_VERSION_TABLE=alembic_versions"):
        inspect(stamp("t1", other_tables=True, other_version_tables=(other,)))


@pytest.mark.parametrize(
    ("stamps", "policy", "decision"),
    [
        ([stamp("t1", "a3")], Policy(), Decision.GO),
        ([stamp("t1", "a1"), stamp("t2", "zz")], Policy(), Decision.WAIT),
        ([stamp("t1", "a1"), stamp("t2", "zz")], Policy(on_unknown=Decision.REFUSE), Decision.REFUSE),
        ([stamp("t1", "a1"), stamp("t2", "a3")], Policy(migrating=True), Decision.UPGRADE),
        ([stamp("t1", "a1"), stamp("t2", "zz")], Policy(migrating=True), Decision.UPGRADE),
        ([stamp("t1", "a1"), stamp("t2", "a1", "zz")], Policy(migrating=True), Decision.REFUSE),
        ([stamp("t1", "a1"), stamp("t2", "a1", "zz")], Policy(migrating=True, keep_going=True), Decision.UPGRADE),
        ([stamp("t1", "a3"), stamp("t2", "a1", "zz")], Policy(migrating=True, keep_going=True), Decision.REFUSE),
        ([stamp("t1", "a3"), stamp("t2")], Policy(), Decision.WAIT),
    ],
)
def test_the_decision_is_the_strictest_of_all(stamps: list[Stamp], policy: Policy, decision: Decision) -> None:
    for order in (stamps, stamps[::-1]):
        assert decide_for(inspect(*order).drift, policy) is decision
