"""Saying loudly why gate waits: at once when something changes, then at growing distance."""

from __future__ import annotations

from dataclasses import dataclass, field

from gate import explanation, log
from gate.database import DRIVER_SAYS
from gate.drift import Verdict
from gate.errors import GateError
from gate.foreign import few
from gate.look import Seen
from gate.migrator import Migrator, VersionTableLocked
from gate.termination import TerminationLog
from gate.wait import Pause

FIRST_DISTANCE = 5.0
LONGEST_DISTANCE = 60.0
"""Seconds between two lines while nothing changes."""

LONG = 60.0
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
    _distance: float = field(default=FIRST_DISTANCE, init=False)

    def trouble(self, error: GateError, pause: Pause) -> None:
        """Nothing could be seen, or what was seen ended an attempt."""
        text = told(error)
        # The driver may name another address each time, and a migrator's time passes.
        finding = error.migrator.revision if isinstance(error, VersionTableLocked) else text.partition(DRIVER_SAYS)[0]
        if self._due((type(error), finding), pause):
            self.termination.write(text)
            kind = type(error).__name__
            log.emit("critical", "gate.waiting", f"{text} {self._now(pause)}", kind=kind, **_times(pause))

    def drifted(self, seen: Seen, pause: Pause, *, locked_out: bool = False, elsewhere: bool = False) -> None:
        """The schema does not fit.

        `locked_out` = this gate would migrate, and another one does; `elsewhere` = what it migrates fits, and this is
        where the server will connect.
        """
        drift, migrator = seen.drift, seen.stamp.migrator
        if not self._due((str(drift), drift.verdict, migrator and migrator.revision, locked_out), pause):
            return
        self.termination.write(f"{drift.verdict} {drift}. {explanation.happened(drift, seen.stamp.database)}")
        what = f"{drift}. {explanation.happened(drift, seen.stamp.database)}"
        advice = advised(seen, elsewhere=elsewhere, tried=self.tried)
        if locked_out and not migrator:
            advice = explanation.LOCKED_OUT
        log.emit(
            "warning" if locked_out else "critical",
            "gate.waiting_for_lock" if locked_out else "gate.waiting",
            f"{what} {self._now(pause)} {advice}".rstrip(),
            verdict=drift.verdict,
            drift=str(drift),
            stamped=few(drift.stamped),
            expected=few(drift.expected),
            pending=len(drift.pending),
            next_revisions=few(drift.pending[: explanation.SHOWN]) or None,
            database=seen.stamp.database,
            migrating=_migrating(migrator),
            **_times(pause),
        )

    def _now(self, pause: Pause) -> str:
        since = f", for {pause.elapsed:.0f} s now" if pause.elapsed >= LONG else ""
        return f"{self.doing}{since}; next look in {pause.length:.1f} s."

    def _due(self, finding: object, pause: Pause) -> bool:
        changed = finding != self._said
        if not changed and pause.elapsed < self._next:
            return False
        self._distance = FIRST_DISTANCE if changed else min(2 * self._distance, LONGEST_DISTANCE)
        self._said, self._next = finding, pause.elapsed + self._distance
        return True


def told(finding: Seen | GateError, *, elsewhere: bool = False) -> str:
    """What was found last, in one line, when gate gives up."""
    if isinstance(finding, GateError):
        return " ".join(str(finding).splitlines())
    advice = advised(finding, elsewhere=elsewhere)
    if finding.stamp.migrator:
        advice = (
            f"Migrating now: {finding.stamp.migrator}. Start this again when that has ended, or raise GATE_TIMEOUT."
        )
    return f"{finding.drift}. {explanation.happened(finding.drift, finding.stamp.database)} {advice}".rstrip()


def going(seen: Seen) -> None:
    """Log with what finding the gate is passed."""
    drift, database = seen.drift, seen.stamp.database
    happened = explanation.happened(drift, database)
    fields = {"verdict": drift.verdict, "drift": str(drift), "database": database}
    match drift.verdict:
        case Verdict.UNKNOWN:
            text = f"{drift}. {happened} Nothing migrated; gate goes on. {explanation.cure(drift)}"
            log.emit("critical", "gate.unknown", text, **fields)
        case Verdict.UNSTAMPED:
            log.emit("info", "gate.unstamped", f"{happened} gate goes on (GATE_ON_UNSTAMPED=go).", **fields)
        case _:
            log.emit("info", "gate.current", happened, **fields)
    if drift.redundant:
        log.emit("warning", "gate.redundant_rows", explanation.redundant(drift), **fields)


def refusal(seen: Seen, *, migrating: bool, elsewhere: bool = False) -> str:
    """Why the policy forbids to go on, in one line."""
    drift = seen.drift
    happened = explanation.happened(drift, seen.stamp.database)
    why = {
        Verdict.UNKNOWN: "GATE_ON_UNKNOWN=refuse forbids to go on.",
        Verdict.UNSTAMPED: "GATE_ON_UNSTAMPED=refuse forbids to go on.",
    }.get(drift.verdict, "gate refuses to migrate it, since neither history contains the other.")
    if elsewhere:
        return f"{drift}. {happened} {why} {explanation.ELSEWHERE}"
    return f"{drift}. {happened} {why} {explanation.cure(drift)}" + (" Nothing migrated." if migrating else "")


def advised(seen: Seen, *, elsewhere: bool, tried: bool = False) -> str:
    """What to do about what was seen."""
    if elsewhere and not seen.stamp.migrator:
        return explanation.ELSEWHERE
    advice = explanation.advice(seen.drift, seen.stamp.migrator, standby=seen.stamp.standby, tried=tried)
    return f"{advice} {explanation.redundant(seen.drift)}" if seen.drift.redundant else advice


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
