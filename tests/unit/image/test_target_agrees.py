"""Targets and phases: gate reads an address as Alembic does, and plans what Alembic would run, on drawn histories."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from sqlalchemy import Connection

from gate.database.missing import Kind, Missing, Shortfall
from gate.drift import comparison
from gate.drift.comparison import Drift, Verdict
from gate.errors import BadScripts
from gate.image.revision_graph import Revision, RevisionGraph
from gate.image.target import for_target
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
from tests.support.strategies import TEXT, printable_lines

STEPS = st.sampled_from(["+0", "-0", "+1", "-1", "+2", "-2", "+9"])


@st.composite
def addresses(draw: st.DrawFn, history: History) -> str:
    """Draw an address in Alembic's syntax; most of them name something in the history."""
    names = [name for r in history.new for name in (r.id, *r.labels)]
    name = st.sampled_from(names)
    partial = st.builds(lambda text, n: text[: n + 1], name, st.integers(0, 6))
    simple = draw(name | partial | IDS | st.sampled_from(["head", "heads", "head", "heads"]))
    branch = draw(st.none() | name | partial)
    steps = draw(st.none() | st.none() | STEPS)
    if steps and draw(st.integers(0, 5)) == 0:
        simple = "base"
    return f"{branch}@{simple}{steps or ''}" if branch else f"{simple}{steps or ''}"


@st.composite
def addressed(draw: st.DrawFn) -> tuple[History, str]:
    history = draw(histories())
    return history, draw(addresses(history))


@st.composite
def phased(draw: st.DrawFn) -> History:
    """A history in which some revisions are post_deploy, often with all their descendants, and at least one is not."""
    history = draw(histories())
    ids = [r.id for r in history.new]
    late = draw(st.sets(st.sampled_from(ids), max_size=3))
    if draw(st.integers(0, 2)):
        image = RevisionGraph(history.new)
        late = {id_ for id_ in ids if late & image.closure([id_])}
    new = tuple(r._replace(post_deploy=r.id in late) for r in history.new)
    assume(not all(r.post_deploy for r in new))
    return History(new, tuple(r._replace(post_deploy=r.id in late) for r in history.old))


def alembic_plan(script: ScriptDirectory, stamped: tuple[str, ...], target: str) -> list[str] | None:
    """Return what `alembic upgrade TARGET` would run, None if Alembic refuses or fails."""
    try:
        return plan(script, stamped, target)
    except (CommandError, RevisionError, AssertionError, KeyError):
        return None


def same_plan(image: RevisionGraph, found: tuple[str, ...], expected: Sequence[str]) -> bool:
    """Whether two plans are equal; where Alembic's order depends on hashes, whether both are in a valid order."""
    if not entangled([*image.revisions.values()]):
        return [*found] == [*expected]
    assert_runnable(image, found)
    return sorted(found) == sorted(expected)


def depends_on_database(address: str) -> bool:
    """Whether Alembic walks down from the heads: `base-1` is the last head but none of gate's targets."""
    return "base-" in address


@drawn
@given(drawn_address=addressed(), commands=COMMANDS)
def test_an_address_names_what_alembic_would_upgrade_to(
    drawn_address: tuple[History, str], commands: list[Command]
) -> None:
    history, address = drawn_address
    assume(not depends_on_database(address))
    script, image = directory(history.new), RevisionGraph(history.new)
    whole = alembic_plan(script, (), address)
    if not whole:
        with pytest.raises(BadScripts, match="GATE_TARGET"):
            for_target(image, address)
        event("refused")
        return
    aimed = for_target(image, address)
    assert same_plan(image, aimed.pending(()), whole)
    with database() as connection:
        reach(connection, script, commands)
        stamped = rows(connection)
        found = comparison.compare(aimed, stamped)
        expected = alembic_plan(script, stamped, address)
        if expected is None:  # a downgrade of a merge may have left rows that overlap
            assert found.redundant or found.verdict is Verdict.DIVERGED
            return
        assert found.verdict is (Verdict.BEHIND if expected else Verdict.CURRENT)
        assert same_plan(image, found.pending, expected)
        assert found.expected == aimed.targets
        if expected and run(connection, upgrade_steps(script, stamped, address)):
            assert comparison.compare(aimed, rows(connection)).verdict is Verdict.CURRENT


def may_wait(script: ScriptDirectory, revisions: Sequence[Revision]) -> set[str]:
    """The definition, with Alembic's own descendants: a revision and all of them are post_deploy."""
    late = {r.id for r in revisions if r.post_deploy}
    nodes = script.revision_map._get_descendant_nodes
    return {
        r.id for r in revisions if {each.revision for each in nodes([script.revision_map._revision_map[r.id]])} <= late
    }


