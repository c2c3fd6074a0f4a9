"""The decision table, every cell of it."""

from __future__ import annotations

from itertools import product

import pytest

from gate.drift.comparison import Verdict
from gate.drift.decision import decide
from gate.settings.settings import Decision, Policy

GO, WAIT, UPGRADE, REFUSE = Decision.GO, Decision.WAIT, Decision.UPGRADE, Decision.REFUSE
WISHES = (GO, WAIT, REFUSE)

WITHOUT_A_WISH = {
    # verdict: (only waiting, migrating)
    Verdict.CURRENT: (GO, GO),
    Verdict.DEFERRED: (GO, GO),
    Verdict.BEHIND: (WAIT, UPGRADE),
    Verdict.EMPTY: (WAIT, UPGRADE),
    Verdict.DIVERGED: (WAIT, REFUSE),
}

UNSTAMPED = {
    # GATE_ON_UNSTAMPED: (only waiting, migrating)
    GO: (GO, UPGRADE),
    WAIT: (WAIT, UPGRADE),
    REFUSE: (REFUSE, REFUSE),
}


@pytest.mark.parametrize(("on_unknown", "on_unstamped"), list(product(WISHES, WISHES)))
@pytest.mark.parametrize("verdict", WITHOUT_A_WISH)
def test_these_verdicts_decide_whatever_the_policy_for_others_is(
    verdict: Verdict, on_unknown: Decision, on_unstamped: Decision
) -> None:
    waiting, migrating = WITHOUT_A_WISH[verdict]
    assert decide(verdict, Policy(migrating=False, on_unknown=on_unknown, on_unstamped=on_unstamped)) is waiting
    assert decide(verdict, Policy(migrating=True, on_unknown=on_unknown, on_unstamped=on_unstamped)) is migrating


@pytest.mark.parametrize("verdict", Verdict)
def test_post_deploy_revisions_are_applied_only_by_a_gate_that_migrates_and_was_asked_to(verdict: Verdict) -> None:
    if verdict is Verdict.DEFERRED:
        assert decide(verdict, Policy(migrating=True, post_deploy=True)) is UPGRADE
        assert decide(verdict, Policy(migrating=False, post_deploy=True)) is GO
    else:
        for migrating in (False, True):
            assert decide(verdict, Policy(migrating, post_deploy=True)) is decide(verdict, Policy(migrating))


@pytest.mark.parametrize("migrating", [False, True])
@pytest.mark.parametrize(("on_unknown", "on_unstamped"), list(product(WISHES, WISHES)))
def test_an_unknown_stamp_does_what_the_user_wishes_and_never_migrates(
    on_unknown: Decision, on_unstamped: Decision, *, migrating: bool
) -> None:
    assert decide(Verdict.UNKNOWN, Policy(migrating, on_unknown, on_unstamped)) is on_unknown


@pytest.mark.parametrize(("on_unknown", "on_unstamped"), list(product(WISHES, WISHES)))
def test_an_unstamped_database_does_what_the_user_wishes_and_is_upgraded_unless_refused(
    on_unknown: Decision, on_unstamped: Decision
) -> None:
    waiting, migrating = UNSTAMPED[on_unstamped]
    assert (
        decide(Verdict.UNSTAMPED, Policy(migrating=False, on_unknown=on_unknown, on_unstamped=on_unstamped)) is waiting
    )
    assert (
        decide(Verdict.UNSTAMPED, Policy(migrating=True, on_unknown=on_unknown, on_unstamped=on_unstamped)) is migrating
    )


ORDER = (GO, WAIT, REFUSE)


@pytest.mark.parametrize("migrating", [False, True])
@pytest.mark.parametrize("wishes", list(product(WISHES, WISHES, WISHES)))
def test_what_is_missing_stops_a_start_unless_the_user_wishes_otherwise_and_the_stricter_wish_wins(
    wishes: tuple[Decision, Decision, Decision], *, migrating: bool
) -> None:
    on_unknown, on_unstamped, on_incomplete = wishes
    policy = Policy(migrating, *wishes)
    by_stamp = {Verdict.CURRENT: GO, Verdict.UNKNOWN: on_unknown, Verdict.UNSTAMPED: on_unstamped}
    for stamp, wish in by_stamp.items():
        decided = decide(Verdict.INCOMPLETE, policy, stamp)
        if migrating and stamp is Verdict.UNSTAMPED and on_unstamped is not REFUSE:
            assert decided is UPGRADE
        else:
            assert decided is max(on_incomplete, wish, key=ORDER.index)


@pytest.mark.parametrize("migrating", [False, True])
@pytest.mark.parametrize("on_unknown", WISHES)
def test_a_schema_that_is_ahead_starts_unless_unknown_stamps_may_not(on_unknown: Decision, *, migrating: bool) -> None:
    assert decide(Verdict.AHEAD, Policy(migrating, on_unknown), Verdict.UNKNOWN) is on_unknown


def test_the_policy_by_default_waits_for_what_is_missing_goes_on_without_a_stamp_and_does_not_migrate() -> None:
    assert Policy() == Policy(migrating=False, on_unknown=GO, on_unstamped=GO, on_incomplete=WAIT)


def test_the_tables_hold_every_verdict() -> None:
    others = {Verdict.UNKNOWN, Verdict.UNSTAMPED, Verdict.INCOMPLETE, Verdict.AHEAD}
    assert {*WITHOUT_A_WISH, *others} == set(Verdict)
