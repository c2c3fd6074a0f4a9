"""How far an upgrading child has come: its reports in, one event for each step out."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gate import log
from gate.drift import Drift
from gate.errors import BadSettings, MigrationFailed
from gate.migrator import Migrator
from gate.urls import hide

MOST_TEXT = 500
"""Characters of an error of a migration that are shown."""

EXISTS_ALREADY = frozenset({"42P07", "42701", "42710"})
"""SQLSTATE of a duplicate table, column and object."""


@dataclass(slots=True)
class Progress:
    """What the child reported. `backend`: the migration's own backend in the server, 0 = not connected yet."""

    planned: Drift
    total: int
    step: int = 0
    revision: str = ""
    backend: int = 0
    failure: dict[str, Any] | None = None
    done: bool = False
    since: int = field(default_factory=lambda: int(time.time()))

    def migrator(self) -> Migrator:
        """As waiters see it."""
        return Migrator(socket.gethostname(), self.step, self.total, self.revision, self.since)

    def take(self, report: dict[str, Any]) -> None:
        """Take in one report, and log it if it is a step."""
        match report.pop("what"):
            case "connected":
                self.backend = report["pid"]
            case "plan":
                self.total = report["total"]
            case "started":
                self.step, self.revision = report["step"], report["revision"]
                self._tell("gate.revision_started", "Applying", report)
            case "applied":
                self._tell("gate.revision_applied", "Applied", report)
            case "failed":
                self.failure = report
            case "done":
                self.done = True

    def _tell(self, event: str, verb: str, report: dict[str, Any]) -> None:
        revision, seconds = report["revision"], report.get("seconds")
        count, message = f"{report['step']}/{self.total}", self.planned.messages.get(revision, "")
        took = f" in {seconds:.1f} s" if seconds is not None else ""
        log.emit(
            "info",
            event,
            f"{verb} {count} {revision} {message}".rstrip() + f"{took}.",
            progress=count,
            revision=revision,
            revision_message=message,
            seconds=seconds,
        )

    def at(self) -> str:
        """Where it stands, to be put behind a verb."""
        return f" in revision {self.revision} ({self.step}/{self.total})" if self.revision else ""

    def judge(self, code: int, command: Sequence[str]) -> None:
        """Find failures; success is for the next look to find, not for an exit code.

        Raises `MigrationFailed`, or `BadSettings` if the child would not begin.
        """
        if self.failure and self.failure["kind"] == "database" and self.step:
            raise MigrationFailed(self.failure["message"], self.revision)
        if self.failure and self.failure["kind"] == "database":
            raise BadSettings(f"{self.failure['message']} Nothing was applied.")
        if self.failure:
            where = f" ({self.failure['where']})" if self.failure["where"] else ""
            message = hide(self.failure["message"])[:MOST_TEXT]
            raise MigrationFailed(f"The upgrade failed{self.at()}: {message}{where}.{self._cure()}")
        name = f"`{' '.join(command)}`" if command else "The upgrading process"
        if code < 0:
            raise MigrationFailed(f"{name} was killed by {signal.Signals(-code).name}{self.at()}.")
        if code or not (self.done or command):
            raise MigrationFailed(f"{name} ended with exit code {code}{self.at()}.")

    def _cure(self) -> str:
        if self.failure and self.failure["sqlstate"] in EXISTS_ALREADY:
            return (
                " What it creates exists already: if create_all or another tool made it, tell Alembic with "
                "`alembic stamp REVISION`; if a killed migration left it half done, mend that by hand first."
            )
        return ""
