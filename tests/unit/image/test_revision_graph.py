"""The revision graph: heads, ancestors, upgrade order, and the errors that it reports."""

from __future__ import annotations

import pytest
from alembic.script import revision as alembic_revision

from gate.errors import BadScripts
from gate.image.revision_graph import Revision, RevisionGraph


def rev(
    id_: str,
    *down: str,
    depends_on: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
) -> Revision:
    return Revision(id_, down, depends_on, labels, f"make {id_}", f"versions/{id_}.py")


CHAIN = (rev("a1"), rev("a2", "a1"), rev("a3", "a2"))
BRANCHES = (rev("a1"), rev("b1", "a1"), rev("b2", "b1"), rev("c1", "a1"))
MERGED = (*BRANCHES, rev("m1", "b2", "c1"))
TWO_BASES = (rev("a1"), rev("a2", "a1"), rev("b1"), rev("b2", "b1"))
DEPENDENT = (rev("a1"), rev("a2", "a1"), rev("b1"), rev("b2", "b1", depends_on=("a2",)))


@pytest.mark.parametrize(
    ("revisions", "heads"),
    [
        ((rev("a1"),), ("a1",)),
        (CHAIN, ("a3",)),
        (CHAIN[::-1], ("a3",)),
        (BRANCHES, ("b2", "c1")),
        (MERGED, ("m1",)),
        (TWO_BASES, ("a2", "b2")),
        (TWO_BASES[::-1], ("b2", "a2")),
        (DEPENDENT, ("b2",)),
    ],
)
def test_the_effective_heads_are_in_the_order_of_the_files(
    revisions: tuple[Revision, ...], heads: tuple[str, ...]
) -> None:
    assert RevisionGraph(revisions).heads == heads


@pytest.mark.parametrize(
    ("revisions", "applied", "pending"),
    [
        (CHAIN, (), ("a1", "a2", "a3")),
        (CHAIN[::-1], (), ("a1", "a2", "a3")),
        (CHAIN, ("a1",), ("a2", "a3")),
        (CHAIN, ("a3",), ()),
        (BRANCHES, ("b1",), ("c1", "b2")),
        (MERGED, ("b2",), ("c1", "m1")),
        (MERGED, ("b2", "c1"), ("m1",)),
        (TWO_BASES, ("a2",), ("b1", "b2")),
        (DEPENDENT, ("b1",), ("a1", "a2", "b2")),
        (DEPENDENT, ("b1", "a1"), ("a2", "b2")),
        (DEPENDENT, ("b2",), ()),
    ],
)
def test_pending_is_in_the_order_of_an_upgrade(
    revisions: tuple[Revision, ...], applied: tuple[str, ...], pending: tuple[str, ...]
) -> None:
    assert RevisionGraph(revisions).pending(applied) == pending


def test_the_closure_follows_dependencies_and_the_plain_closure_does_not() -> None:
    graph = RevisionGraph(DEPENDENT)
    assert graph.closure(["b2"]) == {"b2", "b1", "a2", "a1"}
    assert graph.plain_closure(["b2"]) == {"b2", "b1"}
    assert graph.closure([]) == set()
    assert graph.children == {"a1": ("a2",), "a2": (), "b1": ("b2",), "b2": ()}


@pytest.mark.parametrize("name", ["a2", "branch_a"])
def test_a_dependency_may_be_named_by_its_id_or_by_its_label(name: str) -> None:
    graph = RevisionGraph([rev("b1", depends_on=(name,)), rev("a1"), rev("a2", "a1", labels=("branch_a",))])
    assert graph.parents["b1"] == ("a2",)
    assert graph.heads == ("b1",)


@pytest.mark.parametrize(
    ("row", "meant"),
    [
        ("aaaabbbb", "aaaabbbb"),
        ("aaaab", "aaaabbbb"),
        ("aaaa", None),
        ("aaaac", "aaaacccc"),
        ("abc", "abc"),
        ("ab", None),
        ("branch", "abc"),
        ("bran", "abc"),
        ("zzz", None),
        ("", None),
    ],
)
def test_a_row_is_resolved_as_alembic_resolves_it(row: str, meant: str | None) -> None:
    graph = RevisionGraph([rev("aaaabbbb"), rev("aaaacccc"), rev("abc", labels=("branch",))])
    assert graph.resolve(row) == meant


def error(*revisions: Revision) -> str:
    with pytest.raises(BadScripts) as caught:
        RevisionGraph(revisions)
    return str(caught.value)


def test_an_image_without_revisions_never_passes() -> None:
    assert "no revisions" in error()


def test_an_id_in_two_files_is_refused_and_both_files_are_named() -> None:
    message = error(rev("a1"), Revision("a1", path="versions/copy.py"))
    assert "versions/a1.py" in message
    assert "versions/copy.py" in message


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (rev("a2", "gone"), "down_revision 'gone'"),
        (rev("a2", "a1", "gone"), "down_revision 'gone'"),
        (rev("a2", "a1", depends_on=("gone",)), "depends_on 'gone'"),
        (rev("a2", "lab"), "down_revision 'lab'"),
    ],
)
def test_a_missing_parent_is_refused_with_the_file_that_names_it(broken: Revision, what: str) -> None:
    message = error(rev("a1", labels=("lab",)), broken)
    assert what in message
    assert "versions/a2.py" in message


@pytest.mark.parametrize(
    "cycle",
    [
        (rev("a1", "a2"), rev("a2", "a1")),
        (rev("a1"), rev("a2", "a1", "a3"), rev("a3", "a2")),
        (rev("a1", depends_on=("b1",)), rev("b1", depends_on=("a1",))),
        (rev("a1"), rev("a2", "a1", depends_on=("b1",)), rev("b1", depends_on=("a2",))),
        (rev("a1"), rev("a2", "a1"), rev("a3", "a2", "a5"), rev("a4", "a3"), rev("a5", "a4"), rev("a6", "a5")),
    ],
)
def test_a_cycle_is_refused_and_a_file_of_it_is_named(cycle: tuple[Revision, ...]) -> None:
    message = error(*cycle)
    assert "cycle" in message
    assert "versions/" in message


@pytest.mark.parametrize("own", [rev("a1", "a1"), rev("a1", depends_on=("a1",))])
def test_a_revision_that_is_its_own_parent_is_refused(own: Revision) -> None:
    assert "versions/a1.py" in error(own)


def test_a_label_that_two_revisions_claim_is_refused() -> None:
    message = error(rev("a1", labels=("lab",)), rev("b1", labels=("lab",)))
    assert "versions/a1.py" in message
    assert "versions/b1.py" in message


def test_a_label_that_is_another_revisions_id_is_refused() -> None:
    assert "'a1'" in error(rev("a1"), rev("b1", labels=("a1",)))


@pytest.mark.parametrize("character", alembic_revision._revision_illegal_chars)
def test_an_id_with_a_character_that_alembic_refuses_is_refused(character: str) -> None:
    id_ = f"a{character}1"
    with pytest.raises(alembic_revision.RevisionError):
        alembic_revision.Revision(id_, None)
    assert "versions/odd.py" in error(Revision(id_, path="versions/odd.py"))


def test_a_history_of_ten_thousand_revisions_is_walked_without_recursion() -> None:
    ids = [f"r{n}" for n in range(10_000)]
    graph = RevisionGraph(rev(id_, *ids[max(0, n - 1) : n]) for n, id_ in enumerate(ids))
    assert graph.heads == ("r9999",)
    assert graph.pending(()) == tuple(ids)
    assert graph.pending(("r9998",)) == ("r9999",)