@drawn
@given(history=phased())
def test_a_revision_may_wait_if_it_and_all_its_descendants_are_post_deploy(history: History) -> None:
    image = RevisionGraph(history.new)
    assert image.may_wait == may_wait(directory(history.new), history.new)
    assert set(image.needed_post_deploy) == {r.id for r in history.new if r.post_deploy} - image.may_wait
    for id_, needed_by in image.needed_post_deploy.items():
        assert id_ in image.closure([needed_by])
        assert not image.revisions[needed_by].post_deploy


def assert_phases(image: RevisionGraph, script: ScriptDirectory, stamped: tuple[str, ...]) -> Drift:
    """Compare, and hold the result to Alembic's plans for what is required, and for all."""
    found = comparison.compare(image, stamped)
    try:
        required, everything = plan(script, stamped, image.expected), plan(script, stamped, image.targets)
    except CommandError as error:
        assert "overlaps" in str(error)
        assert found.redundant or found.verdict is Verdict.DIVERGED
        return found
    assert same_plan(image, found.pending, required)
    assert same_plan(image, found.including_deferred().pending, everything)
    assert set(found.deferred) == set(everything) & image.may_wait
    assert set(required) == set(everything) - image.may_wait
    verdict = Verdict.BEHIND if required else Verdict.DEFERRED if everything else Verdict.CURRENT
    assert found.verdict is verdict
    return found


@drawn
@given(history=phased(), commands=COMMANDS, data=st.data())
def test_what_is_required_and_what_may_wait_are_alembics_plans_in_every_state(
    history: History, commands: list[Command], data: st.DataObject
) -> None:
    script, image = directory(history.new), RevisionGraph(history.new)
    address = data.draw(st.just("heads") | addresses(history))
    assume(not depends_on_database(address))
    if address != "heads":
        assume(alembic_plan(script, (), address))
        image = for_target(image, address)
    assume(image.expected)
    with database() as connection:
        reach(connection, script, commands)
        before = assert_phases(image, script, rows(connection))
        assume(not before.redundant and before.verdict is not Verdict.DIVERGED)
        assume(run(connection, upgrade_steps(script, rows(connection), image.expected)))
        between = assert_phases(image, script, rows(connection))
        assert between.verdict is (Verdict.DEFERRED if before.deferred else Verdict.CURRENT)
        event(between.verdict)
        assert set(between.deferred) == set(before.deferred)
        assume(run(connection, upgrade_steps(script, rows(connection), image.targets)))
        assert assert_phases(image, script, rows(connection)).verdict is Verdict.CURRENT


@drawn
@given(history=phased(), commands=COMMANDS)
def test_beside_unknown_rows_only_a_required_descendant_of_a_known_row_is_divergence(
    history: History, commands: list[Command]
) -> None:
    script, image = directory(history.new), RevisionGraph(history.new)
    if image.requires_all:
        return
    with database() as connection:
        reach(connection, script, commands)
        known = rows(connection)
        found = comparison.compare(image, (*known, "zzzz"))
        pending = set(image.pending(known))
        nodes = script.revision_map._get_descendant_nodes
        below = [script.revision_map._revision_map[row] for row in known]
        lacking = pending & {each.revision for each in nodes(below)}
        assert found.verdict is (Verdict.DIVERGED if lacking else Verdict.UNKNOWN)
        assert found.unknown == ("zzzz",)


def is_applied(connection: Connection, script: ScriptDirectory, targets: tuple[str, ...]) -> bool:
    """Upgrade; return False where Alembic refuses rows that an earlier downgrade left, or fails."""
    try:
        return run(connection, upgrade_steps(script, rows(connection), targets))
    except CommandError:
        return False


@drawn
@given(history=phased(), commands=COMMANDS, is_missing=st.booleans())
def test_an_old_image_is_ahead_through_all_phases_exactly_while_what_it_uses_is_there(
    history: History, commands: list[Command], *, is_missing: bool
) -> None:
    missing = Shortfall.of([Missing(Kind.COLUMN, None, "items", "name")] if is_missing else [])
    old, new = RevisionGraph(history.old), RevisionGraph(history.new)
    assume(old.expected)
    script = directory(history.new)
    with database() as connection:
        reach(connection, script, commands)
        for targets in (None, new.expected, new.targets):
            if targets:
                assume(is_applied(connection, script, targets))
            by_stamp = comparison.compare(old, rows(connection))
            found = comparison.compare(old, rows(connection), shortfall=missing)
            assert found.stamp_verdict is by_stamp.verdict
            assert (found.pending, found.deferred) == (by_stamp.pending, by_stamp.deferred)
            if not by_stamp.fits:
                assert found.verdict is by_stamp.verdict
            elif is_missing:
                assert found.verdict is Verdict.INCOMPLETE
            elif by_stamp.verdict is Verdict.UNKNOWN:
                assert found.verdict is Verdict.AHEAD
            else:
                assert found.verdict in {Verdict.CURRENT, Verdict.DEFERRED}
            event(found.verdict)


