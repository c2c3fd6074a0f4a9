"""Migrate many schemas, several at a time, each under its own lock and in its own process.

gate asks for them in threads, and each upgrade is forked from a template (`gate.migration.template`). What another
machine migrates is passed over: the locks distribute the work.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from gate import log
from gate.database.postgresql.connection import ReusedConnections
from gate.database.postgresql.engine import PostgresEngine
from gate.database.postgresql.lock import CONNECTIONS
from gate.drift.comparison import Drift
from gate.drift.inspector import Inspection, Inspector
from gate.drift.schemas import SchemasInspector, with_drifts
from gate.errors import DatabaseUnavailable, GateError, LockBusy, MigrationFailed
from gate.migration.migrate import migrate, warn_of_invalid_indexes
from gate.migration.plan import Plan
from gate.migration.process import log_upgrade_command, migration_environment
from gate.migration.progress import Progress
from gate.process.threads import BackgroundCall
from gate.tenants.progress_bar import ProgressBar
from gate.tenants.schema_inspector import SchemaDropped, SchemaInspector, SchemasProgress
from gate.tenants.summary import Summary
from gate.tenants.templates import Templates
from gate.text import short_name

POLL_INTERVAL = 0.1
"""Seconds to wait for the end of an upgrade before anything else is attended to."""

MIN_REFRESH_INTERVAL = 5.0
"""Seconds between two inspections of all schemas while another machine migrates them, too."""

REFRESH_SHARE = 10
"""This many times as long as such an inspection took, at least, so that it takes no more than a tenth of the time."""

CANCEL_TIMEOUT = 2.0
"""Seconds for the upgrades to be cancelled after a signal."""

Upgrades = Callable[[Drift], bool]


def migrate_schemas(plan: Plan, inspector: Inspector, inspection: Inspection, should_upgrade: Upgrades) -> Inspection:
    """Migrate all schemas that need it and whose lock nobody else holds; return the inspection that finds none left.

    `inspection`: of all schemas, just made. Raises `LockBusy` if schemas are left, which another gate migrates or which
    have come meanwhile; `MigrationFailed` if any has failed, else the gravest of their errors; `Interrupted` for a
    signal. What the code needs is searched for in what was migrated, too.
    """
    assert isinstance(inspector, SchemasInspector)
    call = _Call(plan, inspector, inspection, should_upgrade)
    try:
        return call.run()
    finally:
        call.close()


@dataclass(slots=True)
class _Running:
    """One schema that is being migrated.

    `engine`: the one of its job; `progress`: of its upgrade, None before it begins.
    """

    name: str
    engine: PostgresEngine
    began: float = field(default_factory=time.monotonic)
    progress: Progress | None = None

    def record(self, progress: Progress) -> None:
        self.progress = progress


class _Call:
    """One call of `migrate_schemas`. All but `_migrate_one` runs in the main thread."""

    def __init__(
        self, plan: Plan, inspector: SchemasInspector, inspection: Inspection, should_upgrade: Upgrades
    ) -> None:
        self._plan, self._inspector, self._should_upgrade = plan, inspector, should_upgrade
        self._began = time.monotonic()
        self._existing: dict[str, bool] = {}
        self._queue: list[str] = []
        self._running: dict[Future[Inspection], _Running] = {}
        self._summary = Summary(0)
        self._take(inspection)
        self._summary.total = len(self._queue) + len(self._summary.busy)
        self._idle: list[PostgresEngine] = []
        self._is_shared = bool(self._summary.busy)
        self._next_refresh = 0.0
        self._is_stopped = False
        self._incomplete: dict[str, Drift] = {}
        self._progress = SchemasProgress(inspection.drift, self._summary.total)
        self._bar = ProgressBar(self._summary.total)
        self._templates = Templates(plan, migration_environment(inspector.database, dedicated=plan.dedicated))

    def run(self) -> Inspection:
        if self._plan.command and self._queue:
            log_upgrade_command(self._plan)
        if self._plan.first in self._summary.busy:
            raise LockBusy
        try:
            self._templates.start(len(self._queue))
            self._run_first()
            self._run_queue()
        except BaseException:
            self._end_running()
            raise
        finally:
            self._log_summary()
        sessions = self._inspector.engine.sessions(self._inspector.table.key)
        warn_of_invalid_indexes(sessions.invalid_indexes_not_being_built)
        return self._result()

    def close(self) -> None:
        self._bar.close()
        self._templates.close()
        for engine in self._idle:
            engine.close()

    def _take(self, inspection: Inspection) -> None:
        """Put the schemas that need an upgrade into the queue, and those whose lock is held aside."""
        done = {*self._summary.migrated, *self._summary.failures, *(each.name for each in self._running.values())}
        left = [s for s in inspection.schemas or () if self._should_upgrade(s.drift) and s.name not in done]
        locked = {state.name for state in left if state.migrator and self._plan.locking}
        self._existing = {state.name: state.exists for state in left}
        self._queue = [state.name for state in left if state.name not in locked]
        self._summary.busy = locked

    def _run_first(self) -> None:
        """Migrate `plan.first` alone; raise `LockBusy` if another gate does."""
        first = self._plan.first
        if first not in self._queue:
            return
        others = [name for name in self._queue if name != first]
        self._queue, self._next_refresh = [first], math.inf
        self._run_queue()
        self._queue, self._next_refresh = others, 0.0
        if first in self._summary.busy:
            raise LockBusy
        self._is_stopped = bool(self._summary.failures)

    def _run_queue(self) -> None:
        while True:
            limit = self._templates.limit(self._plan.jobs)
            while self._queue and len(self._running) < limit and not self._is_stopped:
                self._start(self._queue.pop(0))
            if self._running:
                done, _ = wait(self._running, POLL_INTERVAL, FIRST_COMPLETED)
            elif self._queue and not self._is_stopped:
                self._templates.wait(POLL_INTERVAL)
                continue
            else:
                return
            for running in self._running.values():
                self._templates.learn(running.progress, running.name)
            for call in done:
                self._receive(call, self._running.pop(call))
            self._show()
            self._refresh()

    def _start(self, name: str) -> None:
        running = _Running(name, self._idle.pop() if self._idle else self._new_engine())
        plan = self._plan.for_schema(name, running.record)._replace(
            template=self._templates.current(),
            # That env.py upgrades one version table only is known then; which one, the fence still verifies.
            dry_run=not self._summary.migrated,
        )
        inspector = SchemaInspector(self._inspector.of(name), running.engine, exists=self._existing[name])
        self._running[BackgroundCall(lambda: _migrate_one(plan, inspector, self._should_upgrade))] = running

    def _new_engine(self) -> PostgresEngine:
        """Return an engine for one more job."""
        needed = CONNECTIONS * min(self._plan.jobs, self._summary.total) + 1
        return PostgresEngine(self._inspector.database, ReusedConnections(self._inspector.database, needed))

    def _receive(self, call: Future[Inspection], running: _Running) -> None:
        """Record the end of one schema."""
        name, progress = running.name, running.progress
        self._idle.append(running.engine)
        self._templates.learn(progress, name, has_ended=True)
        try:
            after = call.result()
        except LockBusy:
            self._is_shared = True
            self._summary.busy.add(name)
        except SchemaDropped:
            self._summary.dropped.append(name)
            log.emit("info", "gate.schema_dropped", f"Schema {short_name(name)} was dropped meanwhile.", schema=name)
        except GateError as error:
            self._record_failure(name, error)
        else:
            if after.drift.missing:
                self._incomplete[name] = after.drift
            if progress is None:
                self._is_shared = True
                self._summary.by_others.append(name)
            else:
                self._record_migrated(running, progress)

    def _record_failure(self, name: str, error: GateError) -> None:
        self._summary.failures[name] = error
        self._is_stopped |= not self._plan.keep_going or isinstance(error, DatabaseUnavailable)
        text = f"Schema {short_name(name)} failed: {' '.join(str(error).splitlines())}"
        log.emit("error", "gate.schema_failed", text, schema=name, kind=type(error).__name__)

    def _record_migrated(self, running: _Running, progress: Progress) -> None:
        self._summary.migrated.append(running.name)
        seconds, count = time.monotonic() - running.began, f"{self._summary.done}/{self._summary.total}"
        applied = "" if self._plan.command else f": {progress.applied} revision(s) applied"
        text = f"Schema {short_name(running.name)} migrated ({count}){applied} in {seconds:.1f} s."
        log.emit("info", "gate.schema_migrated", text, schema=running.name, progress=count, seconds=round(seconds, 2))

    def _show(self) -> None:
        running = next(iter(self._running.values()), None)
        self._bar.show(self._summary.done, running.name if running else "")
        self._progress.step = self._summary.done
        self._plan.on_progress(self._progress)

    def _refresh(self) -> None:
        """While another machine migrates schemas, too, see now and then which are left, and use another order."""
        if not self._is_shared or time.monotonic() < self._next_refresh:
            return
        began = time.monotonic()
        with suppress(DatabaseUnavailable):
            self._take(self._inspector.inspect())
            random.shuffle(self._queue)
            known = self._summary.done + len(self._running) + len(self._queue) + len(self._summary.busy)
            self._summary.total = max(self._summary.total, known)
        took = time.monotonic() - began
        self._next_refresh = time.monotonic() + max(MIN_REFRESH_INTERVAL, REFRESH_SHARE * took)

    def _end_running(self) -> None:
        """Wait for the upgrades, which cancel themselves after a signal."""
        wait(self._running, CANCEL_TIMEOUT)

    def _log_summary(self) -> None:
        self._bar.close()
        summary = self._summary
        if not (summary.done or summary.failures):
            return
        summary.not_begun = len(self._queue) if self._is_stopped else 0
        log.emit(
            "warning" if summary.failures else "info",
            "gate.schemas_migrated",
            summary.text(time.monotonic() - self._began),
            schemas=summary.total,
            migrated=len(summary.migrated),
            failed=len(summary.failures),
            seconds=round(time.monotonic() - self._began, 1),
        )

    def _result(self) -> Inspection:
        """Inspect all again: return that, or raise what is wrong or left."""
        if error := self._summary.error(keep_going=self._plan.keep_going):
            raise error
        inspection = self._inspector.inspect()
        if any(self._should_upgrade(state.drift) for state in inspection.schemas or ()):
            raise LockBusy
        return with_drifts(inspection, self._incomplete)


def _migrate_one(plan: Plan, inspector: SchemaInspector, should_upgrade: Upgrades) -> Inspection:
    """Migrate one schema, in a thread."""
    with log.about_schema(plan.tenant):
        try:
            return migrate(plan, inspector, should_upgrade)
        except MigrationFailed as error:
            raise inspector.explain(error) from None
