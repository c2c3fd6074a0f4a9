"""Renders the pending revisions as SQL, in a child process that cannot connect to a database."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gate.database.location import LIBPQ_HINT
from gate.database.sessions import shorten_error
from gate.drift.inspector import Inspection, Inspector
from gate.errors import BadSettings
from gate.migration.plan import Plan
from gate.migration.process import SupervisedProcess, migration_environment, start_supervised
from gate.migration.progress import signal_name
from gate.migration.render_request import RenderRequest
from gate.migration.upgrade_request import UpgradeRequest

DEFAULT_TIMEOUT = 60.0
"""Seconds to render all revisions if GATE_MIGRATION_TIMEOUT is not set; importing a large application takes 16."""

STANDARD_ERROR = 2

POLL_INTERVAL = 0.1
"""Seconds to wait for a report before the time limit is checked again."""


@dataclass(slots=True)
class Rendering:
    """The SQL of pending revisions, each statement as Alembic wrote it.

    `before`, `after`: what env.py and Alembic write before the first revision and after the last, such as BEGIN and
    COMMIT; `statements`: of each revision that was rendered; `reasons`: why another one was not, in one sentence;
    `failure`: why env.py cannot be run, "" if it can.
    """

    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    statements: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    _running: str = field(default="", init=False)
    _stopped: str = field(default="", init=False)
    _done: bool = field(default=False, init=False)
    _exit_code: int = field(default=0, init=False)

    def receive(self, report: dict[str, Any]) -> None:
        """Record one report of the child process; raises `BadSettings` if `gate migrate` would refuse env.py."""
        match report.pop("type"):
            case "before":
                self.before = report["statements"]
            case "after":
                self.after = report["statements"]
            case "started":
                self._running = report["revision"]
            case "rendered":
                self._running = ""
                self.statements[report["revision"]] = report["statements"]
            case "failed":
                self._running = ""
                self.reasons[report["revision"]] = _sentence(report)
            case "stopped":
                self._receive_stop(report)
            case "unprotected":
                raise BadSettings(
                    "gate cannot keep env.py and the revisions from connecting to a database on this machine "
                    f"(seccomp: {report['reason']}), so it does not run them. Without --sql, gate plan shows the "
                    "pending revisions."
                )
            case "done":
                self._done = True
            case "exited":
                self._exit_code = report["exit_code"]

    def _receive_stop(self, report: dict[str, Any]) -> None:
        if report["refused"]:
            raise BadSettings(report["message"])
        self._stopped = _sentence(report)
        if report["fatal"]:
            self.failure = f"env.py cannot be run in Alembic's offline mode: {self._stopped}"

    def ended_in(self) -> str:
        """Return the revision that ended the child process, "" if none did."""
        return "" if self._done else self._running

    def complete(self, pending: Sequence[str], timed_out: float = 0) -> None:
        """Give each pending revision that has no statements a reason. `timed_out`: the time limit if it is over."""
        if timed_out:
            reason = f"It was not rendered within {timed_out:g} s (GATE_MIGRATION_TIMEOUT)."
        elif self._done or self._stopped:
            reason = self._stopped or "Alembic did not come to this revision."
        else:
            reason = f"The process that renders it {_end_of(self._exit_code)}."
            if not self._running:
                self.failure = f"env.py cannot be run in Alembic's offline mode. {reason}"
        if self._running:
            self.reasons.setdefault(self._running, reason)
            reason = f"The rendering ended in revision {self._running}."
        for each in pending:
            if each not in self.statements:
                self.reasons.setdefault(each, reason)


def render(plan: Plan, inspector: Inspector, inspection: Inspection) -> Rendering:
    """Render the pending revisions from what is stamped now.

    A revision that ends the process is left out of the next one, so that the others are rendered. Raises `BadSettings`
    if env.py uses another version table, or if the machine cannot keep the process from connecting.
    """
    timeout = plan.timeout or DEFAULT_TIMEOUT
    deadline = time.monotonic() + timeout
    reasons: dict[str, str] = {}
    while True:
        rendering = Rendering(reasons=dict(reasons))
        in_time = _render_once(rendering, plan, inspector, inspection, deadline)
        ended_in = rendering.ended_in()
        if not in_time or not ended_in or ended_in in reasons:
            rendering.complete(inspection.drift.pending, 0 if in_time else timeout)
            return rendering
        rendering.complete([ended_in])
        reasons[ended_in] = rendering.reasons[ended_in]


def _render_once(
    rendering: Rendering, plan: Plan, inspector: Inspector, inspection: Inspection, deadline: float
) -> bool:
    """Run the child process, and return whether it has ended in time."""
    request = _request(plan, inspector, inspection, sorted(rendering.reasons))
    command = [sys.executable, "-P", "-m", "gate.migration.child.render"]
    with start_supervised(
        lambda reports: [*command, str(reports), request.to_json()],
        "the process that renders SQL",
        migration_environment(inspector.database, dedicated=plan.dedicated),
        stdout=STANDARD_ERROR,  # what env.py prints is not SQL
    ) as process:
        try:
            return _receive(rendering, process, deadline)
        finally:
            if not process.has_exited:
                process.kill()


def _receive(rendering: Rendering, process: SupervisedProcess, deadline: float) -> bool:
    while time.monotonic() < deadline:
        reports, ended = process.receive(POLL_INTERVAL)
        for report in reports:
            rendering.receive(report)
        if ended:
            return True
    return False


def _request(plan: Plan, inspector: Inspector, inspection: Inspection, skip: list[str]) -> RenderRequest:
    c, stamp = plan.configuration, inspection.stamp
    return RenderRequest(
        UpgradeRequest(
            c.ini, c.toml, c.section, list(plan.x), "", "", plan.version_table, stamp.schema, targets=list(plan.targets)
        ),
        rows=list(inspection.drift.stamped),
        skip=skip,
        engine=inspector.database.url().engine,
        database=stamp.database,
        has_table=stamp.rows is not None,
        configured_schema=inspector.table.schema or "",
    )


def _sentence(report: dict[str, Any]) -> str:
    location = f" ({report['location']})" if report["location"] else ""
    message = shorten_error(re.sub(LIBPQ_HINT, "", report["message"]))
    return f"{message.rstrip('.')}{location}. {report['hint']}".rstrip()


def _end_of(exit_code: int) -> str:
    return f"was killed by {signal_name(-exit_code)}" if exit_code < 0 else f"ended with exit code {exit_code}"
