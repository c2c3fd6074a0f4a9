"""Run an upgrade and monitor it: receive its reports, verify the lock, keep the time limit, log slow statements.

gate stays responsive while it runs: whatever asks the server runs in a thread, and a signal cancels the upgrade.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from gate import log
from gate.database.lock import Lock
from gate.database.sessions import Activity, Sessions, join_blockers, terminate_late_orphans
from gate.errors import (
    BadSettings,
    DatabaseUnavailable,
    GateError,
    LockLost,
    MigrationFailed,
    ResourceShortage,
    TableLockConflict,
)
from gate.migration.plan import Plan
from gate.migration.process import SupervisedProcess, start_upgrade
from gate.migration.progress import Progress
from gate.process import signals
from gate.process.memory import OomWatch
from gate.process.threads import PeriodicCall, try_for

POLL_INTERVAL = 0.1
"""Seconds to wait for a report before the lock and the time limit are checked again."""

SERVER_CHECK_INTERVAL = 2.0
"""Seconds between two checks of the lock and of the migration's sessions."""

CANCEL_TIMEOUT = 0.5
"""Seconds for the server to cancel, and again to terminate, the migration's sessions; gate exits within two."""

EXIT_TIMEOUT = 1.0
"""Seconds for a cancelled upgrade to roll back and exit before it is killed."""

UNANSWERED_TIMEOUT = 10.0
"""Seconds after which a statement whose session is gone or idle in the server counts as one with a lost answer."""

WAIT_CHECKS = 4
"""How often gate looks who blocks a migration within GATE_TABLE_LOCK_TIMEOUT."""

MIN_WAIT_CHECK_INTERVAL = 0.1
"""Seconds between two of these checks, at least: each takes the server's lock on its table of locks."""

LONG_STATEMENT = 10.0
"""Seconds after which a statement, or the lack of one, is logged; then again whenever the time has doubled."""


def upgrade(plan: Plan, lock: Lock, progress: Progress, schema: str) -> None:
    """Run the upgrade until it exits. `schema`: of the version table, as gate inspected it under the lock.

    Raises `MigrationFailed`; `BadSettings` if env.py connects to another database; `DatabaseLost` if a connection of
    the lock or of the migration was lost, `DatabaseUnavailable` if that was before the first revision; `Interrupted`
    for a signal. The upgrade's processes and sessions are ended then.
    """
    with start_upgrade(plan, lock, schema) as process:
        monitor = _UpgradeMonitor(plan, lock, process, progress)
        try:
            monitor.run()
        except BaseException:
            monitor.cancel()
            raise


CANCELLED = "gate cancelled the upgrade, since another migrator can acquire the lock now"
"""What follows from a lost lock."""


