"""The sentences about a verdict: what was found, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gate.database.missing import Kind, Missing
from gate.drift import messages
from gate.drift.comparison import Drift, Verdict

BEHIND = Drift(Verdict.BEHIND, ("a1",), ("a3",), ("a2", "a3"))
EMPTY = Drift(Verdict.EMPTY, (), ("a3",), ("a1", "a2", "a3"))
UNSTAMPED = Drift(Verdict.UNSTAMPED, (), ("a3",), ("a1", "a2", "a3"))
UNKNOWN = Drift(Verdict.UNKNOWN, ("x9",), ("a3",), unknown=("x9",))
DIVERGED = Drift(Verdict.DIVERGED, ("a2", "x9"), ("a3",), ("a3",), unknown=("x9",))
OVERLAPPING = Drift(Verdict.DIVERGED, ("a1", "b2"), ("b2",))
CURRENT = Drift(Verdict.CURRENT, ("a3",), ("a3",), redundant=("a1",))
STOCK = (Missing(Kind.COLUMN, None, "items", "stock"),)
RIGHTS = (
    Missing(Kind.USAGE, "App", "items"),
    Missing(Kind.SELECT, None, "items", "price"),
    Missing(Kind.SELECT, None, "Orders"),
    Missing(Kind.DEFAULT, None, "items", "sku"),
)


def incomplete(drift: Drift, missing: tuple[Missing, ...] = STOCK) -> Drift:
    return replace(
        drift, verdict=Verdict.INCOMPLETE, replaced=drift.verdict, missing=missing, missing_total=len(missing)
    )


AHEAD = replace(UNKNOWN, verdict=Verdict.AHEAD, replaced=Verdict.UNKNOWN)
ALL = [CURRENT, BEHIND, EMPTY, UNSTAMPED, UNKNOWN, DIVERGED, OVERLAPPING]


@pytest.mark.parametrize("drift", ALL, ids=lambda drift: str(drift.verdict))
def test_every_verdict_has_one_sentence_that_names_the_database(drift: Drift) -> None:
    said = messages.finding(drift, "shop")
    assert said.startswith("Database shop ")
    assert said.endswith(".")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (CURRENT, "is at the head(s) of this image"),
        (BEHIND, "lacks 2 revisions (a2, a3) of this image"),
        (EMPTY, "is empty; this image expects 3 revisions (a1, a2, a3)"),
        (UNSTAMPED, "has tables but no version table"),
        (UNKNOWN, "is stamped with x9, which this image does not know"),
        (DIVERGED, "is stamped with x9, which this image does not know, and lacks 1 revision (a3)"),
        (OVERLAPPING, "rows that overlap through depends_on"),
    ],
)
def test_the_sentence_says_what_an_inspection_found(drift: Drift, words: str) -> None:
    assert words in messages.finding(drift, "shop")


@pytest.mark.parametrize("drift", [UNKNOWN, DIVERGED], ids=lambda drift: str(drift.verdict))
def test_a_stamp_that_this_image_does_not_know_is_named_with_its_table(drift: Drift) -> None:
    assert "which this image does not know (table public.stamps)" in messages.finding(drift, "shop", "public.stamps")
    assert "(table" not in messages.finding(CURRENT, "shop", "public.stamps")


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (BEHIND, "Nobody is migrating: run `gate migrate`"),
        (EMPTY, "RUN_MIGRATIONS=1"),
        (UNSTAMPED, "`alembic stamp REVISION`"),
        (UNKNOWN, "deploy the image that contains the"),
        (DIVERGED, "`alembic merge`"),
        (OVERLAPPING, "restore the database"),
    ],
)
def test_every_verdict_that_may_stop_a_start_names_its_remedy(drift: Drift, words: str) -> None:
    assert words in messages.remedy(drift)


def test_no_remedy_is_needed_when_the_schema_fits() -> None:
    assert messages.remedy(CURRENT) == ""


@pytest.mark.parametrize("drift", ALL, ids=lambda drift: str(drift.verdict))
def test_a_migrator_at_work_is_waited_for(drift: Drift) -> None:
    assert messages.remedy(drift, "web-1").startswith("Migrating now: web-1. Wait ")


@pytest.mark.parametrize("drift", [BEHIND, EMPTY])
def test_on_a_standby_gate_does_not_claim_that_nobody_migrates(drift: Drift) -> None:
    said = messages.remedy(drift, standby=True)
    assert "standby" in said
    assert "Nobody" not in said


@pytest.mark.parametrize(
    ("pending", "words"),
    [
        ((), "no revision"),
        (("a1",), "1 revision (a1)"),
        (("a1", "a2"), "2 revisions (a1, a2)"),
        (tuple("abcde"), "5 revisions (a, b, c, d, e)"),
        (tuple("abcdef"), "6 revisions (a, b, c, d, e, …)"),
    ],
)
def test_pending_revisions_are_counted_and_the_first_few_named(pending: tuple[str, ...], words: str) -> None:
    assert messages.pending_text(Drift(Verdict.BEHIND, (), (), pending)) == words


@pytest.mark.parametrize(
    ("stamp", "finding", "remedy"),
    [
        (CURRENT, "is at the head(s) of this image. The database lacks", "Write a migration"),
        (UNSTAMPED, "so its revision is unknown. The database lacks", "run `gate migrate` from this image"),
        (UNKNOWN, "which this image does not know", "deploy the image that contains the stamped revisions"),
    ],
)
def test_what_is_missing_is_named_with_its_likely_cause(stamp: Drift, finding: str, remedy: str) -> None:
    drift = incomplete(stamp)
    said = messages.finding(drift, "shop")
    assert finding in said
    assert said.endswith("The database lacks what the code of this image needs: column items.stock.")
    assert remedy in messages.remedy(drift)
    assert messages.remedy(drift).endswith("`gate run` starts the server nevertheless.")


def test_all_rights_that_are_missing_are_granted_at_once() -> None:
    columns = [Missing(Kind.SELECT, None, "posts", column) for column in ("title", "Body")]
    tables = [Missing(Kind.SELECT, None, "authors"), Missing(Kind.SELECT, "log", "entries")]
    schemas = [Missing(Kind.USAGE, schema, "t") for schema in ("a", "b", "a")]
    said = messages.remedy(incomplete(CURRENT, (*columns, *tables, *schemas)), role="web")
    assert said.startswith(
        "GRANT USAGE ON SCHEMA a, b TO web. GRANT SELECT ON authors, log.entries TO web. "
        'GRANT SELECT (title, "Body") ON posts TO web.'
    )


DEFERRED = Drift(Verdict.DEFERRED, ("a2",), ("a2",), outstanding=("a3",))


def test_what_a_revision_that_may_wait_would_create_is_not_called_a_fault_of_the_stamp() -> None:
    said = messages.remedy(incomplete(DEFERRED))
    assert said.startswith("If a revision that may wait (a3) creates it, ")
    assert (
        "remove post_deploy from it, or run `gate migrate --post-deploy` if no server of an earlier image runs." in said
    )
    unknown = messages.remedy(incomplete(replace(UNKNOWN, outstanding=("a3",))))
    assert "may wait" not in unknown


def test_a_column_that_a_revision_that_may_wait_drops_must_allow_null_before() -> None:
    said = messages.remedy(incomplete(DEFERRED, RIGHTS[3:]))
    assert (
        "If a revision that may wait (a3) drops the column, let one that may not wait allow NULL in it first." in said
    )
    assert "post_deploy" not in said
    assert "allow NULL" not in messages.remedy(incomplete(CURRENT, RIGHTS[3:]))


def test_what_a_revision_beyond_the_target_would_create_is_a_matter_of_the_target() -> None:
    said = messages.remedy(incomplete(replace(CURRENT, target="expand@head")))
    assert said.startswith("If a revision beyond expand@head creates it, this image needs it: correct GATE_TARGET.")
    assert "GATE_TARGET" not in messages.remedy(incomplete(CURRENT))


def test_a_server_that_starts_anyway_is_not_offered_the_setting_for_that() -> None:
    assert "GATE_ON_INCOMPLETE" not in messages.remedy(incomplete(CURRENT), starting=True)


def test_each_kind_of_what_is_missing_has_its_remedy() -> None:
    said = messages.remedy(incomplete(CURRENT, RIGHTS), role="App user")
    assert 'GRANT USAGE ON SCHEMA "App" TO "App user".' in said
    assert 'GRANT SELECT (price) ON items TO "App user".' in said
    assert "Every INSERT of this image into items fails" in said
    assert "Write a migration" not in said
    assert "TO the role of the server." in messages.remedy(incomplete(CURRENT, RIGHTS[2:3]))
    found = messages.finding(incomplete(CURRENT, RIGHTS), "shop")
    assert (
        "the right to use the schema of App.items, the right to SELECT items.price, the right to SELECT Orders" in found
    )


def test_what_is_missing_is_named_where_the_stamp_does_not_fit() -> None:
    drift = replace(BEHIND, missing=STOCK, missing_total=3)
    assert messages.finding(drift, "shop").endswith(
        "(a2, a3) of this image. The database lacks what the code of this image needs: column items.stock and 2 more."
    )


def test_a_schema_that_is_ahead_has_all_that_is_needed() -> None:
    assert messages.finding(AHEAD, "shop").endswith("The database has all that the code of this image needs.")
    assert messages.remedy(AHEAD) == ""


def test_redundant_rows_are_named_with_what_alembic_will_do_and_the_remedy() -> None:
    said = messages.redundant_rows(CURRENT)
    assert "a1" in said
    assert "delete the redundant row(s)" in said


HOSTILE = "x\n\x1b[2K\rlevel=info"


@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_id_from_a_database_or_a_script_can_forge_a_line(verdict: Verdict) -> None:
    hostile = (HOSTILE,)
    for unknown in (hostile, ()):
        drift = Drift(verdict, hostile, hostile, hostile, unknown, hostile)
        said = [messages.finding(drift, "shop"), messages.remedy(drift), messages.redundant_rows(drift), str(drift)]
        assert all(text.isprintable() for text in said), said


def test_no_name_of_a_database_can_forge_a_line() -> None:
    assert messages.finding(BEHIND, HOSTILE).isprintable()
    assert messages.finding(UNKNOWN, HOSTILE, HOSTILE).isprintable()
