"""The verdict: every row of DESIGN 2's table and of hazards.md 1's."""

from __future__ import annotations

import pytest

from gate.database.missing import Kind, Missing, Shortfall
from gate.drift import comparison
from gate.drift.comparison import Drift, Verdict
from gate.errors import BadScripts
from gate.image.revision_graph import Revision, RevisionGraph


def rev(id_: str, *down: str, depends_on: tuple[str, ...] = ()) -> Revision:
    return Revision(id_, down, depends_on, (), f"make {id_}", f"versions/{id_}.py")


A1, A2, A3 = rev("a1"), rev("a2", "a1"), rev("a3", "a2")
CHAIN = (A1, A2, A3)
BRANCHES = (A1, rev("b1", "a1"), rev("c1", "a1"))
B2_NEEDS_A2 = (A1, A2, rev("b1"), rev("b2", "b1", depends_on=("a2",)))
B2_NEEDS_A1 = (A1, A2, rev("b1"), rev("b2", "b1", depends_on=("a1",)))
PARTIAL = (rev("aaaabbbb"),)


@pytest.mark.parametrize(
    ("image", "rows", "verdict", "pending"),
    [
        pytest.param(CHAIN, ("a3",), Verdict.CURRENT, (), id="at the head"),
        pytest.param(BRANCHES, ("b1", "c1"), Verdict.CURRENT, (), id="at both heads"),
        pytest.param(CHAIN, ("a1",), Verdict.BEHIND, ("a2", "a3"), id="two behind"),
        pytest.param(CHAIN, (), Verdict.BEHIND, ("a1", "a2", "a3"), id="a version table without rows"),
        pytest.param(BRANCHES, ("b1",), Verdict.BEHIND, ("c1",), id="one branch is missing"),
        pytest.param(BRANCHES, ("a1", "c1"), Verdict.BEHIND, ("b1",), id="behind with a redundant row"),
        pytest.param(CHAIN, ("x9",), Verdict.UNKNOWN, (), id="nothing is known"),
        pytest.param(CHAIN, ("a3", "x9"), Verdict.UNKNOWN, (), id="the head and something newer"),
        pytest.param(BRANCHES, ("b1", "x9"), Verdict.UNKNOWN, (), id="one head and something newer"),
        pytest.param(CHAIN, ("a2", "x9"), Verdict.DIVERGED, ("a3",), id="an inner revision and something foreign"),
        pytest.param(BRANCHES, ("a1", "b1", "x9"), Verdict.DIVERGED, ("c1",), id="a head, an inner one, a foreign one"),
        pytest.param(B2_NEEDS_A2, ("a1", "b2"), Verdict.DIVERGED, (), id="a child of a depended-on row was left out"),
    ],
)
def test_each_stamp_has_its_verdict(
    image: tuple[Revision, ...], rows: tuple[str, ...], verdict: Verdict, pending: tuple[str, ...]
) -> None:
    found = comparison.compare(RevisionGraph(image), rows)
    assert (found.verdict, found.pending) == (verdict, pending)


@pytest.mark.parametrize(
    ("other_tables", "verdict"),
    [(False, Verdict.EMPTY), (True, Verdict.UNSTAMPED)],
)
def test_without_a_version_table_other_tables_tell_an_empty_database_from_an_unstamped_one(
    *, other_tables: bool, verdict: Verdict
) -> None:
    found = comparison.compare(RevisionGraph(CHAIN), None, other_tables=other_tables)
    assert (found.verdict, found.stamped, found.pending) == (verdict, (), ("a1", "a2", "a3"))
    assert str(found) == "drift: db=none expected=a3"


def test_with_a_version_table_other_tables_change_nothing() -> None:
    assert comparison.compare(RevisionGraph(CHAIN), (), other_tables=True).verdict is Verdict.BEHIND


