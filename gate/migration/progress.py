"""The progress of an upgrade: collects the reports of its child processes and logs each revision."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from gate import log
from gate.database.lock import Migrator
from gate.database.sessions import Activity, shorten_error
from gate.drift.comparison import Drift
from gate.errors import (
    MORE_PROCESSES,
    BadSettings,
    DatabaseLost,
    DatabaseUnavailable,
    GateError,
    MigrationFailed,
    ResourceShortage,
    TableLockConflict,
    shortage_remedy,
)
from gate.redaction import hide
from gate.text import truncate

DUPLICATE_SQLSTATES = frozenset({"42P07", "42701", "42710", "42P06", "42723"})
"""PostgreSQL's SQLSTATEs of a duplicate table, column, object, schema and function."""

SENTENCE_ENDS = (".", "!", "?", "…")
"""A revision's message can be a sentence with an end of its own."""

RESOURCE_ERRORS = frozenset(map(os.strerror, (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)))
"""Why the supervisor could not start the upgrade, where that is a shortage and no mistake."""

MISSING_CONTEXT = re.compile(r"(?i)outside of (an? |the )?app(lication)? context|not within an app context")
"""How Flask and Quart say that their application context is missing, which Alembic alone does not set up."""

STAMP_REMEDY = "`alembic stamp REVISION`"
"""The remedy where tables were created without Alembic."""


