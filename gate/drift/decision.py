"""Decide by the verdict and the policy what gate does next."""

from __future__ import annotations

from gate.drift.comparison import Drift, Verdict
from gate.settings.settings import Decision, Policy

STRICTNESS = (Decision.GO, Decision.WAIT, Decision.REFUSE)
"""The decisions that a policy names, the strictest last."""


def decide_for(drift: Drift, policy: Policy) -> Decision:
    """Decide by the result of a comparison; with many schemas, by the verdict of each."""
    if drift.schemas is None or not drift.schemas.groups:
        return decide(drift.verdict, policy, drift.stamp_verdict)
    decisions = {decide(group.verdict, policy, group.stamp_verdict) for group in drift.schemas.groups}
    upgrades = Decision.UPGRADE in decisions and (policy.keep_going or Decision.REFUSE not in decisions)
    return Decision.UPGRADE if upgrades else max(decisions - {Decision.UPGRADE}, key=STRICTNESS.index)


def refused_verdict(drift: Drift, policy: Policy) -> Verdict:
    """Return the verdict of the stamp that the policy refuses; with many schemas, it need not be the worst one."""
    for group in drift.schemas.groups if drift.schemas else ():
        if decide(group.verdict, policy, group.stamp_verdict) is Decision.REFUSE:
            return group.stamp_verdict
    return drift.stamp_verdict


def decide(verdict: Verdict, policy: Policy, stamp_verdict: Verdict = Verdict.CURRENT) -> Decision:
    """Return the entry of the decision table in the documentation for this verdict and policy.

    `stamp_verdict`: the verdict of the stamp alone, which counts if the verdict is INCOMPLETE.
    """
    match verdict:
        case Verdict.CURRENT | Verdict.DEFERRED:
            applies_deferred = verdict is Verdict.DEFERRED and policy.migrating and policy.post_deploy
            return Decision.UPGRADE if applies_deferred else Decision.GO
        case Verdict.UNKNOWN | Verdict.AHEAD:
            return policy.on_unknown
        case Verdict.UNSTAMPED if not policy.migrating or policy.on_unstamped is Decision.REFUSE:
            return policy.on_unstamped
        case Verdict.DIVERGED:
            return Decision.REFUSE if policy.migrating else Decision.WAIT
        case Verdict.BEHIND | Verdict.EMPTY | Verdict.UNSTAMPED:
            return Decision.UPGRADE if policy.migrating else Decision.WAIT
        case Verdict.INCOMPLETE:
            return _decide_incomplete(decide(stamp_verdict, policy), policy)


def _decide_incomplete(by_stamp: Decision, policy: Policy) -> Decision:
    """Upgrade where the stamp asks for it, since that may create what is missing; else the stricter decision wins."""
    if by_stamp is Decision.UPGRADE:
        return by_stamp
    return max(policy.on_incomplete, by_stamp, key=STRICTNESS.index)