@pytest.mark.parametrize(
    ("image", "rows", "expected"),
    [
        pytest.param(
            B2_NEEDS_A2,
            ("b2",),
            Drift(Verdict.CURRENT, ("b2",), ("b2",)),
            id="a depended-on head was taken out of the version table",
        ),
        pytest.param(
            B2_NEEDS_A1,
            ("a2", "b2"),
            Drift(Verdict.CURRENT, ("a2", "b2"), ("a2", "b2")),
            id="a dependency on an older revision leaves both heads",
        ),
        pytest.param(
            B2_NEEDS_A2,
            ("a2", "b2"),
            Drift(Verdict.CURRENT, ("a2", "b2"), ("b2",), redundant=("a2",)),
            id="a dependency was added to an applied revision",
        ),
        pytest.param(
            PARTIAL,
            ("aaaa",),
            Drift(Verdict.CURRENT, ("aaaa",), ("aaaabbbb",)),
            id="a partial id in the table",
        ),
        pytest.param(
            (A1, A2),
            ("a1", "a2"),
            Drift(Verdict.CURRENT, ("a1", "a2"), ("a2",), redundant=("a1",)),
            id="a redundant ancestor row",
        ),
        pytest.param(
            (A1, A2),
            ("x",),
            Drift(Verdict.UNKNOWN, ("x",), ("a2",), unknown=("x",)),
            id="an unknown revision",
        ),
        pytest.param(
            B2_NEEDS_A2,
            ("a1", "b2"),
            Drift(Verdict.DIVERGED, ("a1", "b2"), ("b2",)),
            id="a dependency was added and its revision was never applied",
        ),
    ],
)
def test_where_alembics_own_look_is_wrong_gate_is_right(
    image: tuple[Revision, ...], rows: tuple[str, ...], expected: Drift
) -> None:
    assert comparison.compare(RevisionGraph(image), rows) == expected


@pytest.mark.parametrize(
    "image",
    [
        pytest.param((), id="no revisions in the image"),
        pytest.param((A2,), id="a missing parent"),
        pytest.param((rev("a1", depends_on=("gone",)),), id="an unresolvable dependency"),
        pytest.param((rev("aaaabbbb"), rev("b1", depends_on=("aaaa",))), id="a partial id as dependency"),
        pytest.param((rev("a1", "a2"), A2), id="a cycle"),
        pytest.param((A1, A1), id="the same id in two files"),
    ],
)
def test_an_image_that_alembic_cannot_work_with_has_no_verdict(image: tuple[Revision, ...]) -> None:
    again = [Revision(r.id, r.down, r.depends_on, r.labels, r.message, f"{n}.py") for n, r in enumerate(image)]
    with pytest.raises(BadScripts):
        RevisionGraph(again)


def test_the_same_revision_stamped_in_full_and_in_part_is_no_overlap() -> None:
    found = comparison.compare(RevisionGraph(PARTIAL), ("aaaa", "aaaabbbb"))
    assert (found.verdict, found.redundant) == (Verdict.CURRENT, ())


def test_a_row_that_two_revisions_begin_with_is_unknown() -> None:
    found = comparison.compare(RevisionGraph([rev("aaaabbbb"), rev("aaaacccc")]), ("aaaa",))
    assert (found.verdict, found.unknown) == (Verdict.UNKNOWN, ("aaaa",))


def test_pending_revisions_come_with_what_their_scripts_say() -> None:
    found = comparison.compare(RevisionGraph(CHAIN), ("a1",))
    assert found.messages == {"a2": "make a2", "a3": "make a3"}


def test_the_order_and_repetition_of_rows_change_nothing() -> None:
    image = RevisionGraph(BRANCHES)
    assert comparison.compare(image, ("c1", "b1", "c1")) == comparison.compare(image, ["b1", "c1"])


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (("a1",), "drift: db=a1 expected=a3"),
        (("x", "a3"), "drift: db=a3,x expected=a3"),
        ((), "drift: db=none expected=a3"),
        (("a\nlevel=info",), r"drift: db=a\nlevel=info expected=a3"),
        (("a\x1b[2J\r\0\u202e\u2028",), r"drift: db=a\x1b[2J\r\x00\u202e\u2028 expected=a3"),
        (("\ud800",), r"drift: db=\ud800 expected=a3"),
        (("größe",), "drift: db=größe expected=a3"),
    ],
)
def test_the_drift_line_is_one_line_whatever_is_stamped(rows: tuple[str, ...], line: str) -> None:
    assert str(comparison.compare(RevisionGraph(CHAIN), rows)) == line