@dataclass(slots=True)
class Progress:
    """The state of an upgrade, as its child processes have reported it.

    `planned`: the drift before the upgrade; `step` of `total` revisions (0 = none has started); `revision`: the
    last one that has started, "" = none; `applied`: how many have been applied, and `applied_revisions` which;
    `opened_sessions`: the server's ids of the migration's connections; `autocommit_revisions`: those that have used
    AUTOCOMMIT, where "" means every revision; `committed_revisions`: those of which something was committed;
    `lock_wait`: the last wait for a lock that gate has seen; `failure`: the report of the error that ended Alembic's
    upgrade; `done`: whether Alembic's upgrade returned; `exit_code`: the upgrade's, negative for a signal, None = it
    has not exited; `start_error`: why the upgrade could not be executed, "" = it was; `pooled`: whether a connection
    goes through a pooler; `since`: when the upgrade began, in seconds of the Unix epoch; `began`: when it began,
    with the dry run of env.py, and `last_report`: when the last report arrived, both in seconds of the monotonic clock;
    `imported`: the modules that its dry run had imported, and `path`: its sys.path, where it reported them.
    """

    planned: Drift
    total: int
    step: int = 0
    revision: str = ""
    applied: int = 0
    opened_sessions: set[int] = field(default_factory=set)
    autocommit_revisions: list[str] = field(default_factory=list)
    committed_revisions: set[str] = field(default_factory=set)
    applied_revisions: list[str] = field(default_factory=list)
    lock_wait: Activity | None = None
    failure: dict[str, Any] | None = None
    done: bool = False
    exit_code: int | None = None
    start_error: str = ""
    since: int = field(default_factory=lambda: int(time.time()))
    began: float = field(default_factory=time.monotonic)
    last_report: float = field(default_factory=time.monotonic)
    pooled: bool = field(default=False, init=False)
    imported: list[str] = field(default_factory=list, init=False)
    path: list[str] = field(default_factory=list, init=False)

    def receive(self, report: dict[str, Any]) -> bool:
        """Record one report and log it if it is about a revision.

        Returns whether another revision has started, so that the new progress should be published.
        """
        self.last_report = time.monotonic()
        match report.pop("type"):
            case "connected":
                self.opened_sessions.add(report["pid"])
            case "pooled":
                self._log_pooler()
            case "autocommit" | "committed" as type_:
                self._receive_commit(type_, report["revision"])
            case "plan":
                self.total = report["total"]
            case "started" | "applied" as type_:
                return self._receive_revision(type_, report)
            case "failed":
                self.failure = report
            case "imported":
                self.imported, self.path = report["modules"], report["path"]
            case "done":
                self.done = True
            case "not_executable" | "exited" as type_:
                self._receive_exit(type_, report)
        return False

    def _receive_commit(self, type_: str, revision: str) -> None:
        if type_ == "autocommit":
            self.autocommit_revisions.append(revision)
        else:
            self.committed_revisions.add(revision)

    def begin_again(self) -> None:
        """Forget the attempt that has ended, for another one; the time since the first one began counts on."""
        self.step, self.revision, self.applied, self.applied_revisions = 0, "", 0, []
        self.opened_sessions, self.committed_revisions, self.autocommit_revisions = set(), set(), []
        self.failure, self.done, self.exit_code, self.start_error, self.lock_wait = None, False, None, "", None

    def rolled_back(self, pending: Collection[str]) -> bool:
        """Whether an earlier revision of this attempt is still pending. `pending`: those after the attempt."""
        return any(revision in pending for revision in self.applied_revisions)

    def _receive_exit(self, type_: str, report: dict[str, Any]) -> None:
        if type_ == "not_executable":
            self.start_error = report["reason"]
        else:
            self.exit_code = report["exit_code"]
            _log_killed_processes(report["killed"])

    def _log_pooler(self) -> None:
        """Log the pooler once, although env.py runs twice."""
        if self.pooled:
            return
        self.pooled = True
        text = (
            "The migration connects through a pooler. gate can neither cancel a statement outside a transaction nor "
            "find it after a kill. Set MIGRATION_DATABASE_URL to a URL that leads directly to PostgreSQL."
        )
        log.emit("warning", "gate.pooler_detected", text)

    def _receive_revision(self, type_: str, report: dict[str, Any]) -> bool:
        if type_ == "applied":
            self.applied = report["step"]
            self.applied_revisions.append(report["revision"])
            self._log_revision("gate.revision_applied", "Applied", report)
            return False
        self.step, self.revision = report["step"], report["revision"]
        self._log_revision("gate.revision_started", "Applying", report)
        return True

    def _log_revision(self, event: str, verb: str, report: dict[str, Any]) -> None:
        revision, seconds = report["revision"], report.get("seconds")
        count, message = f"{report['step']}/{self.total}", self.planned.messages.get(revision, "")
        title = f"{verb} {count} {revision} {message}".rstrip()
        text = title if seconds is None else f"{title.rstrip('.')} in {seconds:.1f} s"
        log.emit(
            "info",
            event,
            text if text.endswith(SENTENCE_ENDS) else f"{text}.",
            progress=count,
            revision=revision,
            revision_message=message,
            seconds=seconds,
        )

    def unapplied(self, after: Drift) -> Drift:
        """Return a later drift with what may wait as pending, too, if this upgrade applies that."""
        return after if self.planned.deferred else after.including_deferred()

    def migrator(self) -> Migrator:
        """Return the description of this migrator that other gates see."""
        return Migrator(socket.gethostname(), self.step, self.total, self.revision, self.since)

    @property
    def in_revision(self) -> str:
        """The current revision, to append to a verb: ` in revision ae10 (3/12)`; "" before the first one.

        Once it has been applied: ` after revision ae10 (3/12)`.
        """
        preposition = "in" if self.running_revision else "after"
        return f" {preposition} revision {self.revision} ({self.step}/{self.total})" if self.revision else ""

    @property
    def running_revision(self) -> str:
        """The revision that runs now, "" between the revisions."""
        return self.revision if self.step > self.applied else ""

    @property
    def refused_by_fence(self) -> bool:
        """Whether the fence ended the upgrade before the first revision: env.py's connection had not passed it."""
        return self.failure is not None and self.failure["kind"] == "database" and not self.step

    @property
    def failure_message(self) -> str:
        """The error that ended Alembic's upgrade, as a sentence; "" if none was reported."""
        return str(self._reported_failure(self.failure)) if self.failure else ""

    def database_lost(self, reason: str, *, has_command: bool = False) -> GateError:
        """Return the error for a lost database. `reason`: a clause; `has_command`: GATE_UPGRADE_COMMAND upgrades.

        Before the first revision nothing was applied, so gate may try again without a limit; a command reports none.
        """
        if not self.step and not has_command:
            return DatabaseUnavailable(
                f"The database went away before the first revision: {reason}. Nothing was applied; gate tries again."
            )
        return DatabaseLost(f"The database went away{self.in_revision}: {reason}.")

    def raise_for_failure(self, supervisor_exit_code: int, command: Sequence[str]) -> None:
        """Raise `MigrationFailed` if the upgrade has failed, `BadSettings` if the fence refused it.

        Raise `DatabaseLost`, or `DatabaseUnavailable` before the first revision, if the driver lost its connection.

        Returning does not mean success: only a check of the database does. `supervisor_exit_code` counts where the
        supervisor was killed before it could report; `command` is GATE_UPGRADE_COMMAND.
        """
        if self.failure:
            raise self._reported_failure(self.failure)
        name = f"GATE_UPGRADE_COMMAND (`{command_line(command)}`)" if command else "The upgrade process"
        if self.start_error in RESOURCE_ERRORS:
            raise ResourceShortage(f"{name} cannot be started: {self.start_error}. {MORE_PROCESSES}")
        if self.start_error:
            raise MigrationFailed(f"{name} cannot be executed: {self.start_error}.{shell_hint(command)}")
        code = supervisor_exit_code if self.exit_code is None else self.exit_code
        if code < 0:
            raise MigrationFailed(f"{name} was killed by {signal_name(-code)}{self.in_revision}.")
        if code:
            raise MigrationFailed(f"{name} ended with exit code {code}{self.in_revision}.{shell_hint(command)}")
        if not (self.done or command):
            text = f"{name} ended with exit code 0{self.in_revision}, but the upgrade had not finished."
            raise MigrationFailed(text)

    def _reported_failure(self, failure: dict[str, Any]) -> GateError:
        if self.refused_by_fence:
            return BadSettings(f"{failure['message']} Nothing was applied.")
        if failure["kind"] == "database":
            return MigrationFailed(failure["message"], self.revision)
        location = f" ({failure['location']})" if failure["location"] else ""
        message = shorten_error(failure["message"])
        if failure["lost"]:
            return self.database_lost(f"{message.rstrip('.')}{location}")
        if location or not message.endswith(SENTENCE_ENDS):
            message = f"{message.rstrip('.')}{location}."
        text = f"The upgrade failed{self.in_revision}: {message}"
        if failure["conflict"]:
            return TableLockConflict(text, self.revision, failure["conflict"])
        return MigrationFailed(f"{text}{self._hint(failure)}")

    def _hint(self, failure: dict[str, Any]) -> str:
        if MISSING_CONTEXT.search(failure["message"]):
            return (
                " Alembic alone sets up no application context: set GATE_UPGRADE_COMMAND to the framework's own "
                "command (for Flask-Migrate `flask db upgrade`), which gate runs under the same lock."
            )
        if remedy := shortage_remedy(failure["message"]):
            return f" {remedy}"
        if not self.step:
            return (
                " No revision had started: the error is in env.py or in a module that it imports. If it could not "
                "connect: env.py must take its URL from DATABASE_URL, and the URL's driver must be installed."
            )
        if failure["sqlstate"] in DUPLICATE_SQLSTATES:
            return (
                " The object to create exists already. If create_all or another tool created it, run "
                f"{STAMP_REMEDY}; if a killed migration left it, remove it by hand first."
            )
        return ""


SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"})

BUILTINS = frozenset({".", "cd", "exec", "export", "set", "source", "ulimit", "umask", "unset"})
"""Words that only a shell understands."""

SHELL_SYNTAX = re.compile(r"[$`|&;<>*?]|^~")
"""What a shell would expand or act on in a word."""

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
"""How a word begins in which a shell sets a variable, where it stands before the program."""


def command_line(command: Sequence[str]) -> str:
    """GATE_UPGRADE_COMMAND as a shell would read it, without passwords: each word is redacted before it is quoted."""
    return hide(shlex.join(hide(word) for word in command))


def shell_hint(command: Sequence[str]) -> str:
    """Say that no shell reads GATE_UPGRADE_COMMAND if one of its words looks as if it was meant for one."""
    if not command or command[0].rpartition("/")[2] in SHELLS:
        return ""
    is_meant = command[0] in BUILTINS or ASSIGNMENT.match(command[0])
    meant = [command[0]] if is_meant else [word for word in command if SHELL_SYNTAX.search(word)]
    if not meant:
        return ""
    word = truncate(hide(meant[0]))
    return f" gate runs the command without a shell, so {word} is passed on as it is; for a shell: sh -c '...'."


def _log_killed_processes(number: int) -> None:
    if number:
        text = (
            f"The upgrade exited and left {number} process(es) running; gate killed them, since nothing watches them."
        )
        log.emit("warning", "gate.child_processes_killed", text, processes=number)


def signal_name(number: int) -> str:
    """The name of a signal; Python has no names for real-time signals."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
