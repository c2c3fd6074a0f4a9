"""Migrate: check again under the lock, upgrade in a child process, and verify the result.

The exit code of the upgrade is not trusted: it has succeeded when a check afterwards finds `CURRENT`, or
`DEFERRED` if revisions may wait until after the deployment.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gate import log
from gate.database import sessions
from gate.database.engine import acquire_nothing
from gate.database.lock import Lock
from gate.database.stamp import VersionTableLocked
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspection, Inspector
from gate.drift.messages import MAX_PENDING_SHOWN, deferred_text, pending_text, stamped_unknown
from gate.errors import DatabaseLost, DatabaseUnavailable, Interrupted, LockLost, MigrationFailed
from gate.migration import failure_report
from gate.migration.plan import Plan
from gate.migration.progress import Progress, shell_hint
from gate.migration.table_locks import upgrade_with_retries
from gate.process.threads import try_for
from gate.text import first_ids, join_ids

SERVER_QUERY_TIMEOUT = 5.0
"""Seconds for a query whose answer only makes a message more helpful."""

CANCELLED_REPORT_TIMEOUT = 0.5
"""Seconds for the check of what a cancelled upgrade has committed; gate exits within two seconds of a signal."""


RETRY = "the next migration continues from there."


def migrate(plan: Plan, inspector: Inspector, should_upgrade: Callable[[Drift], bool]) -> Inspection:
    """Upgrade under the lock and return the inspection that verified the result.

    `should_upgrade` decides again under the lock, since another migrator may have finished meanwhile; if it returns
    false, nothing is upgraded. Raises `LockBusy` if another migrator holds the lock; `MigrationFailed` with the failed
    and the committed revisions; `BadSettings` if env.py connects to another database or the engine has no lock;
    `DatabaseUnavailable` if the database cannot be checked; `DatabaseLost` if it went away in the middle; `Interrupted`
    for a signal.
    """
    database, key = inspector.database, inspector.table.key
    with inspector.engine.acquire(key) if plan.locking else acquire_nothing(database, key) as lock:
        _terminate_orphans(lock)
        if not plan.tenant:  # for many schemas they are searched for at the end, once
            warn_of_invalid_indexes(lock.sessions.invalid_indexes)
        before = _inspect(inspector)
        if not should_upgrade(before.drift):
            return before
        plan = plan.with_target(before.drift)
        planned = plan.planned(before.drift)
        _log_start(lock, before, planned)
        progress = Progress(planned, len(planned.pending))
        try:
            lock.publish_progress(progress.migrator())
        except LockLost as error:
            raise DatabaseUnavailable(f"{error}. Nothing was applied; gate tries again.") from None
        plan.on_progress(progress)
        _upgrade(plan, lock, progress, inspector, before.stamp.schema)
        return _verify(plan, inspector, progress, lock)


def _terminate_orphans(lock: Lock) -> None:
    """Terminate the sessions of a killed migrator before the check, which then finds what they have committed."""
    for pid in sessions.terminate_orphans(lock.sessions) if lock.fence else []:
        text = f"A killed migrator's statement was still running in backend {pid}; gate terminated that backend."
        log.emit("warning", "gate.orphan_terminated", text, backend=pid)


def warn_of_invalid_indexes(search: Callable[[], list[str]]) -> None:
    """Log INVALID indexes, if the server answers in time: this must not delay or hide an error."""
    indexes = try_for(SERVER_QUERY_TIMEOUT, search)
    if indexes:
        log.emit(
            "warning",
            "gate.invalid_indexes",
            "The database has INVALID indexes, as a failed or killed CREATE INDEX CONCURRENTLY leaves them: "
            f"{join_ids(indexes)}. Queries do not use them, and IF NOT EXISTS skips them. Drop and create them again, "
            "or run REINDEX.",
            indexes=first_ids(indexes),
        )


def _inspect(inspector: Inspector) -> Inspection:
    """Check under the lock: a migration that locks the version table now is not one of gate's."""
    try:
        return inspector.inspect()
    except VersionTableLocked as error:
        raise DatabaseUnavailable(
            "The version table cannot be read, since a session other than the migration's has locked it "
            f"({error.reason}). gate tries again; pg_locks shows the session."
        ) from None


