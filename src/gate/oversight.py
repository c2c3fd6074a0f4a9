"""Watching an upgrade to its end, and stopping it: gate stays responsive whatever a migration does."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from gate import log
from gate.child import Child, started
from gate.errand import Chore, within
from gate.errors import DatabaseUnavailable, GateError, LockLost, MigrationFailed
from gate.lock import Lock
from gate.plan import Plan
from gate.predecessor import end_late_predecessors
from gate.progress import Progress
from gate.slowness import Slowness

TICK = 0.1
"""Seconds between two glances at a child that says nothing."""

TEND_EVERY = 2.0
"""Seconds between two looks at the lock's connection."""

ASKED_WITHIN = 0.5
"""Seconds that the server has to cancel and to end; gate promises to have ended within two."""

OBEY_WITHIN = 1.0
"""Seconds that a cancelled upgrade has before it is killed."""

HIDDEN = ", or its driver hides it"
"""What an upgrade that is not gate's own may do."""


def upgrade(plan: Plan, lock: Lock, progress: Progress) -> None:
    """Run the upgrade to its end.

    Raises `MigrationFailed`, `BadSettings` if env.py connects elsewhere, and whatever a signal raises; the upgrade and
    all that it started are gone then, and its statements in the server cancelled.
    """
    with started(plan, lock) as child:
        overseer = _Overseer(plan, lock, child, progress)
        try:
            overseer.watch()
        except BaseException:
            overseer.stop()
            raise


class _Overseer:
    """What asks the server runs beside, so that one which hangs holds neither a signal nor a limit up."""

    def __init__(self, plan: Plan, lock: Lock, child: Child, progress: Progress) -> None:
        self._plan, self._lock, self._child, self._progress = plan, lock, child, progress
        self._slowness = Slowness(lock.backends, progress, HIDDEN if plan.command else "")
        self._keeping = Chore(self._keep, TEND_EVERY)
        self._asking = Chore(self._ask, TEND_EVERY)
        self._show_at = TEND_EVERY

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
        reports = list(self._child.told(within=0 if gone else TICK))
        for report in reports:
            self._progress.take(report)
            if report.get("step") and "seconds" not in report:
                self._plan.on_progress(self._progress)
                self._keeping.soon()
        return gone and not reports

    def _show_now_and_then(self, elapsed: float) -> None:
        """Also while one statement takes hours: who answers for gate may have died."""
        if elapsed >= self._show_at:
            self._show_at = elapsed + TEND_EVERY
            self._plan.on_progress(self._progress)

    def _mind_the_limit(self, elapsed: float) -> None:
        if self._plan.timeout and elapsed > self._plan.timeout:
            limit = f"{self._plan.timeout:g} s (GATE_MIGRATION_TIMEOUT)"
            raise MigrationFailed(f"The upgrade took longer than {limit}{self._progress.at()} and was cancelled.")

    def _keep(self) -> None:
        """Keep the lock, and show the progress on its connection."""
        try:
            self._lock.tell(self._progress.migrator())
            self._lock.keep()
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
            if self._lock.fence and self._lock.backends.tells_apart:
                end_late_predecessors(self._lock.backends)
            self._slowness.tell(self._ours())

    def _see_that_the_lock_was_held(self) -> None:
        """The fence refuses as well when the lock was lost before env.py had connected."""
        if self._progress.refused_by_the_fence:
            try:
                self._lock.keep()
            except LockLost as error:
                raise self._lost(error) from None

    def stop(self) -> None:
        """Cancel in the server, give the upgrade a moment to roll back, then kill; a second signal kills at once."""
        try:
            if self._plan.command:
                self._child.signal(signal.SIGTERM)
            if within(ASKED_WITHIN, self._cancel) or self._plan.command:
                self._child.wait(OBEY_WITHIN)
        finally:
            self._child.kill()
        within(ASKED_WITHIN, lambda: self._lock.backends.end(self._ours()))

    def _cancel(self) -> bool:
        ours = self._ours()
        running = self._lock.backends.activity(ours)
        if not (running and running.text):
            self._child.signal(signal.SIGTERM)
        self._lock.backends.cancel(ours)
        return True

    def _ours(self) -> list[int]:
        return self._lock.backends.ours(self._progress.opened)
