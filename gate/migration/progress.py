"""How far an upgrading child has come: its reports in, one event for each step out."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gate import log
from gate.database.lock import Migrator
from gate.drift.comparison import Drift
from gate.errors import BadSettings, MigrationFailed
from gate.redaction import hide

MAX_ERROR_LENGTH = 500
"""Characters of an error of a migration that are shown."""

DUPLICATE_SQLSTATES = frozenset({"42P07", "42701", "42710", "42P06", "42723"})
"""SQLSTATE of a duplicate table, column, object, schema and function."""

STAMP_REMEDY = "`alembic stamp REVISION`"
"""The cure where tables were made without Alembic."""


@dataclass(slots=True)
class Progress:
    """What the child and its supervisor reported.

    `opened`: the connections that the migration has opened, by their ids in the server; `commits_by_itself`: the
    revisions that have asked for AUTOCOMMIT, "" = all; `code`: how the upgrade
    ended, negative for a signal, None = not yet; `unstartable`: why it did not even begin.
    """

    planned: Drift
    total: int
    step: int = 0
    revision: str = ""
    opened: set[int] = field(default_factory=set)
    commits_by_itself: list[str] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    done: bool = False
    code: int | None = None
    unstartable: str = ""
    since: int = field(default_factory=lambda: int(time.time()))

    def migrator(self) -> Migrator:
        """As waiters see it."""
        return Migrator(socket.gethostname(), self.step, self.total, self.revision, self.since)

    def take(self, report: dict[str, Any]) -> None:
        """Take in one report, and log it if it is a step."""
        match report.pop("what"):
            case "connected":
                self.opened.add(report["pid"])
            case "pooled":
                self._tell_pooled()
            case "autocommit":
                self.commits_by_itself.append(report["revision"])
            case "plan":
                self.total = report["total"]
            case "started" | "applied" as what:
                self._take_step(what, report)
            case "failed":
                self.failure = report
            case "done":
                self.done = True
            case "unstartable":
                self.unstartable = report["why"]
            case "ended":
                self.code = report["code"]
                self._tell_left(report["left"])

    def _take_step(self, what: str, report: dict[str, Any]) -> None:
        if what == "applied":
            self._tell("gate.revision_applied", "Applied", report)
        else:
            self.step, self.revision = report["step"], report["revision"]
            self._tell("gate.revision_started", "Applying", report)

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

    def _tell_pooled(self) -> None:
        text = (
            "The migration connects through a pooler: what it runs outside a transaction can be neither cancelled nor "
            "found after a kill. Point MIGRATION_DATABASE_URL directly to PostgreSQL."
        )
        log.emit("warning", "gate.pooler_detected", text)

    def _tell_left(self, left: int) -> None:
        if left:
            text = (
                f"The upgrade ended and left {left} process(es) behind; gate ended them, so that nothing works unseen."
            )
            log.emit("warning", "gate.child_processes_killed", text, processes=left)

    def at(self) -> str:
        """Where it stands, to be put behind a verb."""
        return f" in revision {self.revision} ({self.step}/{self.total})" if self.revision else ""

    @property
    def refused_by_the_fence(self) -> bool:
        """Whether the upgrade ended before its first step, since the lock was not held where env.py had connected."""
        return self.failure is not None and self.failure["kind"] == "database" and not self.step

    def judge(self, supervisor: int, command: Sequence[str]) -> None:
        """Find failures; success is for the next look to find, not for an exit code.

        `supervisor`: its exit code, which says something only if it could not report. Raises `MigrationFailed`, or
        `BadSettings` if the child would not begin.
        """
        code = supervisor if self.code is None else self.code
        if self.failure and self.refused_by_the_fence:
            raise BadSettings(f"{self.failure['message']} Nothing was applied.")
        if self.failure and self.failure["kind"] == "database":
            raise MigrationFailed(self.failure["message"], self.revision)
        if self.failure:
            where = f" ({self.failure['where']})" if self.failure["where"] else ""
            message = hide(self.failure["message"])[:MAX_ERROR_LENGTH]
            raise MigrationFailed(f"The upgrade failed{self.at()}: {message}{where}.{self._cure()}")
        name = f"`{hide(' '.join(command))}`" if command else "The upgrading process"
        if self.unstartable:
            raise MigrationFailed(f"{name} cannot be executed for the upgrade: {self.unstartable}.")
        if code < 0:
            raise MigrationFailed(f"{name} was killed by {_signal(-code)}{self.at()}.")
        if code or not (self.done or command):
            raise MigrationFailed(f"{name} ended with exit code {code}{self.at()}.")

    def _cure(self) -> str:
        if not self.step:
            return (
                " No revision had begun: it failed in env.py, or in what that imports. If it could not connect: env.py "
                "must take its URL from DATABASE_URL, and the driver that this names must be installed."
            )
        if self.failure and self.failure["sqlstate"] in DUPLICATE_SQLSTATES:
            return (
                " What it creates exists already: if create_all or another tool made it, tell Alembic with "
                f"{STAMP_REMEDY}; if a killed migration left it half done, mend that by hand first."
            )
        return ""


def _signal(number: int) -> str:
    """Its name; those for real time have none."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
