"""Migrating: look again under the lock, upgrade in a child, look a third time. Only CURRENT counts."""

from __future__ import annotations

import time
from collections.abc import Callable

from gate import aftermath, log, predecessor
from gate.drift import Drift, Verdict
from gate.engines import hold, without
from gate.errand import within
from gate.errors import DatabaseUnavailable, Interrupted, LockLost, MigrationFailed
from gate.explanation import SHOWN, count
from gate.foreign import few, listed
from gate.lock import Lock
from gate.look import Looker, Seen
from gate.migrator import VersionTableLocked
from gate.oversight import upgrade
from gate.plan import Plan
from gate.progress import Progress

ASKED_WITHIN = 5.0
"""Seconds for a question that is good to have answered."""

TOLD_WITHIN = 0.5
"""Seconds for the look that tells how far a cancelled upgrade got; gate promises to end within two."""


def migrate(plan: Plan, looker: Looker, wanted: Callable[[Drift], bool]) -> Seen:
    """Upgrade under the lock if that is still wanted, and give what the last look saw.

    Raises `LockBusy` if another migrator is at work, `MigrationFailed` with the revision that failed and what was
    committed, `BadSettings` if env.py connects elsewhere or this engine cannot be locked, `DatabaseUnavailable`.
    """
    holding = hold if plan.locking else without
    with holding(looker.database, looker.table.key) as lock:
        _clear_the_field(lock)
        before = _look(looker)
        if not wanted(before.drift):
            return before
        log.emit(
            "info",
            "gate.migrating",
            f"gate {lock.how} and applies {count(before.drift)}.",
            drift=str(before.drift),
            pending=len(before.drift.pending),
            next_revisions=few(before.drift.pending[:SHOWN]),
            database=before.stamp.database,
        )
        progress = Progress(before.drift, len(before.drift.pending))
        try:
            lock.tell(progress.migrator())
        except LockLost as error:
            raise DatabaseUnavailable(f"{error}. Nothing was migrated; gate tries again.") from None
        plan.on_progress(progress)
        _upgraded(plan, lock, progress, looker)
        return _verified(looker, progress, lock)


def _look(looker: Looker) -> Seen:
    """Under the lock the migrator that a look sees is this gate itself, and no reason to wait."""
    try:
        return looker.look()
    except VersionTableLocked as error:
        raise DatabaseUnavailable(
            "The version table cannot be read, for something else than a migration holds it locked "
            f"({error.why}); pg_locks tells what."
        ) from None


def _clear_the_field(lock: Lock) -> None:
    """End what a killed predecessor left running before looking, so that the look sees what it committed."""
    for pid in predecessor.end_predecessors(lock.backends) if lock.fence else []:
        text = f"A killed migrator's statement still ran in backend {pid}; gate ended it."
        log.emit("warning", "gate.predecessor_ended", text, backend=pid)
    _name_invalid_indexes(lock)


def _name_invalid_indexes(lock: Lock) -> None:
    """A server that cannot be asked now must not hide what else is to be told."""
    found = within(ASKED_WITHIN, lock.backends.invalid_indexes)
    if found:
        log.emit(
            "warning",
            "gate.invalid_indexes",
            f"INVALID indexes, as a killed CREATE INDEX CONCURRENTLY leaves them: {listed(found)}. They "
            "serve no query, and IF NOT EXISTS takes them for done: drop and create them again, or REINDEX.",
            indexes=few(found),
        )


def _upgraded(plan: Plan, lock: Lock, progress: Progress, looker: Looker) -> None:
    try:
        upgrade(plan, lock, progress)
    except MigrationFailed as error:
        _name_invalid_indexes(lock)
        raise MigrationFailed(
            f"{error} {aftermath.left_behind(looker, progress, lock, ASKED_WITHIN)}{aftermath.cure(error, progress)}",
            progress.revision,
        ) from None
    except Interrupted:
        left = aftermath.left_behind(looker, progress, lock, TOLD_WITHIN)
        text = f"The upgrade was cancelled{progress.at()}. {left}"
        log.emit("warning", "gate.migration_interrupted", text, revision=progress.revision or None)
        raise


def _verified(looker: Looker, progress: Progress, lock: Lock) -> Seen:
    after = _look(looker)
    if after.drift.verdict is not Verdict.CURRENT:
        raise MigrationFailed(
            f"The upgrade ended without an error, but the database is {after.drift.verdict} ({after.drift}): gate "
            f"looked for {looker.table.table} in schema {after.stamp.schema} of database {after.stamp.database}. Does "
            "env.py commit, and keep its stamp there? If it keeps it elsewhere, tell gate where: GATE_VERSION_TABLE, "
            "GATE_VERSION_TABLE_SCHEMA."
        )
    _name_invalid_indexes(lock)
    log.emit(
        "info",
        "gate.migrated",
        f"The schema is current: {len(progress.planned.pending)} revision(s) applied.",
        drift=str(after.drift),
        seconds=round(time.time() - progress.since, 1),
    )
    return after
