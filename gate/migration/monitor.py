"""Watching an upgrade to its end, and stopping it: gate stays responsive whatever a migration does."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from gate import log
from gate.database.lock import Lock
from gate.database.sessions import Activity, Sessions, terminate_late_orphans
from gate.errors import DatabaseUnavailable, GateError, LockLost, MigrationFailed
from gate.migration.plan import Plan
from gate.migration.process import UpgradeProcess, start_upgrade
from gate.migration.progress import Progress
from gate.process.threads import PeriodicCall, try_for

POLL_INTERVAL = 0.1
"""Seconds between two glances at a child that says nothing."""

SERVER_CHECK_INTERVAL = 2.0
"""Seconds between two looks at the lock's connection."""

CANCEL_TIMEOUT = 0.5
"""Seconds that the server has to cancel and to end; gate promises to have ended within two."""

EXIT_TIMEOUT = 1.0
"""Seconds that a cancelled upgrade has before it is killed."""

HIDDEN_BY_DRIVER = ", or its driver hides it"
"""What an upgrade that is not gate's own may do."""


def upgrade(plan: Plan, lock: Lock, progress: Progress) -> None:
    """Run the upgrade to its end.

    Raises `MigrationFailed`, `BadSettings` if env.py connects elsewhere, and whatever a signal raises; the upgrade and
    all that it started are gone then, and its statements in the server cancelled.
    """
    with start_upgrade(plan, lock) as child:
        overseer = _Monitor(plan, lock, child, progress)
        try:
            overseer.watch()
        except BaseException:
            overseer.stop()
            raise


class _Monitor:
    """What asks the server runs beside, so that one which hangs holds neither a signal nor a limit up."""

    def __init__(self, plan: Plan, lock: Lock, child: UpgradeProcess, progress: Progress) -> None:
        self._plan, self._lock, self._child, self._progress = plan, lock, child, progress
        self._slowness = StatementMonitor(lock.sessions, progress, HIDDEN_BY_DRIVER if plan.command else "")
        self._keeping = PeriodicCall(self._keep, SERVER_CHECK_INTERVAL)
        self._asking = PeriodicCall(self._ask, SERVER_CHECK_INTERVAL)
        self._show_at = SERVER_CHECK_INTERVAL

    def watch(self) -> None:
        began = time.monotonic()
        while not self._ended():
            elapsed = time.monotonic() - began
            step = f"{self._progress.step}/{self._progress.total}"
            log.progress(f"{step} {self._progress.revision} {elapsed:.0f} s")
            self._mind_the_limit(elapsed)
            self._show_now_and_then(elapsed)
            self._keeping.attend()
            self._asking.attend()
        self._see_that_the_lock_was_held()
        self._progress.judge(self._child.process.returncode, self._plan.command)

    def _ended(self) -> bool:
        """When the child is gone, everything that it wrote is there."""
        gone = self._child.ended
        reports = list(self._child.told(within=0 if gone else POLL_INTERVAL))
        for report in reports:
            self._progress.take(report)
            if report.get("step") and "seconds" not in report:
                self._plan.on_progress(self._progress)
                self._keeping.soon()
        return gone and not reports

    def _show_now_and_then(self, elapsed: float) -> None:
        """Also while one statement takes hours: who answers for gate may have died."""
        if elapsed >= self._show_at:
            self._show_at = elapsed + SERVER_CHECK_INTERVAL
            self._plan.on_progress(self._progress)

    def _mind_the_limit(self, elapsed: float) -> None:
        if self._plan.timeout and elapsed > self._plan.timeout:
            limit = f"{self._plan.timeout:g} s (GATE_MIGRATION_TIMEOUT)"
            raise MigrationFailed(f"The upgrade took longer than {limit}{self._progress.at()} and was cancelled.")

    def _keep(self) -> None:
        """Keep the lock, and show the progress on its connection."""
        try:
            self._lock.publish_progress(self._progress.migrator())
            self._lock.verify()
        except LockLost as error:
            raise self._lost(error) from None

    def _lost(self, error: LockLost) -> GateError:
        """Before the first step nothing can have been applied, so that gate looks and tries again."""
        if not self._progress.step and not self._plan.command:
            return DatabaseUnavailable(f"{error} before the first step; gate tries again.")
        return MigrationFailed(
            f"{error}. gate stopped the upgrade{self._progress.at()}, so that no second migrator works beside it."
        )

    def _ask(self) -> None:
        """End who works under the lock beside this upgrade, and say what takes long."""
        with suppress(DatabaseUnavailable):
            if self._lock.fence and self._lock.sessions.distinguishes_orphans:
                for pid in terminate_late_orphans(self._lock.sessions):
                    text = f"The upgrade of a killed migrator connected late, in backend {pid}; gate terminated it."
                    log.emit("warning", "gate.orphan_terminated", text, backend=pid)
            self._slowness.tell(self._own_sessions())

    def _see_that_the_lock_was_held(self) -> None:
        """The fence refuses as well when the lock was lost before env.py had connected."""
        if self._progress.refused_by_the_fence:
            try:
                self._lock.verify()
            except LockLost as error:
                raise self._lost(error) from None

    def stop(self) -> None:
        """Cancel in the server, give the upgrade a moment to roll back, then kill; a second signal kills at once."""
        try:
            if self._plan.command:
                self._child.signal(signal.SIGTERM)
            if try_for(CANCEL_TIMEOUT, self._cancel) or self._plan.command:
                self._child.wait(EXIT_TIMEOUT)
        finally:
            self._child.kill()
        try_for(CANCEL_TIMEOUT, lambda: self._lock.sessions.terminate(self._own_sessions()))

    def _cancel(self) -> bool:
        own = self._own_sessions()
        running = self._lock.sessions.activity(own)
        if not (running and running.text):
            self._child.signal(signal.SIGTERM)
        self._lock.sessions.cancel(own)
        return True

    def _own_sessions(self) -> list[int]:
        return self._lock.sessions.own(self._progress.opened)


