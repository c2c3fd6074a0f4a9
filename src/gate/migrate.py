"""The parent that watches an upgrade: look again under the lock, upgrade in a child, look a third time.

It stays responsive whatever the migration does: it is PID 1, it answers signals, keeps the lock and the time.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gate import log
from gate.configuration import Configuration
from gate.database import environment_for
from gate.drift import Drift, Verdict
from gate.errors import BadSettings, GateError, Interrupted, LockLost, MigrationFailed
from gate.explanation import SHOWN
from gate.lock import Lock, cancel, end_predecessors, hold, terminate
from gate.look import Looker, Seen
from gate.migrator import Job, Migrator

TICK = 0.1
"""Seconds between two glances at a child that says nothing."""

KEEP_EVERY = 2.0
"""Seconds between two looks at the lock's connection."""

OBEY_WITHIN = 1.0
"""Seconds that a cancelled child has before it is killed; gate promises to end within two."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How this image migrates."""

    configuration: Configuration
    x: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = 0
    locking: bool = True
    dedicated: bool = False


@dataclass(slots=True)
class Progress:
    """How far the child has come, from what it reported."""

    total: int = 0
    step: int = 0
    revision: str = ""
    backend: int = 0
    failure: dict[str, Any] | None = None
    done: bool = False
    since: int = field(default_factory=lambda: int(time.time()))

    def migrator(self) -> Migrator:
        """As waiters see it."""
        return Migrator(socket.gethostname(), self.step, self.total, self.revision, self.since)


def migrate(plan: Plan, looker: Looker, wanted: Callable[[Drift], bool]) -> Seen:
    """Upgrade under the lock if that is still wanted, and give what the last look saw.

    Raises `LockBusy` if another migrator is at work, `MigrationFailed` with the revision that failed and what was
    committed, `BadSettings` if env.py connects elsewhere, `DatabaseUnavailable`.
    """
    with _lock(plan, looker) as lock:
        before = looker.look()
        if not wanted(before.drift):
            return before
        for pid in end_predecessors(lock.database, lock.key) if lock.pid else []:
            log.emit(
                "warning",
                "gate.predecessor_ended",
                f"A killed migrator's statement still ran in backend {pid}; gate ended it.",
            )
        log.emit(
            "info",
            "gate.migrating",
            f"gate {'holds the migration lock' if lock.pid else 'migrates without a lock'} and applies"
            f" {len(before.drift.pending)} revision(s).",
            drift=str(before.drift),
            pending=list(before.drift.pending[:10]),
            database=before.stamp.database,
        )
        progress = Progress(total=len(before.drift.pending))
        lock.tell(progress.migrator())
        try:
            _supervise(plan, lock, progress, before.drift)
        except MigrationFailed as error:
            raise MigrationFailed(f"{error} {_committed(looker, before.drift)}") from None
        except Interrupted:
            log.emit(
                "warning",
                "gate.migration_interrupted",
                f"The upgrade was cancelled{_at(progress)}. {_committed(looker, before.drift)}",
            )
            raise
        return _verified(looker, before, progress)


@contextmanager
def _lock(plan: Plan, looker: Looker) -> Iterator[Lock]:
    if not plan.locking:
        yield Lock(looker.table.key, looker.database)
        return
    with hold(looker.database, looker.table.key) as lock:
        yield lock


def _supervise(plan: Plan, lock: Lock, progress: Progress, before: Drift) -> None:
    reading, writing = os.pipe()
    child = subprocess.Popen(
        list(plan.command) or _own_command(plan, lock, writing),
        stdin=subprocess.DEVNULL,
        env=environment_for(lock.database, dedicated=plan.dedicated),
        pass_fds=() if plan.command else (writing,),
        start_new_session=True,
    )
    os.close(writing)
    try:
        _watch(plan, lock, child, progress, before, reading)
    except BaseException:
        _stop(child, lock, progress)
        raise
    finally:
        os.close(reading)


def _own_command(plan: Plan, lock: Lock, writing: int) -> list[str]:
    c = plan.configuration
    job = Job(os.getpid(), c.ini, c.toml, c.section, list(plan.x), lock.key.number, lock.pid, lock.key.working_name)
    return [sys.executable, "-P", "-m", "gate.upgrade", str(writing), job.to_json()]


def _watch(
    plan: Plan, lock: Lock, child: subprocess.Popen[bytes], progress: Progress, before: Drift, reading: int
) -> None:
    began = kept = time.monotonic()
    lines = _Lines(reading)
    while True:
        reports = list(lines.within(TICK))
        for report in reports:
            _take(report, progress, lock, before)
        now = time.monotonic()
        if child.poll() is not None and not reports:  # not at the pipe's end: a migration may have forked
            return _judge(plan, child.returncode, progress)
        if plan.timeout and now - began > plan.timeout:
            raise MigrationFailed(
                f"The upgrade took longer than {plan.timeout:g} s (GATE_MIGRATION_TIMEOUT){_at(progress)}; "
                "it was cancelled."
            )
        if now - kept > KEEP_EVERY:
            kept = now
            _keep(lock, progress)


