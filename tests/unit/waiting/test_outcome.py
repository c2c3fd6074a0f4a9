"""One outcome, and what the log, the placeholder, a timeout and a refusal make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gate.database.lock import Migrator
from gate.database.missing import Kind, Missing
from gate.database.stamp import Stamp, VersionTableLocked
from gate.drift import messages
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspection
from gate.errors import BadSettings, DatabaseUnavailable, GateError
from gate.settings.settings import Decision, Policy
from gate.waiting.outcome import Outcome, next_step, readiness, refusal, timeout_message

MIGRATOR = Migrator("web-1", 1, 2, "a2", 1, 4711)
BEHIND = Inspection(Stamp("shop", "public", ("a1",)), Drift(Verdict.BEHIND, ("a1",), ("a2",), ("a2",)))
UNDER_WAY = BEHIND._replace(stamp=BEHIND.stamp._replace(migrator=MIGRATOR))
UNKNOWN = Inspection(Stamp("shop", "public", ("z9",)), Drift(Verdict.UNKNOWN, ("z9",), ("a2",), unknown=("z9",)))
AWAY = DatabaseUnavailable("Nothing listens (db:5432/shop).", "refused")


def test_the_placeholder_keeps_the_last_drift_while_the_database_is_away() -> None:
    answer = readiness(Outcome(AWAY, last_drift=BEHIND.drift))
    assert (answer.drift, answer.away, answer.ready) == (BEHIND.drift, 0, False)


def test_while_the_database_is_away_a_migrator_is_only_what_was_last_seen() -> None:
    outcome = Outcome(AWAY, last_drift=BEHIND.drift, last_migrator="web-1 at revision a2 (1/2) for 14 s", away=31.4)
    seen = "when last seen, 31 s ago: web-1 at revision a2 (1/2) for 14 s"
    assert readiness(outcome).migrating == seen
    assert (readiness(outcome).away, readiness(outcome).age) == (31.4, 31.4)
    assert next_step(outcome) == f"Another migrator was active {seen}."
    assert readiness(Outcome(AWAY, away=31.4)).migrating is None
    assert next_step(Outcome(AWAY, away=31.4)) == ""


def test_the_placeholder_is_never_ready_while_gate_stands_in_front_of_the_server() -> None:
    for finding in (BEHIND, UNKNOWN, AWAY, BadSettings("GATE_TIMEOUT is wrong.")):
        assert not readiness(Outcome(finding)).ready


@pytest.mark.parametrize("finding", [UNDER_WAY, VersionTableLocked("It is locked.", MIGRATOR, "lock_timeout")])
def test_the_placeholder_names_the_migrator(finding: Inspection | GateError) -> None:
    assert str(readiness(Outcome(finding)).migrating).startswith("web-1 at revision a2 (1/2)")


def test_a_timeout_names_the_setting_the_finding_and_the_next_step() -> None:
    text = timeout_message(Outcome(BEHIND), 1.5)
    assert text.startswith("The schema did not fit within 1.5 s (GATE_TIMEOUT). drift: db=a1 expected=a2. ")
    assert "Nobody is migrating" in text
    assert "raise GATE_TIMEOUT" in timeout_message(Outcome(UNDER_WAY), 1.5)
    assert timeout_message(Outcome(AWAY), 1.5).endswith(str(AWAY))


def test_mistakes_in_several_lines_are_described_in_one() -> None:
    assert Outcome(BadSettings("One.", "Two.")).description == "One. Two."


def test_the_next_step_depends_on_the_lock_the_database_and_the_failure_before() -> None:
    assert next_step(Outcome(BEHIND, locked_out=True)) == messages.LOCKED_OUT_REMEDY
    assert next_step(Outcome(BEHIND, elsewhere=True)) == messages.OTHER_DATABASE_REMEDY
    assert "Migrating now: web-1" in next_step(Outcome(UNDER_WAY, locked_out=True))
    assert "RUN_MIGRATIONS" in next_step(Outcome(BEHIND))
    assert "RUN_MIGRATIONS" not in next_step(Outcome(BEHIND), inspect_only=True)


def test_a_refusal_names_the_setting_and_whether_anything_was_migrated() -> None:
    outcome = Outcome(UNKNOWN, Decision.REFUSE)
    migrating = Policy(migrating=True)
    assert "GATE_ON_UNKNOWN=refuse" in refusal(outcome, Policy())
    assert refusal(outcome, migrating).endswith("Nothing migrated.")
    elsewhere = Outcome(UNKNOWN, Decision.REFUSE, elsewhere=True)
    assert refusal(elsewhere, migrating).endswith(messages.OTHER_DATABASE_REMEDY)


LACKING = (Missing(Kind.SELECT, None, "Items", "price"),)
INCOMPLETE = Inspection(
    Stamp("shop", "public", ("a2",), role="app"),
    Drift(Verdict.INCOMPLETE, ("a2",), ("a2",), missing=LACKING, missing_total=1, replaced=Verdict.CURRENT),
)


def test_what_is_missing_is_refused_by_its_own_setting_or_by_that_of_the_stamp() -> None:
    refuse = Policy(migrating=True, on_incomplete=Decision.REFUSE)
    text = refusal(Outcome(INCOMPLETE, Decision.REFUSE), refuse)
    assert "missing=Items.price(SELECT). " in text
    assert "GATE_ON_INCOMPLETE=refuse" in text
    assert 'GRANT SELECT (price) ON "Items" TO app.' in text
    assert "Nothing migrated" not in text
    unknown = replace(INCOMPLETE.drift, unknown=("z9",), stamped=("z9",), replaced=Verdict.UNKNOWN)
    outcome = Outcome(INCOMPLETE._replace(drift=unknown), Decision.REFUSE)
    assert "GATE_ON_UNKNOWN=refuse" in refusal(outcome, Policy(on_unknown=Decision.REFUSE))
    assert "GATE_ON_INCOMPLETE=refuse" in refusal(outcome, refuse)


def test_a_right_that_the_servers_role_lacks_is_not_blamed_on_the_url() -> None:
    step = next_step(Outcome(INCOMPLETE, elsewhere=True))
    assert step != messages.OTHER_DATABASE_REMEDY
    assert "GRANT SELECT" in step


def test_another_revision_of_the_migrator_is_a_new_topic_and_its_age_is_not() -> None:
    later, older = (MIGRATOR._replace(step=2, revision="a3"), MIGRATOR._replace(since=2))
    topics = [Outcome(BEHIND._replace(stamp=BEHIND.stamp._replace(migrator=m))).topic for m in (MIGRATOR, later, older)]
    assert topics[0] != topics[1]
    assert topics[0] == topics[2]