class _UpgradeMonitor:
    """Monitors the upgrade process and the server.

    The server is asked in threads, so that a server that does not answer delays neither signals nor the time limit.
    """

    def __init__(self, plan: Plan, lock: Lock, process: SupervisedProcess, progress: Progress) -> None:
        self._plan, self._lock, self._process, self._progress = plan, lock, process, progress
        self._statements = StatementMonitor(lock.sessions, progress, has_command=bool(plan.command))
        delay = SERVER_CHECK_INTERVAL if plan.tenant else 0.0  # one of many upgrades, most of which end before that
        self._lock_check = PeriodicCall(self._verify_lock, SERVER_CHECK_INTERVAL, delay)
        self._session_check = PeriodicCall(self._check_sessions, SERVER_CHECK_INTERVAL, delay)
        self._wait_check = PeriodicCall(self._observe_lock_wait, _wait_check_interval(plan.table_lock_timeout))
        self._next_refresh = SERVER_CHECK_INTERVAL
        self._oom_watch = OomWatch()

    def run(self) -> None:
        while not self._has_exited():
            signals.raise_in_thread()
            elapsed = time.monotonic() - self._progress.began
            log.progress(f"{self._progress.step}/{self._progress.total} {self._progress.revision} {elapsed:.0f} s")
            self._check_time_limit(elapsed)
            self._refresh_progress(elapsed)
            self._lock_check.attend()
            self._session_check.attend()
            if self._plan.table_lock_timeout:
                self._wait_check.attend()
        try:
            self._progress.raise_for_failure(self._process.returncode, self._plan.command)
        except (MigrationFailed, BadSettings) as error:
            self._verify_lock_after(error)
            if isinstance(error, BadSettings | TableLockConflict):
                raise
            cause = self._oom_watch.explain()
            raise MigrationFailed(f"{error} {cause}".rstrip(), error.revision) from None

    def _has_exited(self) -> bool:
        """Receive reports; return whether the process has exited and all its reports have been received."""
        reports, ended = self._process.receive(POLL_INTERVAL)
        for report in reports:
            if self._progress.receive(report):
                self._plan.on_progress(self._progress)
                if not self._plan.tenant:
                    self._lock_check.soon()
        return ended

    def _check_time_limit(self, elapsed: float) -> None:
        if self._plan.timeout and elapsed > self._plan.timeout:
            raise MigrationFailed(
                f"gate cancelled the upgrade{self._progress.in_revision}: it took longer than {self._plan.timeout:g} s "
                "(GATE_MIGRATION_TIMEOUT)."
            )

    def _refresh_progress(self, elapsed: float) -> None:
        """Publish the progress within a long revision too: the placeholder server may have been restarted."""
        if elapsed >= self._next_refresh:
            self._next_refresh = elapsed + SERVER_CHECK_INTERVAL
            self._plan.on_progress(self._progress)

    def _verify_lock(self) -> None:
        """Verify the lock, and publish the progress on its connection."""
        try:
            self._lock.publish_progress(self._progress.migrator())
            self._lock.verify()
        except LockLost as error:
            raise self._database_lost(f"{error}. {CANCELLED}") from None

    def _verify_lock_after(self, failure: GateError) -> None:
        """Raise `DatabaseLost` if the lock was lost, too: a driver or a command may report that as any failure.

        The fence also refuses an env.py that connected to the right database after the lock was lost, or while the URL
        leads to another server than the lock's.
        """
        try:
            with suppress(ResourceShortage):
                self._lock.verify()
                self._lock.verify_server()
        except LockLost as error:
            seen = "" if self._progress.refused_by_fence else f". {str(failure).rstrip('.')}"
            raise self._database_lost(f"{error}{seen}") from None

    def _database_lost(self, reason: str) -> GateError:
        return self._progress.database_lost(reason, has_command=bool(self._plan.command))

    def _check_sessions(self) -> None:
        """Look after the migration's sessions; raises `DatabaseLost`."""
        try:
            lost = self._attend_sessions()
        except DatabaseUnavailable as error:
            self._statements.report_unseen(error)
            return
        if lost:
            raise self._database_lost(lost)

    def _attend_sessions(self) -> str:
        """Terminate sessions of a killed migrator, and log slow statements of this one; say how the database was lost.

        Returns "" if it was not.
        """
        if lost := self._other_server():
            return lost
        self._terminate_late_orphans()
        own = self._own_sessions()
        sent_at = 0.0 if self._progress.pooled else self._process.clock.sent_at
        if sent_at and (lost := self._lost_connection(own, sent_at)):
            return lost
        self._statements.check(own, awaits_answer=bool(sent_at))
        return ""

    def _other_server(self) -> str:
        """Say that the URL leads to another server than the lock's, where others can acquire it; "" if it does not."""
        if self._lock.fence and not self._lock.sessions.on_server_of_lock():
            try:
                self._lock.verify()  # a server that was restarted counts as another one, too
                self._lock.verify_server()
            except LockLost as error:
                return f"{error}. {CANCELLED}"
        return ""

    def _terminate_late_orphans(self) -> None:
        if not (self._lock.fence and self._lock.sessions.distinguishes_orphans):
            return
        for pid in terminate_late_orphans(self._lock.sessions):
            text = f"A killed migrator's upgrade connected late, in backend {pid}; gate terminated that backend."
            log.emit("warning", "gate.orphan_terminated", text, backend=pid)

    def _observe_lock_wait(self) -> None:
        """Remember whom the migration waits for, since the server no longer shows that after a time-out."""
        with suppress(DatabaseUnavailable):
            activity = self._lock.sessions.activity(self._own_sessions())
            if activity and activity.blockers:
                self._progress.lock_wait = activity

    def _lost_connection(self, own: Collection[int], sent_at: float) -> str:
        """Say that the migration waits for an answer that no session of it in the server will give, "" if it does not.

        A proxy that has lost its side to the server, and still acknowledges, defeats keep-alives. A pooler has no
        session for a client that waits for one, so there gate does not ask.
        """
        sessions, waited = self._lock.sessions, time.monotonic() - sent_at
        if waited < UNANSWERED_TIMEOUT or not sessions.visible:
            return ""
        existing = sessions.existing({*own, *self._progress.opened_sessions})
        activity = sessions.activity(existing)
        is_idle = activity is not None and not activity.text and activity.age >= UNANSWERED_TIMEOUT
        if (existing and not is_idle) or self._process.clock.sent_at != sent_at:  # it may have been answered since
            return ""
        found = "has finished its statement" if existing else "is gone"
        return (
            f"the migration has waited for an answer for {waited:.0f} s, and its session in the server {found}: its "
            "connection is lost. gate cancelled the upgrade"
        )

    def cancel(self) -> None:
        """Cancel the upgrade: its statements in the server first, so that it can roll back, then its processes."""
        try:
            if self._plan.command:
                self._process.send_signal(signal.SIGTERM)
            if try_for(CANCEL_TIMEOUT, self._cancel_statements) or self._plan.command:
                self._process.wait(EXIT_TIMEOUT)
        finally:
            self._process.kill()
        try_for(CANCEL_TIMEOUT, lambda: self._lock.sessions.terminate(self._own_sessions()))

    def _cancel_statements(self) -> bool:
        own = self._own_sessions()
        running = self._lock.sessions.activity(own)
        if not (running and running.text):
            self._process.send_signal(signal.SIGTERM)
        self._lock.sessions.cancel(own)
        return True

    def _own_sessions(self) -> list[int]:
        return self._lock.sessions.own(self._progress.opened_sessions)


