"""The upgrade process, or another one below a supervisor: start it, read its reports, signal and kill it."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from gate import log
from gate.database.location import Database
from gate.database.lock import Lock
from gate.errors import starting_process
from gate.migration.child.statement_clock import StatementClock
from gate.migration.plan import Plan
from gate.migration.upgrade_request import TENANT_VARIABLE, UpgradeRequest

KILL_TIMEOUT = 0.3
"""Seconds for the supervisor to kill its descendants before it is killed itself."""

READ_SIZE = 65536
"""Bytes of reports to read at once."""

ALEMBIC_UPGRADE = (sys.executable, "-P", "-m", "gate.migration.child.upgrade")
"""The command of gate's own upgrade; its arguments follow."""


class Process(Protocol):
    """A supervisor: a `subprocess.Popen`, or forked from a template."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises `subprocess.TimeoutExpired` after `timeout` seconds."""


@contextmanager
def start_upgrade(plan: Plan, lock: Lock, schema: str) -> Iterator[SupervisedProcess]:
    """Start the upgrade below a supervisor. `schema`: as in `UpgradeRequest`."""
    environment = migration_environment(lock.database, dedicated=plan.dedicated) | _variables(plan, lock)
    clock = StatementClock.create()
    request = _upgrade_request(plan, lock, schema, clock)
    inherited = (*clock.descriptors, *lock.descriptors)

    def start(lifeline_end: int, reports_end: int) -> Process:
        descriptors = (lifeline_end, reports_end, *inherited)
        if plan.template and not plan.command and (forked := plan.template.fork(request, environment, descriptors)):
            return forked
        alembic = (*ALEMBIC_UPGRADE, str(reports_end), request.to_json())
        return _start(plan.command or alembic, environment, descriptors)

    try:
        with _supervised(start, "the upgrade process") as process:
            process.clock = clock
            yield process
    finally:
        clock.close_descriptor()


@contextmanager
def start_supervised(
    command: Callable[[int], Sequence[str]],
    name: str,
    environment: Mapping[str, str],
    *,
    descriptors: Collection[int] = (),
    stdout: int | None = None,
) -> Iterator[SupervisedProcess]:
    """Start a command below a supervisor that leaves none of its processes behind.

    `command` receives the descriptor to report to; `name` is for messages; `descriptors` are inherited, and `stdout`
    takes the place of standard output. The supervisor exits when the last descriptor of the lifeline is closed: by
    `SupervisedProcess.kill`, at the end of the block, or by the kernel when gate dies.
    """

    def start(lifeline_end: int, reports_end: int) -> Process:
        return _start(command(reports_end), environment, (lifeline_end, reports_end, *descriptors), stdout)

    with _supervised(start, name) as process:
        yield process


@contextmanager
def _supervised(start: Callable[[int, int], Process], name: str) -> Iterator[SupervisedProcess]:
    """Start a supervisor. `start` receives the ends of the lifeline and of the reports that are the supervisor's."""
    with starting_process(name):
        lifeline_end, lifeline = os.pipe()
        reports, reports_end = os.pipe()
    with open(lifeline, "wb") as lifeline_pipe, open(reports, "rb") as report_pipe:
        try:
            with starting_process(name):
                process = start(lifeline_end, reports_end)
        finally:
            os.close(lifeline_end)
            os.close(reports_end)
        yield SupervisedProcess(process, lifeline_pipe, report_pipe)


def _start(
    command: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int], stdout: int | None = None
) -> Process:
    """Execute a supervisor. `descriptors`: of the lifeline and the reports, and what the command inherits besides."""
    lifeline_end, reports_end = map(str, descriptors[:2])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "gate.migration.child.supervisor", lifeline_end, reports_end, *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )


def _upgrade_request(plan: Plan, lock: Lock, schema: str, clock: StatementClock) -> UpgradeRequest:
    c = plan.configuration
    return UpgradeRequest(
        c.ini, c.toml, c.section, list(plan.x), lock.fence, lock.tag, plan.version_table, schema,
        list(clock.descriptors), plan.table_lock_timeout, list(plan.targets),
        schema_argument=plan.schema_argument if plan.tenant else "",
        report_imports=bool(plan.template and not plan.template.modules), dry_run=plan.dry_run,
    )  # fmt: skip


