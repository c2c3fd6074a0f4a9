"""The upgrading child: started, watched, stopped. The parent stays responsive whatever a migration does."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from gate import log
from gate.configuration import Configuration
from gate.database import environment_for
from gate.errors import LockLost, MigrationFailed
from gate.lock import Lock
from gate.migrator import Job
from gate.progress import Progress
from gate.slowness import Slowness

TICK = 0.1
"""Seconds between two glances at a child that says nothing."""

KEEP_EVERY = 2.0
"""Seconds between two looks at the lock's connection."""

HIDDEN = ", or its driver hides it"
"""What an upgrade that is not gate's own may do."""

OBEY_WITHIN = 1.0
"""Seconds that a cancelled child has before it is killed; gate promises to end within two."""

KILLED_WITHIN = 0.3
"""Seconds that the supervisor has to kill all below it before it is killed itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How this image migrates. `dedicated` = MIGRATION_DATABASE_URL is set."""

    configuration: Configuration
    x: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = 0
    locking: bool = True
    dedicated: bool = False
    on_progress: Callable[[Progress], None] = lambda _: None


def upgrade(plan: Plan, lock: Lock, progress: Progress) -> None:
    """Run the upgrade to its end.

    Raises `MigrationFailed`, `BadSettings` if env.py connects elsewhere, and whatever a signal raises; the upgrade and
    all that it started are gone then, and its statements in the server cancelled.
    """
    with _started(plan, lock) as child:
        try:
            _Watch(plan, lock, child.process, progress, _Lines(child.reports)).until_it_ends()
        except BaseException:
            _stop(child, lock, progress, foreign=bool(plan.command))
            raise


@dataclass(slots=True)
class _Child:
    """The supervisor of an upgrade. `life`: what gate holds for as long as it lives."""

    process: subprocess.Popen[bytes]
    life: BinaryIO
    reports: int


@contextmanager
def _started(plan: Plan, lock: Lock) -> Iterator[_Child]:
    living, life = os.pipe()
    reports, reporting = os.pipe()
    supervisor = [sys.executable, "-P", "-m", "gate.supervisor", str(living), str(reporting)]
    with open(life, "wb") as alive, open(reports, "rb"):
        try:
            process = subprocess.Popen(
                [*supervisor, *(plan.command or _own_command(plan, lock, reporting))],
                stdin=subprocess.DEVNULL,
                env=environment_for(lock.database, dedicated=plan.dedicated) | _fences(plan, lock),
                pass_fds=(living, reporting, *lock.descriptors),
                start_new_session=True,
            )
        finally:
            os.close(living)
            os.close(reporting)
        yield _Child(process, alive, reports)


def _own_command(plan: Plan, lock: Lock, reporting: int) -> list[str]:
    c = plan.configuration
    job = Job(c.ini, c.toml, c.section, list(plan.x), lock.fence, lock.mark)
    return [sys.executable, "-P", "-m", "gate.upgrade", str(reporting), job.to_json()]


def _fences(plan: Plan, lock: Lock) -> dict[str, str]:
    """What the environment can carry to whatever else connects: the mark by which a next migrator finds its orphan."""
    fences = {"PGAPPNAME": lock.key.working_name}
    if plan.command:
        log.emit(
            "warning",
            "gate.upgrade_command",
            "GATE_UPGRADE_COMMAND upgrades: gate cannot see whether it works in the locked database, nor its steps; a "
            "driver that ignores PGAPPNAME (asyncpg) hides what a killed upgrade leaves running.",
        )
        fences["PYTHONUNBUFFERED"] = os.environ.get("PYTHONUNBUFFERED") or "1"
        if lock.options:
            fences["PGOPTIONS"] = f"{os.environ.get('PGOPTIONS', '')} {lock.options}".strip()
    return fences


@dataclass(slots=True)
class _Watch:
    plan: Plan
    lock: Lock
    child: subprocess.Popen[bytes]
    progress: Progress
    lines: _Lines

    def until_it_ends(self) -> None:
        began = kept = time.monotonic()
        slowness = Slowness(self.lock.backends, self.progress, HIDDEN if self.plan.command else "")
        while not self._ended():
            now = time.monotonic()
            log.progress(f"{self.progress.step}/{self.progress.total} {self.progress.revision} {now - began:.0f} s")
            if self.plan.timeout and now - began > self.plan.timeout:
                limit = f"{self.plan.timeout:g} s (GATE_MIGRATION_TIMEOUT)"
                raise MigrationFailed(f"The upgrade took longer than {limit}{self.progress.at()} and was cancelled.")
            if now - kept > KEEP_EVERY:
                kept = now
                self._keep()
                slowness.tell(_ours(self.lock, self.progress))
        self.progress.judge(self.child.returncode, self.plan.command)

    def _ended(self) -> bool:
        """Not by the pipe's end: a migration may have forked. When the child is gone, what it wrote is there."""
        gone = self.child.poll() is not None
        reports = list(self.lines.within(0 if gone else TICK))
        for report in reports:
            self.progress.take(report)
            if report.get("revision") and "seconds" not in report:
                self._show()
        return gone and not reports

    def _show(self) -> None:
        self.plan.on_progress(self.progress)
        with suppress(LockLost):  # `_keep` tells
            self.lock.tell(self.progress.migrator())

    def _keep(self) -> None:
        try:
            self.lock.keep()
        except LockLost as error:
            raise MigrationFailed(
                f"{error}. gate stopped the upgrade{self.progress.at()}, so that no second migrator works beside it."
            ) from None


def _stop(child: _Child, lock: Lock, progress: Progress, *, foreign: bool) -> None:
    """Cancel in the server, give the upgrade a moment to roll back, then kill; a second signal kills at once."""
    try:
        ours = _ours(lock, progress)
        if foreign or lock.backends.idle(ours):
            _signal_group(child.process, signal.SIGTERM)
        lock.backends.cancel(ours)
        child.process.wait(OBEY_WITHIN)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill(child)
    lock.backends.end(_ours(lock, progress))


def _ours(lock: Lock, progress: Progress) -> set[int]:
    """The backends in which this migration works: marked ones are its own only while the lock is held."""
    with suppress(Exception):
        lock.keep()
        return progress.backends | set(lock.backends.marked() if lock.fence else [])
    return progress.backends


def _kill(child: _Child) -> None:
    """The end of its life lets the supervisor kill what setsid() took out of the group, too."""
    child.life.close()
    with suppress(subprocess.TimeoutExpired):
        child.process.wait(KILLED_WITHIN)
    _signal_group(child.process, signal.SIGKILL)
    child.process.wait()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


class _Lines:
    """The child's reports as they come through its pipe."""

    def __init__(self, descriptor: int) -> None:
        self._ended = False
        self._rest = b""
        self._descriptor = descriptor
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)

    def within(self, seconds: float) -> Iterator[dict[str, Any]]:
        if self._ended:
            time.sleep(seconds)
            return
        if not self._selector.select(seconds):
            return
        chunk = os.read(self._descriptor, 65536)
        self._ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        yield from map(json.loads, lines)
