"""Migrating: look again under the lock, upgrade in a child, look a third time. Only CURRENT counts."""

from __future__ import annotations

import time
from collections.abc import Callable

from gate import log
from gate.database import sessions
from gate.database.engine import acquire_nothing, engine_of
from gate.database.lock import Lock
from gate.database.stamp import VersionTableLocked
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspection, Inspector
from gate.drift.messages import MAX_PENDING_SHOWN, pending_text
from gate.errors import DatabaseUnavailable, Interrupted, LockLost, MigrationFailed
from gate.migration import failure_report
from gate.migration.monitor import upgrade
from gate.migration.plan import Plan
from gate.migration.progress import Progress
from gate.process.threads import try_for
from gate.text import first_ids, join_ids

SERVER_QUERY_TIMEOUT = 5.0
"""Seconds for a question that is good to have answered."""

CANCELLED_REPORT_TIMEOUT = 0.5
"""Seconds for the look that tells how far a cancelled upgrade got; gate promises to end within two."""


def migrate(plan: Plan, inspector: Inspector, wanted: Callable[[Drift], bool]) -> Inspection:
    """Upgrade under the lock if that is still wanted, and give what the last look saw.

    Raises `LockBusy` if another migrator is at work, `MigrationFailed` with the revision that failed and what was
    committed, `BadSettings` if env.py connects elsewhere or this engine cannot be locked, `DatabaseUnavailable`.
    """
    database, key = inspector.database, inspector.table.key
    with engine_of(database).acquire(key) if plan.locking else acquire_nothing(database, key) as lock:
        _clean_up_orphans(lock)
        before = _inspect(inspector)
        if not wanted(before.drift):
            return before
        log.emit(
            "info",
            "gate.migrating",
            f"gate {lock.description} and applies {pending_text(before.drift)}.",
            drift=str(before.drift),
            pending=len(before.drift.pending),
            next_revisions=first_ids(before.drift.pending[:MAX_PENDING_SHOWN]),
            database=before.stamp.database,
        )
        progress = Progress(before.drift, len(before.drift.pending))
        try:
            lock.publish_progress(progress.migrator())
        except LockLost as error:
            raise DatabaseUnavailable(f"{error}. Nothing was migrated; gate tries again.") from None
        plan.on_progress(progress)
        _run_upgrade(plan, lock, progress, inspector)
        return _verify(inspector, progress, lock)


def _inspect(inspector: Inspector) -> Inspection:
    """Under the lock the migrator that a look sees is this gate itself, and no reason to wait."""
    try:
        return inspector.inspect()
    except VersionTableLocked as error:
        raise DatabaseUnavailable(
            "The version table cannot be read, for something else than a migration holds it locked "
            f"({error.reason}); pg_locks tells what."
        ) from None


def _clean_up_orphans(lock: Lock) -> None:
    """End what a killed predecessor left running before looking, so that the look sees what it committed."""
    for pid in sessions.terminate_orphans(lock.sessions) if lock.fence else []:
        text = f"A killed migrator's statement still ran in backend {pid}; gate ended it."
        log.emit("warning", "gate.orphan_terminated", text, backend=pid)
    _warn_of_invalid_indexes(lock)


def _warn_of_invalid_indexes(lock: Lock) -> None:
    """A server that cannot be asked now must not hide what else is to be told."""
    found = try_for(SERVER_QUERY_TIMEOUT, lock.sessions.invalid_indexes)
    if found:
        log.emit(
            "warning",
            "gate.invalid_indexes",
            f"INVALID indexes, as a killed CREATE INDEX CONCURRENTLY leaves them: {join_ids(found)}. They "
            "serve no query, and IF NOT EXISTS takes them for done: drop and create them again, or REINDEX.",
            indexes=first_ids(found),
        )


def _run_upgrade(plan: Plan, lock: Lock, progress: Progress, inspector: Inspector) -> None:
    try:
        upgrade(plan, lock, progress)
    except MigrationFailed as error:
        _warn_of_invalid_indexes(lock)
        remaining = failure_report.remaining_changes(inspector, progress, lock, SERVER_QUERY_TIMEOUT)
        text = f"{error} {remaining}{failure_report.remedy(error, progress)}"
        raise MigrationFailed(text, progress.revision) from None
    except Interrupted:
        left = failure_report.remaining_changes(inspector, progress, lock, CANCELLED_REPORT_TIMEOUT)
        text = f"The upgrade was cancelled{progress.at()}. {left}"
        log.emit("warning", "gate.migration_interrupted", text, revision=progress.revision or None)
        raise


def _verify(inspector: Inspector, progress: Progress, lock: Lock) -> Inspection:
    after = _inspect(inspector)
    if after.drift.verdict is not Verdict.CURRENT:
        raise MigrationFailed(
            f"The upgrade ended without an error, but the database is {after.drift.verdict} ({after.drift}): gate "
            f"looked for {inspector.table.table} in schema {after.stamp.schema} of database {after.stamp.database}. "
            "Does env.py commit, and keep its stamp there? If it keeps it elsewhere, set GATE_VERSION_TABLE and "
            "GATE_VERSION_TABLE_SCHEMA."
        )
    _warn_of_invalid_indexes(lock)
    log.emit(
        "info",
        "gate.migrated",
        f"The schema is current: {len(progress.planned.pending)} revision(s) applied.",
        drift=str(after.drift),
        seconds=round(time.time() - progress.since, 1),
    )
    return after
