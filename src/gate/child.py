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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gate import log, predecessor, statement
from gate.configuration import Configuration
from gate.database import environment_for
from gate.errors import LockLost, MigrationFailed
from gate.lock import Lock
from gate.migrator import Job
from gate.progress import Progress

TICK = 0.1
"""Seconds between two glances at a child that says nothing."""

KEEP_EVERY = 2.0
"""Seconds between two looks at the lock's connection."""

LONG = 10.0
"""Seconds after which a single statement is worth a line; the next line follows after twice the time."""

OBEY_WITHIN = 1.0
"""Seconds that a cancelled child has before it is killed; gate promises to end within two."""


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

    Raises `MigrationFailed`, `BadSettings` if env.py connects elsewhere, and whatever a signal raises; the child is
    gone then, and its statement in the server cancelled.
    """
    reading, writing = os.pipe()
    child = _start(plan, lock, writing)
    os.close(writing)
    try:
        _Watch(plan, lock, child, progress, _Lines(reading)).until_it_ends()
    except BaseException:
        _stop(child, lock, progress)
        raise
    finally:
        os.close(reading)


def _start(plan: Plan, lock: Lock, writing: int) -> subprocess.Popen[bytes]:
    environment = environment_for(lock.database, dedicated=plan.dedicated)
    if plan.command:
        environment |= _fences(lock, environment)
    try:
        return subprocess.Popen(
            list(plan.command) or _own_command(plan, lock, writing),
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=() if plan.command else (writing,),
            start_new_session=True,
        )
    except OSError as error:
        program = plan.command[0] if plan.command else sys.executable
        raise MigrationFailed(f"{program!r} cannot be executed for the upgrade: {error.strerror}.") from None


def _own_command(plan: Plan, lock: Lock, writing: int) -> list[str]:
    c = plan.configuration
    job = Job(os.getpid(), c.ini, c.toml, c.section, list(plan.x), lock.fence, lock.key.working_name)
    return [sys.executable, "-P", "-m", "gate.upgrade", str(writing), job.to_json()]


def _fences(lock: Lock, environment: dict[str, str]) -> dict[str, str]:
    """What the environment can carry to somebody else's upgrade: the tag by which a next migrator finds its orphan."""
    log.emit(
        "warning",
        "gate.upgrade_command",
        "GATE_UPGRADE_COMMAND upgrades: gate cannot see whether it works in the locked database, nor its steps; a "
        "driver that ignores PGAPPNAME (asyncpg) hides what a killed upgrade leaves running.",
    )
    return {"PGAPPNAME": lock.key.working_name, "PYTHONUNBUFFERED": environment.get("PYTHONUNBUFFERED") or "1"}


@dataclass(slots=True)
class _Watch:
    plan: Plan
    lock: Lock
    child: subprocess.Popen[bytes]
    progress: Progress
    lines: _Lines

    def until_it_ends(self) -> None:
        began = kept = time.monotonic()
        told = LONG
        while not self._ended():
            now = time.monotonic()
            log.progress(f"{self.progress.step}/{self.progress.total} {self.progress.revision} {now - began:.0f} s")
            if self.plan.timeout and now - began > self.plan.timeout:
                limit = f"{self.plan.timeout:g} s (GATE_MIGRATION_TIMEOUT)"
                raise MigrationFailed(f"The upgrade took longer than {limit}{self.progress.at()} and was cancelled.")
            if now - kept > KEEP_EVERY:
                kept = now
                self._keep()
                told = self._tell_long(told)
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

    def _tell_long(self, told: float) -> float:
        found = statement.running(self.lock.database, self.progress.backend) if self.progress.backend else None
        if found is None or found.age < LONG:
            return LONG
        if found.age < told:
            return told
        log.emit(
            "warning",
            "gate.long_statement",
            f"{found} This is{self.progress.at()}.",
            seconds=round(found.age, 1),
            revision=self.progress.revision,
            blocked_by=list(found.blockers) or None,
        )
        return 2 * found.age


def _stop(child: subprocess.Popen[bytes], lock: Lock, progress: Progress) -> None:
    """Cancel in the server, give the child a moment to roll back, then kill; a second signal kills at once."""
    try:
        if progress.backend:
            statement.cancel(lock.database, progress.backend)
        else:
            _signal_group(child, signal.SIGTERM)
        child.wait(OBEY_WITHIN)
    except subprocess.TimeoutExpired:
        for pid in {progress.backend, *_left(lock)} - {0}:
            statement.terminate(lock.database, pid)
    finally:
        _signal_group(child, signal.SIGKILL)
        child.wait()


def _left(lock: Lock) -> list[int]:
    with suppress(Exception):
        return predecessor.orphans(lock.database, lock.key) if lock.database.url().is_postgresql else []
    return []


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