A1, A2, A3 = Revision("a1"), Revision("a2", ("a1",)), Revision("a3", ("a2",), post_deploy=True)


@example(("a2",), Verdict.DEFERRED, ("a3",))
@example(("a1",), Verdict.BEHIND, ("a3",))
@example(("a3",), Verdict.CURRENT, ())
@given(st.just(("a2",)), st.just(Verdict.DEFERRED), st.just(("a3",)))
def test_expand_deploy_contract_in_one_line(stamped: tuple[str, ...], verdict: Verdict, left: tuple[str, ...]) -> None:
    found = comparison.compare(RevisionGraph((A1, A2, A3)), stamped)
    assert (found.verdict, found.deferred, found.expected) == (verdict, left, ("a2",))


def test_a_stamp_beyond_the_target_is_current() -> None:
    aimed = for_target(RevisionGraph((A1, A2, A3._replace(post_deploy=False))), "a2")
    assert comparison.compare(aimed, ("a3",)).verdict is Verdict.CURRENT
    assert comparison.compare(aimed, ("a1",)).pending == ("a2",)


LABELLED = (
    Revision("aaaa1111", labels=("expand",)),
    Revision("aaaa2222", ("aaaa1111",)),
    Revision("bbbb1111", labels=("contract",)),
    Revision("bbbb2222", ("bbbb1111",), depends_on=("aaaa1111",)),
)
REFUSED = {
    "+1": "counts from the revision that the database is stamped with",
    "-1": "counts from the revision that the database is stamped with",
    "expand@+1": "counts from the revision that the database is stamped with",
    "head": "names one head, and this image has 2 (aaaa2222, bbbb2222)",
    "base": "requires no revision, so every database would fit",
    "gone": "names nothing in this image; its branch labels are expand, contract",
    "gone@head": "names branch gone, which this image does not have",
    "aaaa": "names several revisions or branches",
    "expand@bbbb2222": "which is not on branch expand",
    "aaaa1111:aaaa2222": "is a range",
    "aaaa2222,bbbb2222": "gate takes one address, as `alembic upgrade` does",
    "expand@head contract@head": "gate takes one address",
    "aaaa2222+1": "counts beyond the end of this image's history",
    "aaaa1111-1": "counts beyond the end of this image's history",
    "heads-1": "which names several revisions",
    "base+1": "counts across a fork",
    "@": "names nothing in this image",
    "expand@": "names nothing in this image",
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_names_no_target_is_refused_with_its_reason(address: str) -> None:
    with pytest.raises(BadScripts) as failure:
        for_target(RevisionGraph(LABELLED), address)
    assert str(failure.value).startswith(f"The target {address} (GATE_TARGET) ")
    assert REFUSED[address] in str(failure.value)


PIECES = st.sampled_from(["expand", "aaaa", "1111", "@", "+", "-", "9" * 5000, "head", "heads", "base", ":", ",", " "])


@drawn
@given(TEXT | st.lists(PIECES, max_size=6).map("".join))
def test_any_target_is_resolved_or_refused_in_printable_lines(address: str) -> None:
    try:
        aimed = for_target(RevisionGraph(LABELLED), address)
    except BadScripts as error:
        assert printable_lines(error)
    else:
        assert aimed.targets


@pytest.mark.parametrize(
    ("address", "targets"),
    [
        ("heads", ("aaaa2222", "bbbb2222")),
        ("expand@head", ("aaaa2222",)),
        ("expand", ("aaaa1111",)),
        ("expa", ("aaaa1111",)),
        ("aaaa2", ("aaaa2222",)),
        ("contract@bbbb1", ("bbbb1111",)),
        ("bbbb2222@head", ("bbbb2222",)),
        ("aaaa1111+1", ("aaaa2222",)),
        ("expand@head-1", ("aaaa1111",)),
        ("contract@base+1", ("bbbb1111",)),
    ],
)
def test_an_address_in_alembics_syntax_is_resolved(address: str, targets: tuple[str, ...]) -> None:
    aimed = for_target(RevisionGraph(LABELLED), address)
    assert (aimed.target, aimed.targets, aimed.expected) == (address, targets, targets)