@pytest.mark.parametrize(
    ("verdict", "fits"),
    [
        (Verdict.CURRENT, True),
        (Verdict.BEHIND, False),
        (Verdict.EMPTY, False),
        (Verdict.UNSTAMPED, True),
        (Verdict.UNKNOWN, True),
        (Verdict.DIVERGED, False),
        (Verdict.INCOMPLETE, False),
        (Verdict.AHEAD, True),
    ],
)
def test_a_check_reports_by_the_first_column_of_the_decision_table(verdict: Verdict, *, fits: bool) -> None:
    assert Drift(verdict, (), ()).fits is fits


COLUMN = Missing(Kind.COLUMN, None, "items", "stock")
LACKING = Shortfall((COLUMN,), 1)


@pytest.mark.parametrize(
    ("rows", "other_tables", "by_stamp", "lacking", "complete"),
    [
        (("a3",), False, Verdict.CURRENT, Verdict.INCOMPLETE, Verdict.CURRENT),
        (("a1",), False, Verdict.BEHIND, Verdict.BEHIND, Verdict.BEHIND),
        (None, False, Verdict.EMPTY, Verdict.EMPTY, Verdict.EMPTY),
        (None, True, Verdict.UNSTAMPED, Verdict.INCOMPLETE, Verdict.UNSTAMPED),
        (("x9",), False, Verdict.UNKNOWN, Verdict.INCOMPLETE, Verdict.AHEAD),
        (("a2", "x9"), False, Verdict.DIVERGED, Verdict.DIVERGED, Verdict.DIVERGED),
    ],
)
def test_what_is_missing_replaces_only_a_stamp_that_would_let_the_server_start(
    rows: tuple[str, ...] | None, *, other_tables: bool, by_stamp: Verdict, lacking: Verdict, complete: Verdict
) -> None:
    image = RevisionGraph(CHAIN)
    for shortfall, verdict in ((None, by_stamp), (LACKING, lacking), (Shortfall(), complete)):
        found = comparison.compare(image, rows, other_tables=other_tables, shortfall=shortfall)
        assert (found.verdict, found.stamp_verdict) == (verdict, by_stamp)
        assert str(found).endswith(" missing=items.stock") is (shortfall is LACKING)


def test_an_unknown_stamp_stays_ready_although_something_is_missing() -> None:
    image = RevisionGraph(CHAIN)
    found = [comparison.compare(image, rows, shortfall=LACKING) for rows in (("a3",), ("x9",))]
    assert [(drift.verdict, drift.fits, drift.is_ready) for drift in found] == [
        (Verdict.INCOMPLETE, False, False),
        (Verdict.INCOMPLETE, False, True),
    ]


def test_the_drift_line_names_ten_missing_items_and_counts_the_others() -> None:
    items = [Missing(Kind.COLUMN, "shop", "items", f"c{n:02}") for n in range(300)]
    line = str(comparison.compare(RevisionGraph(CHAIN), ("a3",), shortfall=Shortfall.of(items)))
    assert line.endswith(" missing=" + ",".join(f"shop.items.c{n:02}" for n in range(10)) + " and 290 more")


def test_a_thousand_rows_of_one_long_history_are_judged_at_once() -> None:
    """One walk for all rows; a walk for each took hours, and gigabytes."""
    ids = [f"r{n}" for n in range(20000)]
    image = RevisionGraph(
        Revision(id_, (before,) if before else ()) for id_, before in zip(ids, ["", *ids], strict=False)
    )
    found = comparison.compare(image, ids[-1000:])
    assert found.verdict is Verdict.CURRENT
    assert len(found.redundant) == 999