def _wait_check_interval(table_lock_timeout: float) -> float:
    return min(max(table_lock_timeout / WAIT_CHECKS, MIN_WAIT_CHECK_INTERVAL), SERVER_CHECK_INTERVAL)


@dataclass(slots=True)
class StatementMonitor:
    """Logs what a slow migration does or waits for.

    `has_command`: whether GATE_UPGRADE_COMMAND upgrades. It reports no revisions, and its connections can lack the tag
    by which gate finds them.
    """

    sessions: Sessions
    progress: Progress
    has_command: bool = False
    _subject: tuple[str, str] = field(default=("", ""), init=False)
    _next_age: float = field(default=LONG_STATEMENT, init=False)
    _idle_since: float = field(default_factory=time.monotonic, init=False)

    def check(self, own: Collection[int], *, awaits_answer: bool) -> None:
        """Log the longest statement, or the lack of one, if it is time to; `own`: the migration's sessions.

        A migration that awaits an answer neither computes nor is idle, even if the server runs nothing for it.
        """
        if not self.sessions.visible:
            self.report_unseen()
            return
        activity = self._activity(own)
        if (activity.text or not awaits_answer) and self._is_due(activity):
            event = "gate.long_statement" if activity.text else "gate.migration_idle"
            self._log(event, activity, self._describe(activity, own))

    def report_unseen(self, error: DatabaseUnavailable | None = None) -> None:
        """Log that the migration reports nothing for long, while gate cannot see in the database what it does.

        `error`: why it cannot, None = this engine does not show it.
        """
        activity = Activity(time.monotonic() - max(self._idle_since, self.progress.last_report))
        if self._is_due(activity):
            self._log("gate.migration_unseen", activity, self._describe_unseen(activity.age, error))

    def _is_due(self, activity: Activity) -> bool:
        subject = (self.progress.revision, activity.text)
        if subject != self._subject:
            self._subject, self._next_age = subject, LONG_STATEMENT
        if activity.age < self._next_age:
            return False
        self._next_age = 2 * activity.age
        return True

    def _log(self, event: str, activity: Activity, text: str) -> None:
        log.emit(
            "info" if self.has_command and not activity.text else "warning",  # an unseen statement is no sign of a hang
            event,
            f"{text} gate keeps waiting for it.",
            seconds=round(activity.age, 1),
            revision=self.progress.running_revision or None,
            blocked_by=list(activity.waits_for) or None,
            relation=activity.relation or None,
        )

    def _activity(self, own: Collection[int]) -> Activity:
        now = time.monotonic()
        activity = self.sessions.activity(own)
        if activity and activity.text:
            self._idle_since = now
            return activity
        if activity:
            self._idle_since = max(self._idle_since, now - activity.age)
        self._idle_since = max(self._idle_since, self.progress.last_report)
        return Activity(now - self._idle_since)

    def _describe(self, activity: Activity, own: Collection[int]) -> str:
        where = self._where
        if activity.text:
            statement = f"A statement{where} has been running for {activity.age:.0f} s: {activity.text}."
            return statement + self._describe_wait(activity, own)
        if self.has_command:
            return (
                f"gate has seen no statement of GATE_UPGRADE_COMMAND for {activity.age:.0f} s: it computes, waits for "
                "something outside the database, or its driver does not send PGAPPNAME."
            )
        if self._has_ended:
            return self._describe_end(activity.age)
        if own or self.progress.opened_sessions:
            return (
                f"The migration has run no statement for {activity.age:.0f} s{where}: it computes, or waits for "
                "something outside the database."
            )
        return (
            f"The migration has had no database connection for {activity.age:.0f} s{where}: env.py is still importing "
            "or connecting."
        )

    @property
    def _where(self) -> str:
        return self.progress.in_revision or ("" if self.has_command else " before the first revision")

    @property
    def _has_ended(self) -> bool:
        return self.progress.done or self.progress.failure is not None

    def _describe_end(self, age: float) -> str:
        return (
            f"The upgrade {'returned' if self.progress.done else 'failed'} {age:.0f} s ago, but its process is still "
            "running: a thread that is not a daemon, or an exit function, keeps it."
        )

    def _describe_unseen(self, age: float, error: DatabaseUnavailable | None) -> str:
        if self._has_ended:
            return self._describe_end(age)
        reason = f" {' '.join(str(error).splitlines())}" if error else ""
        subject = "GATE_UPGRADE_COMMAND" if self.has_command else "The migration"
        unseen = "ask the server what it does" if error else "see in this database what it does"
        return f"{subject} has reported nothing for {age:.0f} s{self._where}, and gate cannot {unseen}.{reason}"

    def _describe_wait(self, activity: Activity, own: Collection[int]) -> str:
        state = f" {activity.wait_state}." if activity.wait_state else ""
        if not activity.waits_for:
            return state
        backends = ", ".join(map(str, activity.waits_for))
        if set(activity.waits_for) & set(own):
            return (
                f" It waits for backend {backends}, another connection of this migration: it blocks itself and cannot "
                "finish. Stop this gate and correct the migration."
            )
        blockers = join_blockers(activity, self.sessions)
        if state:  # the server does not say whose lock it is
            return f"{state} Open transactions, one of which may hold the lock: {blockers}."
        table = f" on {activity.relation}" if activity.relation else ""
        return f" It waits for a lock{table}, blocked by {blockers}."
