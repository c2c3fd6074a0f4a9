"""The upgrading child: how it is started, heard and ended."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from gate import log
from gate.database.location import Database
from gate.database.lock import Lock
from gate.migration.plan import Plan, UpgradeRequest


def migration_environment(database: Database, *, dedicated: bool) -> dict[str, str]:
    """The environment of a migration: the URL verbatim as DATABASE_URL, also when it came from a file.

    `dedicated`: it is MIGRATION_DATABASE_URL's, so nothing may lead the migration to the other one.
    """
    environment = dict(os.environ)
    if database.source is not None:
        environment["DATABASE_URL"] = database.url().verbatim
        for name in ("DATABASE_URL_FILE",) if dedicated else ():
            environment.pop(name, None)
    return environment


KILL_TIMEOUT = 0.3
"""Seconds that the supervisor has to kill all below it before it is killed itself."""

READ_SIZE = 65536


@dataclass(slots=True)
class UpgradeProcess:
    """The supervisor of an upgrade. `life`: what nobody but gate holds, and what ends with gate."""

    process: subprocess.Popen[bytes]
    life: BinaryIO
    reports: BinaryIO
    _silent: bool = field(default=False, init=False)
    _rest: bytes = field(default=b"", init=False)

    @property
    def ended(self) -> bool:
        """Whether it is gone. Its reports' end would not tell: a migration may have forked."""
        return self.process.poll() is not None

    def told(self, within: float) -> Iterator[dict[str, Any]]:
        """What it reports within so many seconds."""
        if self._silent:
            time.sleep(within)
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.reports, selectors.EVENT_READ)
            if not selector.select(within):
                return
        chunk = os.read(self.reports.fileno(), READ_SIZE)
        self._silent = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # a migration may write what it likes wherever it likes
                if isinstance(report := json.loads(line), dict):
                    yield report

    def wait(self, within: float) -> None:
        """Give it so many seconds to end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(within)

    def signal(self, number: signal.Signals) -> None:
        """Signal the upgrade and what it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End its life: then the supervisor kills what setsid() took out of its process group, too."""
        self.life.close()
        self.wait(KILL_TIMEOUT)
        self.signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def start_upgrade(plan: Plan, lock: Lock) -> Iterator[UpgradeProcess]:
    """Start an upgrade; nothing of it outlives the block."""
    living, life = os.pipe()
    reports, reporting = os.pipe()
    supervisor = [sys.executable, "-P", "-m", "gate.migration.child.supervisor", str(living), str(reporting)]
    with open(life, "wb") as alive, open(reports, "rb") as heard:
        try:
            process = subprocess.Popen(
                [*supervisor, *(plan.command or _own_command(plan, lock, reporting))],
                stdin=subprocess.DEVNULL,
                env=migration_environment(lock.database, dedicated=plan.dedicated) | _client_environment(plan, lock),
                pass_fds=(living, reporting, *lock.descriptors),
                start_new_session=True,
            )
        finally:
            os.close(living)
            os.close(reporting)
        yield UpgradeProcess(process, alive, heard)


def _own_command(plan: Plan, lock: Lock, reporting: int) -> list[str]:
    c = plan.configuration
    job = UpgradeRequest(c.ini, c.toml, c.section, list(plan.x), lock.fence, lock.tag, plan.table)
    return [sys.executable, "-P", "-m", "gate.migration.child.upgrade", str(reporting), job.to_json()]


def _client_environment(plan: Plan, lock: Lock) -> dict[str, str]:
    """What the environment can carry to whatever else connects: the mark by which a next migrator finds its orphan."""
    if not plan.command:
        return {"PGAPPNAME": lock.environment["PGAPPNAME"]} if lock.environment else {}
    log.emit(
        "warning",
        "gate.upgrade_command",
        "GATE_UPGRADE_COMMAND upgrades: gate cannot see whether it works in the locked database, nor its steps; a "
        "driver that ignores PGAPPNAME (asyncpg), or a pooler, hides what a killed upgrade leaves running.",
    )
    given = os.environ
    fences = {"PYTHONUNBUFFERED": given.get("PYTHONUNBUFFERED") or "1", **lock.environment}
    if given.get("PGOPTIONS") and "PGOPTIONS" in fences:
        fences["PGOPTIONS"] = f"{given['PGOPTIONS']} {fences['PGOPTIONS']}"
    return fences