def _keep(lock: Lock, progress: Progress) -> None:
    try:
        lock.keep()
    except LockLost as error:
        raise MigrationFailed(
            f"{error}. gate stopped the upgrade{_at(progress)}, so that no second migrator works beside it."
        ) from None


def _take(report: dict[str, Any], progress: Progress, lock: Lock, before: Drift) -> None:
    match report.pop("what"):
        case "connected":
            progress.backend = report["pid"]
        case "plan":
            progress.total = report["total"]
        case "started":
            progress.step, progress.revision = report["step"], report["revision"]
            with suppress(LockLost):  # `_keep` tells
                lock.tell(progress.migrator())
            _tell_step("gate.revision_started", "Applying", report, progress, before)
        case "applied":
            _tell_step("gate.revision_applied", "Applied", report, progress, before)
        case "failed":
            progress.failure = report
        case "done":
            progress.done = True


def _tell_step(event: str, verb: str, report: dict[str, Any], progress: Progress, before: Drift) -> None:
    message = before.messages.get(report["revision"], "")
    count = f"{report['step']}/{progress.total}"
    log.emit(
        "info",
        event,
        f"{verb} {count} {report['revision']} {message}".rstrip() + ".",
        progress=count,
        revision=report["revision"],
        revision_message=message,
        seconds=report.get("seconds"),
    )


def _judge(plan: Plan, code: int, progress: Progress) -> None:
    """Believe neither an exit code nor a report: this only finds failures, the next look finds success."""
    failure = progress.failure
    if failure and failure["kind"] == "database":
        raise BadSettings(f"{failure['message'].removeprefix('WrongDatabase: ')} Nothing was applied.")
    if failure:
        where = f" ({failure['where']})" if failure["where"] else ""
        raise MigrationFailed(f"The upgrade failed{_at(progress)}: {failure['message']}{where}.{_cure(failure)}")
    name = f"`{' '.join(plan.command)}`" if plan.command else "The upgrading process"
    if code < 0:
        raise MigrationFailed(f"{name} was killed by {signal.Signals(-code).name}{_at(progress)}.")
    if code or not (progress.done or plan.command):
        raise MigrationFailed(f"{name} ended with exit code {code}{_at(progress)}.")


def _cure(failure: dict[str, Any]) -> str:
    if failure["sqlstate"] in {"42P07", "42701", "42710"}:
        return (
            " What it creates exists already: if create_all or another tool made it, tell Alembic with "
            "`alembic stamp REVISION`; if a killed migration left it half done, mend that by hand first."
        )
    return ""


def _at(progress: Progress) -> str:
    return f" in revision {progress.revision} ({progress.step}/{progress.total})" if progress.revision else ""


def _verified(looker: Looker, before: Seen, progress: Progress) -> Seen:
    after = looker.look()
    if after.drift.verdict is not Verdict.CURRENT:
        raise MigrationFailed(
            f"The upgrade ended without an error, but the database is {after.drift.verdict} ({after.drift}). "
            "Does env.py commit, and does it use the version table and the database that gate looks at?"
        )
    count = len(before.drift.pending)
    log.emit(
        "info",
        "gate.migrated",
        f"The schema is current: {count} revision(s) applied.",
        drift=str(after.drift),
        seconds=round(time.time() - progress.since, 1),
    )
    return after


def _committed(looker: Looker, before: Drift) -> str:
    """What of the pending revisions is in the database after a failure, as a sentence."""
    try:
        after = looker.look().drift
    except (GateError, OSError):
        return "Whether anything was committed cannot be seen now."
    left = set(after.pending)
    done = [id_ for id_ in before.pending if id_ not in left]
    left_over = ", ".join(after.pending[:SHOWN])
    return f"Committed before it: {', '.join(done) or 'nothing'}; still pending: {left_over or 'nothing'}."


def _stop(child: subprocess.Popen[bytes], lock: Lock, progress: Progress) -> None:
    """Cancel in the server, give the child a moment to roll back, then kill; a second signal kills at once."""
    try:
        if progress.backend:
            cancel(lock.database, progress.backend)
        else:
            _signal_group(child, signal.SIGTERM)
        child.wait(OBEY_WITHIN)
    except subprocess.TimeoutExpired:
        if progress.backend:
            terminate(lock.database, progress.backend)
    finally:
        _signal_group(child, signal.SIGKILL)
        child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


class _Lines:
    """The child's reports as they come, from a pipe that ends with the child."""

    def __init__(self, descriptor: int) -> None:
        self.ended = False
        self._rest = b""
        self._descriptor = descriptor
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)

    def within(self, seconds: float) -> Iterator[dict[str, Any]]:
        if self.ended:
            time.sleep(seconds)
            return
        if not self._selector.select(seconds):
            return
        chunk = os.read(self._descriptor, 65536)
        self.ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        yield from map(json.loads, lines)