LONG_STATEMENT = 10.0
"""Seconds after which a single statement, or the want of one, is worth a line; the next after twice the time."""


@dataclass(slots=True)
class StatementMonitor:
    """Asks the server what a migration does, and decides when that is worth a line.

    `hidden`: why its connections may not be seen although there are some, "" if that cannot be.
    """

    sessions: Sessions
    progress: Progress
    hidden: str = ""
    _told_of: tuple[str, str] = field(default=("", ""), init=False)
    _next: float = field(default=LONG_STATEMENT, init=False)
    _quiet_since: float = field(default_factory=time.monotonic, init=False)

    def tell(self, own: Collection[int]) -> None:
        """Say what takes long, if something does; `ours`: the backends in which the migration works."""
        found = self._found(own)
        subject = (self.progress.revision, found.text)
        if subject != self._told_of:
            self._told_of, self._next = subject, LONG_STATEMENT
        if not self.sessions.visible or found.age < self._next:
            return
        self._next = 2 * found.age
        where = self.progress.at() or " before the first revision"
        log.emit(
            "warning",
            "gate.long_statement" if found.text else "gate.migration_idle",
            f"{self._described(found, own)} This is{where}.",
            seconds=round(found.age, 1),
            revision=self.progress.revision or None,
            blocked_by=list(found.waits_for) or None,
        )

    def _found(self, own: Collection[int]) -> Activity:
        now = time.monotonic()
        found = self.sessions.activity(own)
        if found and found.text:
            self._quiet_since = now
            return found
        if found:
            self._quiet_since = max(self._quiet_since, now - found.age)
        return Activity(now - self._quiet_since)

    def _described(self, found: Activity, own: Collection[int]) -> str:
        if found.text:
            return f"A statement runs for {found.age:.0f} s: {found.text}.{_describe_wait(found, own)}"
        if own or self.progress.opened:
            return (
                f"No statement of the migration has run for {found.age:.0f} s: it computes, or waits for something "
                "outside the database."
            )
        return (
            f"No connection of the upgrade was seen for {found.age:.0f} s: what env.py imports or connects to takes "
            f"long{self.hidden}."
        )


def _describe_wait(found: Activity, own: Collection[int]) -> str:
    if found.waits_for:
        blocker = f" ({found.blocker})" if found.blocker else ""
        itself = set(found.waits_for) & set(own)
        by = ", a connection of this very migration: it blocks itself and will not go on" if itself else blocker
        return f" It waits for backend {', '.join(map(str, found.waits_for))}{by}."
    return f" {found.wait_state}." if found.wait_state else ""
