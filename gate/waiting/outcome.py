"""The outcome of one step of the waiting loop, and the sentences that describe it.

Pure: the announcer, the placeholder, the termination log and the message of a timeout all read this one value.
"""

from __future__ import annotations

from dataclasses import dataclass

from gate.database.lock import Migrator
from gate.database.stamp import VersionTableLocked
from gate.drift import messages
from gate.drift.comparison import Drift, Verdict
from gate.drift.decision import refused_verdict
from gate.drift.inspector import Inspection
from gate.errors import DatabaseUnavailable, GateError
from gate.readiness.answer import Readiness, last_seen
from gate.settings.settings import Decision, Policy

UNAVAILABLE_REASON = "the database cannot be inspected; the log says why"
STAYING_REASON = "gate keeps running after a failure; its log says why"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step found and decided.

    `finding`: the inspection, or the error that prevented it or ended an attempt. `decision`: GO and REFUSE end the
    loop, WAIT repeats the check. `last_drift`: what the latest successful inspection found, for an error.
    `last_migrator`: who was migrating then, in words, None if nobody was; `away`: seconds since then.
    `elsewhere`: the finding is about the server's database, while the migrated one fits. `locked_out`: gate would
    migrate, and another migrator holds the lock.
    """

    finding: Inspection | GateError
    decision: Decision = Decision.WAIT
    last_drift: Drift | None = None
    last_migrator: str | None = None
    away: float | None = None
    elsewhere: bool = False
    locked_out: bool = False

    @property
    def migrator(self) -> Migrator | None:
        """The migrator that is active now, as far as it can be seen."""
        if isinstance(self.finding, Inspection):
            return self.finding.stamp.migrator
        return self.finding.migrator if isinstance(self.finding, VersionTableLocked) else None

    @property
    def topic(self) -> object:
        """Two outcomes with equal topics have the same cause, and the second is not announced at once."""
        if isinstance(self.finding, GateError):
            return type(self.finding), self.finding.topic
        drift = self.finding.drift
        # With many schemas the line changes at each one that somebody migrates.
        line = str(drift) if drift.schemas is None else str(drift.expected)
        return line, drift.verdict, self.migrator and self.migrator.revision, self.locked_out

    @property
    def description(self) -> str:
        """The finding in one line, with the drift line verbatim in it."""
        if isinstance(self.finding, GateError):
            return self.finding.line
        drift = self.finding.drift
        return f"{drift}. {messages.finding(drift, self.finding.stamp.database, self.finding.table)}"


def readiness(outcome: Outcome) -> Readiness:
    """Return what the placeholder answers while gate waits."""
    migrating = str(outcome.migrator) if outcome.migrator else _last_seen(outcome)
    match outcome.finding:
        case Inspection(drift=drift):
            return Readiness(drift, age=0, migrating=migrating, server_started=False)
        case DatabaseUnavailable():
            return Readiness(
                outcome.last_drift,
                age=outcome.away,
                away=outcome.away or 0,
                reason=UNAVAILABLE_REASON,
                migrating=migrating,
                server_started=False,
            )
        case GateError(section=section):
            return Readiness(reason=STAYING_REASON, section=section)


def _last_seen(outcome: Outcome) -> str | None:
    """Who was migrating when the database was last seen: whether that goes on is not known while it is away."""
    if not outcome.last_migrator or outcome.away is None:
        return None
    return last_seen(outcome.last_migrator, outcome.away)


def next_step(outcome: Outcome, *, inspect_only: bool = False) -> str:
    """Return what a person can do about drift; for an error nothing, since its own message says that.

    While the database is away, say who was migrating when it was last seen.

    `inspect_only`: this gate no longer migrates, because it has failed.
    """
    if isinstance(outcome.finding, GateError):
        seen = _last_seen(outcome)
        return f"Another migrator was active {seen}." if seen else ""
    if outcome.locked_out and not outcome.migrator:
        return messages.LOCKED_OUT_REMEDY
    if outcome.elsewhere and not outcome.migrator and not _is_incomplete(outcome):
        return messages.OTHER_DATABASE_REMEDY
    drift, stamp = outcome.finding.drift, outcome.finding.stamp
    step = messages.remedy(drift, outcome.migrator, standby=stamp.standby, tried=inspect_only, role=stamp.role)
    return f"{step} {messages.redundant_rows(drift)}" if drift.redundant else step


def timeout_message(outcome: Outcome, timeout: float) -> str:
    """Return why gate ends at GATE_TIMEOUT (`timeout` seconds), in one line."""
    step = next_step(outcome)
    if isinstance(outcome.finding, Inspection) and outcome.migrator:
        step = (
            f"Migrating now: {outcome.migrator}. Start this again when that migration has ended, or raise GATE_TIMEOUT."
        )
    return f"The schema did not fit within {timeout:g} s (GATE_TIMEOUT). {outcome.description} {step}".rstrip()


def _is_incomplete(outcome: Outcome) -> bool:
    """Whether something is missing although the stamp fits, so that another URL would not be the remedy."""
    return isinstance(outcome.finding, Inspection) and outcome.finding.drift.verdict is Verdict.INCOMPLETE


def refusal(outcome: Outcome, policy: Policy) -> str:
    """Return why the policy forbids to continue, in one line."""
    assert isinstance(outcome.finding, Inspection)
    drift, stamp = outcome.finding.drift, outcome.finding.stamp
    reason = {
        Verdict.UNKNOWN: "GATE_ON_UNKNOWN=refuse forbids to continue.",
        Verdict.UNSTAMPED: "GATE_ON_UNSTAMPED=refuse forbids to continue.",
    }.get(refused_verdict(drift, policy), "gate does not migrate it, because neither history contains the other.")
    if _is_incomplete(outcome) and policy.on_incomplete is Decision.REFUSE:
        reason = "gate does not accept that (GATE_ON_INCOMPLETE=refuse, which `gate migrate` always implies)."
    if outcome.elsewhere and not _is_incomplete(outcome):
        return f"{outcome.description} {reason} {messages.OTHER_DATABASE_REMEDY}"
    nothing = " Nothing migrated." if policy.migrating and drift.stamp_verdict is not Verdict.CURRENT else ""
    return f"{outcome.description} {reason} {messages.remedy(drift, role=stamp.role)}{nothing}"
