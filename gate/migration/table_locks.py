"""Upgrades again after a lock conflict, where nothing of the failed attempt remains."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from gate import log
from gate.database.lock import Lock
from gate.database.sessions import join_blockers
from gate.drift.comparison import Verdict
from gate.drift.inspector import Inspector
from gate.errors import GateError, LockLost, MigrationFailed, TableLockConflict
from gate.migration.failure_report import partially_committed
from gate.migration.monitor import SERVER_CHECK_INTERVAL, upgrade
from gate.migration.plan import Plan
from gate.migration.progress import Progress
from gate.process import signals
from gate.process.threads import PeriodicCall
from gate.text import join_ids

FIRST_PAUSE, MAX_PAUSE = 1.0, 30.0
"""Seconds: the pause before the second try, and the longest one. Each is twice as long as the one before."""

MIN_JITTER = 0.7
"""The smallest factor by which jitter shortens a pause."""

INSPECTION_TIMEOUT = 5.0
"""Seconds for the check of what an attempt has committed."""

POLL_INTERVAL = 0.1
"""Seconds between two checks of the lock during a pause."""


class Remains(NamedTuple):
    """What an attempt has left.

    `partial`: pending revisions of which something was committed, None = not known; `repeats`: how many revisions were
    rolled back with the failed one.
    """

    partial: list[str] | None
    repeats: int = 0


def upgrade_with_retries(plan: Plan, lock: Lock, progress: Progress, inspector: Inspector, schema: str) -> None:
    """Do what `upgrade` does, and try again after a lock conflict; raises what `upgrade` raises.

    Each try is a new process, under the same migration lock, and begins at what is stamped then.
    """
    repeats_logged = False
    for attempt in range(1, plan.table_lock_retries + 2):
        try:
            return upgrade(plan, lock, progress, schema)
        except TableLockConflict as error:
            remains = _remains(inspector, progress, lock)
            pause = pause_before(attempt + 1)
            final = _why_final(plan, progress, remains, attempt, pause)
            blocked = _blocked(progress, lock)
            if final:
                raise MigrationFailed(f"{error}{blocked} {final}", progress.revision) from None
            _log(error, plan, progress, attempt, pause, blocked, 0 if repeats_logged else remains.repeats)
            repeats_logged |= bool(remains.repeats)
            _pause(lock, progress, pause)
            progress.begin_again()
    return None


def pause_before(attempt: int) -> float:
    """Return the seconds before this try, the second one at least."""
    return min(FIRST_PAUSE * 2.0 ** (attempt - 2), MAX_PAUSE) * random.uniform(MIN_JITTER, 1)  # noqa: S311 - no secret


def _remains(inspector: Inspector, progress: Progress, lock: Lock) -> Remains:
    candidates = {*progress.committed_revisions, *progress.autocommit_revisions}
    if "" in candidates:
        return Remains([progress.revision])
    if not candidates and progress.step <= 1:
        return Remains([])
    try:
        after = progress.unapplied(inspector.inspect(limit=INSPECTION_TIMEOUT).drift)
    except GateError:
        return Remains(None if candidates else [])
    if after.stamp_verdict is Verdict.UNKNOWN:
        return Remains(None if candidates else [])
    pending = after.pending
    repeats = progress.step - 1 if lock.transactional and progress.rolled_back(pending) else 0
    return Remains(partially_committed(progress, pending), repeats)


def _why_final(plan: Plan, progress: Progress, remains: Remains, attempt: int, pause: float) -> str:
    """Say why there is no further try, "" if there is one."""
    if remains.partial is None:
        return "gate does not try again, since it cannot check what this attempt has committed."
    if remains.partial:
        return (
            f"gate does not try again, since a part of {join_ids(remains.partial)} was committed and would be "
            "repeated: by autocommit_block, by COMMIT, or by a database that commits each DDL statement."
        )
    if attempt > plan.table_lock_retries:
        tries = f"{attempt} {'try' if attempt == 1 else 'tries'}"
        return f"gate does not try again after {tries} (GATE_TABLE_LOCK_RETRIES={plan.table_lock_retries})."
    if plan.timeout and time.monotonic() + pause - progress.began >= plan.timeout:
        return f"gate does not try again, since {plan.timeout:g} s have nearly passed (GATE_MIGRATION_TIMEOUT)."
    return ""


def _blocked(progress: Progress, lock: Lock) -> str:
    wait = progress.lock_wait
    if wait is None:
        return " gate did not see who blocked it."
    table = f" for a lock on {wait.relation}" if wait.relation else ""
    return f" It waited{table}, blocked by {join_blockers(wait, lock.sessions)}."


def _log(
    error: TableLockConflict, plan: Plan, progress: Progress, attempt: int, pause: float, blocked: str, repeats: int
) -> None:
    wait = progress.lock_wait
    again = (
        f" All revisions of this upgrade run in one transaction, so {repeats} more are repeated; with "
        "transaction_per_migration=True in context.configure only this one would be."
    )
    log.emit(
        "warning",
        "gate.table_lock_timeout",
        f"{error}{blocked} It was rolled back.{again if repeats else ''} gate tries again in {pause:.1f} s (try "
        f"{attempt + 1} of {plan.table_lock_retries + 1}).",
        revision=progress.revision or None,
        conflict=error.conflict,
        relation=(wait and wait.relation) or None,
        blocked_by=list(wait.waits_for) if wait else None,
        attempt=attempt,
        next_try=round(pause, 2),
    )


def _pause(lock: Lock, progress: Progress, seconds: float) -> None:
    """Wait, and keep the lock; a signal interrupts it."""
    deadline = time.monotonic() + seconds
    check = PeriodicCall(lock.verify, SERVER_CHECK_INTERVAL)
    try:
        while (left := deadline - time.monotonic()) > 0:
            signals.raise_in_thread()
            check.attend()
            time.sleep(min(left, POLL_INTERVAL))
    except LockLost as error:
        raise progress.database_lost(str(error)) from None
