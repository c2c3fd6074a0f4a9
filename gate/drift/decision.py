"""Decide by the verdict and the policy what gate does next."""

from __future__ import annotations

from gate.drift.comparison import Verdict
from gate.settings.settings import Decision, Policy


def decide(verdict: Verdict, policy: Policy) -> Decision:
    """Return the entry of the decision table in the documentation for this verdict and policy."""
    match verdict:
        case Verdict.CURRENT:
            return Decision.GO
        case Verdict.DEFERRED:
            return Decision.UPGRADE if policy.migrating and policy.post_deploy else Decision.GO
        case Verdict.UNKNOWN:
            return policy.on_unknown
        case Verdict.UNSTAMPED if not policy.migrating or policy.on_unstamped is Decision.REFUSE:
            return policy.on_unstamped
        case Verdict.DIVERGED:
            return Decision.REFUSE if policy.migrating else Decision.WAIT
        case Verdict.BEHIND | Verdict.EMPTY | Verdict.UNSTAMPED:
            return Decision.UPGRADE if policy.migrating else Decision.WAIT