def migration_environment(database: Database, *, dedicated: bool) -> dict[str, str]:
    """The environment of gate, with the migration's URL verbatim as DATABASE_URL, even if it came from a file.

    DATABASE_URL_FILE names another URL if MIGRATION_DATABASE_URL is set (`dedicated`), so it is removed then. libpq
    waits for each host without a limit, unless the URL, a service or PGCONNECT_TIMEOUT sets one (hazards.md 21).
    """
    environment = {"PGCONNECT_TIMEOUT": str(math.ceil(database.connect_timeout)), **os.environ}
    if database.source is not None:
        environment["DATABASE_URL"] = database.url().verbatim
        if dedicated:
            environment.pop("DATABASE_URL_FILE", None)
    return environment


def _variables(plan: Plan, lock: Lock) -> dict[str, str]:
    """The variables of one upgrade: its schema, and its tag."""
    return {**_tag_variables(plan, lock), **({TENANT_VARIABLE: plan.tenant} if plan.tenant else {})}


def _tag_variables(plan: Plan, lock: Lock) -> dict[str, str]:
    """Variables by which libpq tags its connections, so that the next migrator finds what a killed one left."""
    if not plan.command:
        return {"PGAPPNAME": lock.environment["PGAPPNAME"]} if lock.environment else {}
    if not plan.tenant:
        log_upgrade_command(plan)
    variables = {"PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED") or "1", **lock.environment}
    if os.environ.get("PGOPTIONS") and "PGOPTIONS" in variables:
        variables["PGOPTIONS"] = f"{os.environ['PGOPTIONS']} {variables['PGOPTIONS']}"
    return variables


def log_upgrade_command(plan: Plan) -> None:
    """Say what gate does not see of a migration by GATE_UPGRADE_COMMAND."""
    log.emit(
        "info",
        "gate.upgrade_command",
        "GATE_UPGRADE_COMMAND runs the upgrade. gate cannot verify that it connects to the locked database, and does "
        "not see its revisions. If it connects through a pooler, or its driver ignores PGAPPNAME (asyncpg), gate "
        "cannot find the sessions that a killed upgrade leaves."
        + (" GATE_TABLE_LOCK_TIMEOUT has no effect on it." if plan.table_lock_timeout else ""),
    )


@dataclass(slots=True)
class SupervisedProcess:
    """A supervisor; a process group of its own with the command that it runs.

    `lifeline`: the pipe's end that only gate holds; `report_pipe`: the pipe for the reports; `clock`: when an upgrade
    sent the statement for whose answer it waits.
    """

    process: Process
    lifeline: BinaryIO
    report_pipe: BinaryIO
    clock: StatementClock = field(default_factory=StatementClock, init=False)
    _reports_closed: bool = field(default=False, init=False)
    _partial_line: bytes = field(default=b"", init=False)

    @property
    def has_exited(self) -> bool:
        """Whether the supervisor has exited; a process forked by a migration may keep the report pipe open."""
        return self.process.poll() is not None

    @property
    def returncode(self) -> int:
        """The exit code of the exited supervisor, negative for a signal."""
        assert self.process.returncode is not None
        return self.process.returncode

    def reports(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Read the reports that arrive within `timeout` seconds; return once some have arrived."""
        if self._reports_closed:
            self.wait(timeout)
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.report_pipe, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        chunk = os.read(self.report_pipe.fileno(), READ_SIZE)
        self._reports_closed = not chunk
        *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # a migration can write to any descriptor that it inherits
                if isinstance(report := json.loads(line), dict) and "type" in report:
                    yield report

    def receive(self, timeout: float) -> tuple[list[dict[str, Any]], bool]:
        """Return the reports that arrive within `timeout` seconds, and whether they and the process have ended.

        The process is polled before its reports are read, since what an exited process wrote is complete.
        """
        exited = self.has_exited
        reports = list(self.reports(timeout=0 if exited else timeout))
        return reports, exited and not reports

    def wait(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the supervisor to exit."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process group: the supervisor, the upgrade and what the upgrade has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill the upgrade with all its descendants.

        Closing the lifeline lets the supervisor also kill descendants that left the process group with setsid().
        """
        self.lifeline.close()
        self.wait(KILL_TIMEOUT)
        self.send_signal(signal.SIGKILL)
        self.process.wait()
