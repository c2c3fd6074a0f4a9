"""Gate agrees with Alembic: on generated histories, and on database states that Alembic itself has reached.

Alembic plans and migrates an in-memory SQLite database; gate must agree with its next plan in every state.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from hypothesis import assume, given
from hypothesis import strategies as st

from gate.drift import comparison
from gate.drift.comparison import Drift, Verdict
from gate.errors import BadScripts
from gate.image.revision_graph import Revision, RevisionGraph
from tests.support.histories import (
    COMMANDS,
    IDS,
    Command,
    History,
    assert_runnable,
    database,
    directory,
    drawn,
    entangled,
    histories,
    plan,
    reach,
    rows,
    run,
    upgrade_steps,
)


def assert_agreement(revisions: Sequence[Revision], stamped: tuple[str, ...]) -> Drift:
    script, image = directory(revisions), RevisionGraph(revisions)
    assert sorted(image.heads) == sorted(script.revision_map._real_heads)
    found = comparison.compare(image, stamped)
    unknown = tuple(row for row in stamped if not _known(script, row))
    assert found.unknown == tuple(sorted(unknown))
    if unknown:
        inner = {image.resolve(row) for row in stamped if row not in unknown} - set(image.heads)
        assert found.verdict is (Verdict.DIVERGED if inner else Verdict.UNKNOWN)
        return found
    try:
        pending = plan(script, stamped)
    except CommandError as error:
        assert "overlaps" in str(error)
        assert found.verdict is Verdict.DIVERGED or found.redundant
    else:
        assert (found.verdict, found.redundant) == (Verdict.BEHIND if pending else Verdict.CURRENT, ())
        if entangled(revisions):
            assert sorted(found.pending) == sorted(pending)
            assert_runnable(image, found.pending)
        else:
            assert [*found.pending] == pending
    return found


def _known(script: ScriptDirectory, row: str) -> bool:
    try:
        return script.get_revision(row) is not None
    except CommandError:
        return False


@drawn
@given(history=histories(), commands=COMMANDS)
def test_in_every_state_that_alembic_reaches_gate_agrees_with_its_plan(
    history: History, commands: list[Command]
) -> None:
    with database() as connection:
        reach(connection, directory(history.new), commands)
        found = assert_agreement(history.new, rows(connection))
        # Alembic's downgrade of a merge may leave overlapping rows, which its next upgrade refuses.
        if not any(command.down for command in commands):
            assert found.verdict in {Verdict.CURRENT, Verdict.BEHIND}
            assert found.redundant == ()


@drawn
@given(history=histories(), commands=COMMANDS)
def test_after_the_plan_of_alembic_the_verdict_is_current(history: History, commands: list[Command]) -> None:
    with database() as connection:
        script = directory(history.new)
        reach(connection, script, commands)
        image = RevisionGraph(history.new)
        # Where an earlier downgrade left overlapping rows Alembic has no plan; on some merges its plan fails.
        assume(not comparison.compare(image, rows(connection)).redundant)
        assume(comparison.compare(image, rows(connection)).verdict is not Verdict.DIVERGED)
        assume(run(connection, upgrade_steps(script, rows(connection))))
        found = comparison.compare(image, rows(connection))
        assert (found.verdict, found.pending, found.redundant) == (Verdict.CURRENT, (), ())


@drawn
@given(history=histories(), commands=COMMANDS)
def test_a_new_image_on_a_database_that_an_old_image_left_is_read_as_alembic_reads_it(
    history: History, commands: list[Command]
) -> None:
    with database() as connection:
        reach(connection, directory(history.old), commands)
        assert_agreement(history.new, rows(connection))


@drawn
@given(history=histories(), commands=COMMANDS)
def test_an_old_image_on_a_database_that_a_new_image_left_is_read_as_alembic_reads_it(
    history: History, commands: list[Command]
) -> None:
    with database() as connection:
        reach(connection, directory(history.new), commands)
        assert_agreement(history.old, rows(connection))


@drawn
@given(history=histories(), data=st.data())
def test_any_rows_at_all_are_read_as_alembic_reads_them(history: History, data: st.DataObject) -> None:
    names = [name for r in history.new for name in (r.id, *r.labels)]
    row = st.sampled_from(names) | st.builds(lambda name, n: name[: n + 1], st.sampled_from(names), st.integers(0, 6))
    stamped = data.draw(st.lists(row | IDS, max_size=4, unique=True))
    assert_agreement(history.new, tuple(stamped))


@drawn
@given(history=histories(), data=st.data())
def test_where_alembic_refuses_overlapping_rows_gate_says_diverged_only_for_what_was_never_applied(
    history: History, data: st.DataObject
) -> None:
    image, ids = RevisionGraph(history.new), st.sampled_from([r.id for r in history.new])
    first = data.draw(ids)
    beneath = st.sampled_from(sorted(image.closure([first])))  # often enough below it, so that little is discarded
    drawn_rows = [first, *data.draw(st.lists(beneath, min_size=1, max_size=2)), *data.draw(st.lists(ids, max_size=2))]
    stamped = data.draw(st.permutations([*dict.fromkeys(drawn_rows)]))
    below = {row: image.closure([row]) for row in stamped}
    redundant = {row for row in stamped for other in stamped if row != other and row in below[other]}
    assume(redundant)
    with pytest.raises(CommandError, match="overlaps"):
        plan(directory(history.new), tuple(stamped))
    found = comparison.compare(image, stamped)
    if found.verdict is not Verdict.DIVERGED:
        assert set(found.redundant) == redundant
        assert found.verdict is (Verdict.BEHIND if found.pending else Verdict.CURRENT)
    if all(any(row in image.plain_closure([other]) for other in stamped if other != row) for row in redundant):
        assert found.verdict is not Verdict.DIVERGED


def _load(revisions: Sequence[Revision]) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return directory(revisions).revision_map._revision_map


@st.composite
def tangles(draw: st.DrawFn) -> list[Revision]:
    """Revisions whose parents may be missing, may be labels, and may go in circles."""
    ids = draw(st.lists(IDS, min_size=1, max_size=6, unique=True))
    label = draw(st.sampled_from(["lab", ids[0]]))
    names = st.sampled_from([*ids, "lab", *(["gone"] if draw(st.booleans()) else [])])
    several = st.lists(names, max_size=2, unique=True).map(tuple)
    return [
        Revision(id_, draw(several), draw(several), (label,) if draw(st.integers(0, 3)) == 0 else ()) for id_ in ids
    ]


def _is_cyclic(revisions: Sequence[Revision]) -> bool:
    meant = {label: r.id for r in revisions for label in r.labels} | {r.id: r.id for r in revisions}
    parents = {r.id: {meant.get(name, name) for name in (*r.down, *r.depends_on)} for r in revisions}
    try:
        TopologicalSorter(parents).prepare()
    except CycleError:
        return True
    return False


@drawn
@given(tangles())
def test_what_alembic_refuses_to_load_is_refused_and_so_is_every_circle(revisions: list[Revision]) -> None:
    refusal: Any = None
    try:
        _load(revisions)
    except (RevisionError, KeyError, AssertionError) as error:
        refusal = error
    if refusal is not None or _is_cyclic(revisions):
        with pytest.raises(BadScripts):
            RevisionGraph(revisions)
    else:
        assert sorted(RevisionGraph(revisions).heads) == sorted(directory(revisions).revision_map._real_heads)


def _rev(id_: str, *down: str, depends_on: tuple[str, ...] = ()) -> Revision:
    return Revision(id_, down, depends_on)


A1, A2, B1 = _rev("a1"), _rev("a2", "a1"), _rev("b1")
B2_NEEDS_A2 = (A1, A2, B1, _rev("b2", "b1", depends_on=("a2",)))
B2_NEEDS_A1 = (A1, A2, B1, _rev("b2", "b1", depends_on=("a1",)))
B2_ALONE = (A1, A2, B1, _rev("b2", "b1"))


@pytest.mark.parametrize(
    ("before", "image", "reached", "verdict", "refused"),
    [
        pytest.param(B2_NEEDS_A2, B2_NEEDS_A2, ("b2",), Verdict.CURRENT, False, id="across branches"),
        pytest.param(B2_NEEDS_A1, B2_NEEDS_A1, ("a2", "b2"), Verdict.CURRENT, False, id="on an older revision"),
        pytest.param(B2_ALONE, B2_NEEDS_A2, ("a2", "b2"), Verdict.CURRENT, True, id="added later"),
    ],
)
def test_a_database_that_alembic_fully_upgraded_is_current_whatever_depends_on_what(
    before: tuple[Revision, ...],
    image: tuple[Revision, ...],
    reached: tuple[str, ...],
    verdict: Verdict,
    *,
    refused: bool,
) -> None:
    with database() as connection:
        assert run(connection, upgrade_steps(directory(before), ()))
        assert rows(connection) == reached
    found = assert_agreement(image, reached)
    assert found.verdict is verdict
    assert bool(found.redundant) is refused


@pytest.mark.parametrize(
    ("image", "stamped", "verdict", "complaint"),
    [
        pytest.param((_rev("aaaabbbb"),), ("aaaa",), Verdict.CURRENT, "", id="a partial id"),
        pytest.param((A1, A2), ("a1", "a2"), Verdict.CURRENT, "overlaps", id="a redundant ancestor"),
        pytest.param((A1, A2), ("x",), Verdict.UNKNOWN, "Can't locate revision", id="an unknown revision"),
        pytest.param(B2_NEEDS_A2, ("a1", "b2"), Verdict.DIVERGED, "overlaps", id="never applied"),
    ],
)
def test_alembic_still_behaves_as_measured(
    image: tuple[Revision, ...], stamped: tuple[str, ...], verdict: Verdict, complaint: str
) -> None:
    assert assert_agreement(image, stamped).verdict is verdict
    if complaint:
        with pytest.raises(CommandError, match=complaint):
            plan(directory(image), stamped)
    else:
        assert plan(directory(image), stamped) == []


def test_the_facts_about_broken_images_are_still_facts_about_alembic() -> None:
    assert directory(()).get_heads() == []
    for broken in ((A2,), (_rev("a1", depends_on=("gone",)),), (_rev("aaaabbbb"), _rev("b1", depends_on=("aaaa",)))):
        with pytest.raises(KeyError):
            _load(broken)
    with pytest.raises(RevisionError):
        _load((_rev("a1", "a2"), A2))
    with pytest.warns(UserWarning, match="present more than once"):
        directory((A1, A1)).get_heads()
