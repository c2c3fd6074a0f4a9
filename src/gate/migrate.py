"""Migrating: look again under the lock, upgrade in a child, look a third time. Only CURRENT counts."""

from __future__ import annotations

import time
from collections.abc import Callable

from gate import log, predecessor
from gate.drift import Drift, Verdict
from gate.engines import hold, without
from gate.errand import within
from gate.errors import DatabaseUnavailable, GateError, Interrupted, LockLost, MigrationFailed
from gate.explanation import SHOWN, count, redundant
from gate.foreign import few, listed
from gate.lock import Lock
from gate.look import Looker, Seen
from gate.oversight import upgrade
from gate.plan import Plan
from gate.progress import STAMP, Progress

MOST_NAMED = 20
"""How many committed revisions a line names."""

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
        before = looker.look()
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
            f"{error} {_committed(looker, progress, ASKED_WITHIN)}{_stays(lock, progress)}{_cure(error, progress)}",
            progress.revision,
        ) from None
    except Interrupted:
        committed = _committed(looker, progress, TOLD_WITHIN)
        text = f"The upgrade was cancelled{progress.at()}. {committed}{_stays(lock, progress)}"
        log.emit("warning", "gate.migration_interrupted", text, revision=progress.revision or None)
        raise


def _verified(looker: Looker, progress: Progress, lock: Lock) -> Seen:
    after = looker.look()
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


def _committed(looker: Looker, progress: Progress, within: float) -> str:
    try:
        after = looker.look(limit=within).drift
    except GateError:
        return "Whether anything was committed cannot be seen now."
    pending = set(after.pending)
    done = [id_ for id_ in progress.planned.pending if id_ not in pending]
    undone = " What was applied before it was rolled back with it." if progress.step > 1 and not done else ""
    if len(done) > MOST_NAMED:
        done = [f"{len(done)} revisions, the last {done[-1]}"]
    left = ", ".join(after.pending[:SHOWN])
    fits = " The schema is current all the same." if after.verdict is Verdict.CURRENT else ""
    return f"Committed before it: {', '.join(done) or 'nothing'}; still pending: {left or 'nothing'}.{undone}{fits}"


def _cure(error: MigrationFailed, progress: Progress) -> str:
    told = ""
    if progress.planned.verdict is Verdict.UNSTAMPED and STAMP not in str(error):
        told = (
            " There were tables but no version table before it: if create_all or another tool made what it creates, "
            f"undo nothing and tell Alembic with {STAMP}."
        )
    if progress.planned.redundant:
        told = f" {redundant(progress.planned)}"
    return f"{told} Mend that, then migrate again."


def _stays(lock: Lock, progress: Progress) -> str:
    if progress.committed_a_part:
        return (
            f" Revision {progress.revision} commits by itself (autocommit_block, say): what it did before it failed "
            "may stay, so undo that by hand before the next try."
        )
    if lock.transactional or progress.planned.verdict is Verdict.UNSTAMPED:
        return ""
    return (
        " This engine commits each DDL statement by itself: what the failed revision did before it failed stays, so "
        "undo that by hand before the next try."
    )
