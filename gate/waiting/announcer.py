"""Saying loudly why gate waits: at once when something changes, then at growing distance."""

from __future__ import annotations

from dataclasses import dataclass, field

from gate import log
from gate.database.lock import Migrator
from gate.drift import messages
from gate.drift.comparison import Verdict
from gate.drift.inspector import Inspection
from gate.errors import GateError
from gate.text import first_ids
from gate.waiting.backoff import Pause
from gate.waiting.termination_log import TerminationLog

FIRST_INTERVAL = 5.0
MAX_INTERVAL = 60.0
"""Seconds between two lines while nothing changes."""

LONG_WAIT = 60.0
"""Seconds after which a line tells for how long gate has waited."""


@dataclass(slots=True)
class Announcer:
    """Decides when a finding of the waiting loop is worth a line, and writes it.

    `tried`: this gate has upgraded in vain and does not try again.
    """

    termination: TerminationLog
    doing: str = "gate waits and does not start the server"
    tried: bool = False
    _said: object = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)
    _distance: float = field(default=FIRST_INTERVAL, init=False)

    def trouble(self, error: GateError, pause: Pause) -> None:
        """Nothing could be seen, or what was seen ended an attempt."""
        text = summary(error)
        if self._due((type(error), error.finding), pause):
            self.termination.write(text)
            kind = type(error).__name__
            log.emit("critical", "gate.waiting", f"{text} {self._now(pause)}", kind=kind, **_times(pause))

    def drifted(
        self, inspection: Inspection, pause: Pause, *, locked_out: bool = False, elsewhere: bool = False
    ) -> None:
        """The schema does not fit.

        `locked_out` = this gate would migrate, and another one does; `elsewhere` = what it migrates fits, and this is
        where the server will connect.
        """
        drift, migrator = inspection.drift, inspection.stamp.migrator
        if not self._due((str(drift), drift.verdict, migrator and migrator.revision, locked_out), pause):
            return
        self.termination.write(f"{drift.verdict} {drift}. {messages.finding(drift, inspection.stamp.database)}")
        what = f"{drift}. {messages.finding(drift, inspection.stamp.database)}"
        advice = next_step(inspection, elsewhere=elsewhere, tried=self.tried)
        if locked_out and not migrator:
            advice = messages.LOCKED_OUT_REMEDY
        log.emit(
            "warning" if locked_out else "critical",
            "gate.waiting_for_lock" if locked_out else "gate.waiting",
            f"{what} {self._now(pause)} {advice}".rstrip(),
            verdict=drift.verdict,
            drift=str(drift),
            stamped=first_ids(drift.stamped),
            expected=first_ids(drift.expected),
            pending=len(drift.pending),
            next_revisions=first_ids(drift.pending[: messages.MAX_PENDING_SHOWN]) or None,
            database=inspection.stamp.database,
            migrating=_migrating(migrator),
            **_times(pause),
        )

    def _now(self, pause: Pause) -> str:
        since = f", for {pause.elapsed:.0f} s now" if pause.elapsed >= LONG_WAIT else ""
        return f"{self.doing}{since}; next look in {pause.length:.1f} s."

    def _due(self, finding: object, pause: Pause) -> bool:
        changed = finding != self._said
        if not changed and pause.elapsed < self._next:
            return False
        self._distance = FIRST_INTERVAL if changed else min(2 * self._distance, MAX_INTERVAL)
        self._said, self._next = finding, pause.elapsed + self._distance
        return True


def summary(finding: Inspection | GateError, *, elsewhere: bool = False) -> str:
    """What was found last, in one line, when gate gives up."""
    if isinstance(finding, GateError):
        return " ".join(str(finding).splitlines())
    advice = next_step(finding, elsewhere=elsewhere)
    if finding.stamp.migrator:
        advice = (
            f"Migrating now: {finding.stamp.migrator}. Start this again when that has ended, or raise GATE_TIMEOUT."
        )
    return f"{finding.drift}. {messages.finding(finding.drift, finding.stamp.database)} {advice}".rstrip()


def log_passed(inspection: Inspection) -> None:
    """Log with what finding the gate is passed."""
    drift, database = inspection.drift, inspection.stamp.database
    happened = messages.finding(drift, database)
    fields = {"verdict": drift.verdict, "drift": str(drift), "database": database}
    match drift.verdict:
        case Verdict.UNKNOWN:
            text = f"{drift}. {happened} Nothing migrated; gate goes on. {messages.remedy(drift)}"
            log.emit("critical", "gate.unknown", text, **fields)
        case Verdict.UNSTAMPED:
            log.emit("info", "gate.unstamped", f"{happened} gate goes on (GATE_ON_UNSTAMPED=go).", **fields)
        case _:
            log.emit("info", "gate.current", happened, **fields)
    if drift.redundant:
        log.emit("warning", "gate.redundant_rows", messages.redundant_rows(drift), **fields)


def refusal(inspection: Inspection, *, migrating: bool, elsewhere: bool = False) -> str:
    """Why the policy forbids to go on, in one line."""
    drift = inspection.drift
    happened = messages.finding(drift, inspection.stamp.database)
    why = {
        Verdict.UNKNOWN: "GATE_ON_UNKNOWN=refuse forbids to go on.",
        Verdict.UNSTAMPED: "GATE_ON_UNSTAMPED=refuse forbids to go on.",
    }.get(drift.verdict, "gate refuses to migrate it, since neither history contains the other.")
    if elsewhere:
        return f"{drift}. {happened} {why} {messages.OTHER_DATABASE_REMEDY}"
    return f"{drift}. {happened} {why} {messages.remedy(drift)}" + (" Nothing migrated." if migrating else "")


def next_step(inspection: Inspection, *, elsewhere: bool, tried: bool = False) -> str:
    """What to do about what was seen."""
    if elsewhere and not inspection.stamp.migrator:
        return messages.OTHER_DATABASE_REMEDY
    stamp = inspection.stamp
    advice = messages.remedy(inspection.drift, stamp.migrator, standby=stamp.standby, tried=tried)
    return f"{advice} {messages.redundant_rows(inspection.drift)}" if inspection.drift.redundant else advice


def _migrating(migrator: Migrator | None) -> dict[str, object] | None:
    if migrator is None:
        return None
    progress = f"{migrator.step}/{migrator.total}"
    return {
        "host": migrator.host,
        "revision": migrator.revision,
        "progress": progress,
        "since": migrator.since,
        "backend": migrator.pid,
    }


def _times(pause: Pause) -> dict[str, float]:
    return {"elapsed": round(pause.elapsed, 1), "next_look": round(pause.length, 2)}
