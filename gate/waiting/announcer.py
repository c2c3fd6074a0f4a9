"""Announces why gate waits: at once when the finding changes, then at growing intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

from gate import log
from gate.database.lock import Migrator
from gate.database.missing import MAX_MISSING_SHOWN
from gate.drift import messages
from gate.drift.comparison import Verdict
from gate.drift.inspector import Inspection
from gate.errors import GateError
from gate.text import first_ids
from gate.waiting.backoff import Pause
from gate.waiting.outcome import Outcome, next_step
from gate.waiting.termination_log import TerminationLog

FIRST_INTERVAL = 5.0
MAX_INTERVAL = 60.0
"""Seconds between two lines while nothing changes."""

LONG_WAIT = 60.0
"""Seconds after which a line says for how long gate has waited."""


@dataclass(slots=True)
class Announcer:
    """Decides when an outcome is worth a log line, and writes it to the log and the termination log.

    `activity`: what gate does meanwhile, as a clause. `inspect_only`: this gate no longer migrates, because it has
    failed.
    """

    termination: TerminationLog
    activity: str = "gate waits and does not start the server"
    inspect_only: bool = False
    _topic: object = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)
    _interval: float = field(default=FIRST_INTERVAL, init=False)
    _warned: set[str] = field(default_factory=set, init=False)

    def warn(self, inspection: Inspection) -> None:
        """Log the warnings of an inspection, each once."""
        for event in inspection.warnings.keys() - self._warned:
            log.emit("warning", event, inspection.warnings[event])
        self._warned |= inspection.warnings.keys()

    def announce(self, outcome: Outcome, pause: Pause) -> None:
        """Log why gate waits, if the topic is new or its interval has passed."""
        if not self._is_due(outcome.topic, pause):
            return
        fields = _fields(outcome)
        self.termination.write(f"{fields.get('verdict', '')} {outcome.description}".lstrip())
        step = next_step(outcome, inspect_only=self.inspect_only)
        log.emit(
            "warning" if outcome.locked_out else "critical",
            "gate.waiting_for_lock" if outcome.locked_out else "gate.waiting",
            f"{outcome.description} {self._state(pause)} {step}".rstrip(),
            **fields,
            elapsed=round(pause.elapsed, 1),
            next_look=round(pause.length, 2),
        )

    def _state(self, pause: Pause) -> str:
        sentences = [f"{self.activity}."]
        if pause.elapsed >= LONG_WAIT:
            sentences.append(f"It has waited for {pause.elapsed:.0f} s.")
        return " ".join([*sentences, f"Next check in {pause.length:.1f} s."])

    def _is_due(self, topic: object, pause: Pause) -> bool:
        changed = topic != self._topic
        if not changed and pause.elapsed < self._next:
            return False
        self._interval = FIRST_INTERVAL if changed else min(2 * self._interval, MAX_INTERVAL)
        self._topic, self._next = topic, pause.elapsed + self._interval
        return True


def log_passed(inspection: Inspection) -> None:
    """Log the finding with which the gate is passed."""
    drift, database = inspection.drift, inspection.stamp.database
    finding = messages.finding(drift, database, inspection.table)
    fields = {"verdict": drift.verdict, "drift": str(drift), "database": database}
    match drift.verdict:
        case Verdict.UNKNOWN:
            text = f"{drift}. {finding} Nothing migrated; gate continues (GATE_ON_UNKNOWN=go). {messages.remedy(drift)}"
            log.emit("critical", "gate.unknown", text, **fields)
        case Verdict.INCOMPLETE:
            step = messages.remedy(drift, role=inspection.stamp.role, starting=True)
            text = f"{drift}. {finding} gate continues (GATE_ON_INCOMPLETE=go). {step}"
            log.emit("critical", "gate.incomplete", text, **fields)
        case Verdict.AHEAD:
            log.emit("info", "gate.ahead", f"{finding} Nothing migrated; gate continues.", **fields)
        case Verdict.UNSTAMPED:
            log.emit("info", "gate.unstamped", f"{finding} gate continues (GATE_ON_UNSTAMPED=go).", **fields)
        case Verdict.DEFERRED:
            text = f"{finding} {messages.remedy(drift)}"
            log.emit("info", "gate.deferred", text, **fields, deferred=first_ids(drift.deferred))
        case _:
            log.emit("info", "gate.current", finding, **fields)
    if drift.redundant:
        log.emit("warning", "gate.redundant_rows", messages.redundant_rows(drift), **fields)


def _fields(outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome.finding, GateError):
        return {"kind": type(outcome.finding).__name__, "section": outcome.finding.section or None}
    drift, stamp = outcome.finding.drift, outcome.finding.stamp
    return {
        "verdict": drift.verdict,
        "drift": str(drift),
        "stamped": first_ids(drift.stamped),
        "expected": first_ids(drift.expected),
        "pending": len(drift.pending),
        "next_revisions": first_ids(drift.pending[: messages.MAX_PENDING_SHOWN]) or None,
        "deferred": first_ids(drift.deferred) or None,
        "missing": [str(item) for item in drift.missing[:MAX_MISSING_SHOWN]] or None,
        "missing_total": drift.missing_total or None,
        "database": stamp.database,
        "migrating": _migrator_fields(stamp.migrator) if stamp.migrator else None,
    }


def _migrator_fields(migrator: Migrator) -> dict[str, object]:
    return {
        "host": migrator.host,
        "revision": migrator.revision,
        "progress": f"{migrator.step}/{migrator.total}",
        "since": migrator.since,
        "backend": migrator.pid,
    }
