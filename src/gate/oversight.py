"""Watching an upgrade to its end, and stopping it: gate stays responsive whatever a migration does."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from gate import log
from gate.child import Child, Plan, started
from gate.errors import LockLost, MigrationFailed
from gate.lock import Lock
from gate.progress import Progress
from gate.slowness import Slowness

TICK = 0.1
"""Seconds between two glances at a child that says nothing."""

KEEP_EVERY = 2.0
"""Seconds between two looks at the lock's connection."""

OBEY_WITHIN = 1.0
"""Seconds that a cancelled upgrade has before it is killed; gate promises to end within two."""

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


@dataclass(slots=True)
class _Overseer:
    plan: Plan
    lock: Lock
    child: Child
    progress: Progress

    def watch(self) -> None:
        began = kept = time.monotonic()
        slowness = Slowness(self.lock.backends, self.progress, HIDDEN if self.plan.command else "")
        while not self._ended():
            now = time.monotonic()
            log.progress(f"{self.progress.step}/{self.progress.total} {self.progress.revision} {now - began:.0f} s")
            self._mind_the_limit(now - began)
            if now - kept > KEEP_EVERY:
                kept = now
                self._keep()
                slowness.tell(self._ours())
        self.progress.judge(self.child.process.returncode, self.plan.command)

    def _ended(self) -> bool:
        """When the child is gone, everything that it wrote is there."""
        gone = self.child.ended
        reports = list(self.child.told(within=0 if gone else TICK))
        for report in reports:
            self.progress.take(report)
            if report.get("revision") and "seconds" not in report:
                self._show()
        return gone and not reports

    def _show(self) -> None:
        self.plan.on_progress(self.progress)
        with suppress(LockLost):  # `_keep` tells
            self.lock.tell(self.progress.migrator())

    def _mind_the_limit(self, elapsed: float) -> None:
        if self.plan.timeout and elapsed > self.plan.timeout:
            limit = f"{self.plan.timeout:g} s (GATE_MIGRATION_TIMEOUT)"
            raise MigrationFailed(f"The upgrade took longer than {limit}{self.progress.at()} and was cancelled.")

    def _keep(self) -> None:
        try:
            self.lock.keep()
        except LockLost as error:
            raise MigrationFailed(
                f"{error}. gate stopped the upgrade{self.progress.at()}, so that no second migrator works beside it."
            ) from None

    def stop(self) -> None:
        """Cancel in the server, give the upgrade a moment to roll back, then kill; a second signal kills at once."""
        try:
            ours = self._ours()
            if self.plan.command or self.lock.backends.idle(ours):
                self.child.signal(signal.SIGTERM)
            self.lock.backends.cancel(ours)
            self.child.wait(OBEY_WITHIN)
        finally:
            self.child.kill()
        self.lock.backends.end(self._ours())

    def _ours(self) -> set[int]:
        """The backends in which this upgrade works: marked ones are its own only while the lock is held."""
        with suppress(Exception):
            self.lock.keep()
            return self.progress.backends | set(self.lock.backends.marked() if self.lock.fence else [])
        return self.progress.backends