def _log_start(lock: Lock, before: Inspection, planned: Drift) -> None:
    log.emit(
        "info",
        "gate.migrating",
        f"gate {lock.description} and applies {pending_text(planned)}.",
        drift=str(planned),
        pending=len(planned.pending),
        next_revisions=first_ids(planned.pending[:MAX_PENDING_SHOWN]),
        database=before.stamp.database,
    )


def _upgrade(plan: Plan, lock: Lock, progress: Progress, inspector: Inspector, schema: str) -> None:
    """Upgrade; if that fails or is interrupted, report what was committed and what remains."""
    try:
        upgrade_with_retries(plan, lock, progress, inspector, schema)
    except MigrationFailed as error:
        warn_of_invalid_indexes(lambda: lock.sessions.invalid_indexes(plan.tenant))
        remaining = failure_report.remaining_changes(inspector, progress, lock, SERVER_QUERY_TIMEOUT)
        text = f"{error} {remaining}{failure_report.remedy(error, progress)}"
        raise MigrationFailed(text, progress.revision) from None
    except DatabaseLost as error:
        remaining = failure_report.remaining_changes(inspector, progress, lock, SERVER_QUERY_TIMEOUT)
        raise DatabaseLost(f"{error} What had committed stays. {remaining} Try again: {RETRY}") from None
    except Interrupted as interruption:
        remaining = failure_report.remaining_changes(inspector, progress, lock, CANCELLED_REPORT_TIMEOUT)
        # `gate.ended` names a failure that gate was handling when the signal came.
        named_later = isinstance(interruption.__context__, MigrationFailed)
        failure = f"{progress.failure_message} " if progress.failure and not named_later else ""
        text = f"A signal interrupted gate, which cancelled the upgrade{progress.in_revision}. {failure}{remaining}"
        log.emit("warning", "gate.migration_interrupted", text, revision=progress.revision or None)
        raise


def _verify(plan: Plan, inspector: Inspector, progress: Progress, lock: Lock) -> Inspection:
    after = _inspect(inspector)
    if after.drift.stamp_verdict is not Verdict.CURRENT and (
        plan.post_deploy or after.drift.stamp_verdict is not Verdict.DEFERRED
    ):
        _verify_lock_after(lock, after)
        raise MigrationFailed(
            f"The upgrade ended without an error, but the database is {after.drift.verdict} ({after.drift}). "
            f"{_left(plan.planned(after.drift))}. gate read {inspector.table.table} in schema "
            f"{after.stamp.schema} of database {after.stamp.database}. Check that {_goal_of(plan)}env.py commits, and "
            "that this is its version table; for another one, set GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
            f"{shell_hint(plan.command)}"
        )
    if not plan.tenant:
        warn_of_invalid_indexes(lock.sessions.invalid_indexes)
    log.emit(
        "info",
        "gate.migrated",
        _result(after.drift, _applied_by(plan, progress)),
        drift=str(after.drift),
        deferred=first_ids(after.drift.deferred) or None,
        seconds=round(time.time() - progress.since, 1),
    )
    return after


def _verify_lock_after(lock: Lock, after: Inspection) -> None:
    """Raise `DatabaseLost` if the lock was lost, or the URL leads to another server than the upgrade's."""
    try:
        lock.verify()
        lock.verify_server()
    except LockLost as error:
        raise DatabaseLost(
            f"The database went away after the upgrade: {error}. The database that answers is {after.drift.verdict} "
            f"({after.drift}). Try again: {RETRY}"
        ) from None


def _left(after: Drift) -> str:
    if after.stamp_verdict is Verdict.UNKNOWN:
        return f"gate cannot tell what is pending: {stamped_unknown(after)}"
    return f"Still pending: {pending_text(after)}"


def _goal_of(plan: Plan) -> str:
    """Name what GATE_UPGRADE_COMMAND must upgrade to, for a list of what to check; "" for gate's own upgrade."""
    return f"GATE_UPGRADE_COMMAND upgrades to {join_ids(plan.targets)}, that " if plan.command else ""


def _result(drift: Drift, applied: str) -> str:
    if drift.stamp_verdict is Verdict.DEFERRED:
        return f"The schema has all that this image requires, and {deferred_text(drift)}: {applied}."
    return f"The schema is {'not complete' if drift.missing else 'current'}: {applied}."


def _applied_by(plan: Plan, progress: Progress) -> str:
    if plan.command:
        return "GATE_UPGRADE_COMMAND ended, and gate found no pending revision; it did not see which were applied"
    return f"{progress.applied} revision(s) applied"
