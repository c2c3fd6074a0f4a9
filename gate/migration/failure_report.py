"""The report of a failed or cancelled upgrade: committed, pending and partially applied revisions, and the remedy."""

from __future__ import annotations

from collections.abc import Collection

from gate.database.lock import Lock
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspector
from gate.drift.messages import MAX_PENDING_SHOWN, pending_text, redundant_rows, stamped_unknown
from gate.errors import GateError, LockLost
from gate.migration.progress import STAMP_REMEDY, Progress
from gate.text import join_ids

MAX_REVISIONS = 20
"""Committed revisions that a message names."""

UNDO_MANUALLY = "Undo them by hand before the next attempt."


def remaining_changes(inspector: Inspector, progress: Progress, lock: Lock, timeout: float) -> str:
    """Report what was committed, and which changes of pending revisions remain.

    `timeout`: seconds for the check that finds the committed revisions.
    """
    pending, is_seen = set(progress.planned.pending), False
    try:
        after = progress.unapplied(inspector.inspect(limit=timeout).drift)
    except GateError:
        committed = "gate could not check whether anything was committed."
    else:
        if after.stamp_verdict is Verdict.UNKNOWN:
            committed = f"gate cannot tell what was committed: {stamped_unknown(after)}."
        else:
            pending, is_seen = set(after.pending), True
            committed = _committed(after, pending, progress)
    partial = _partially_applied(lock, progress, pending)
    is_known = is_seen and not (partial and _is_elsewhere(lock, timeout))
    return committed + _partial_changes(lock, progress, partial, is_known=is_known)


def _is_elsewhere(lock: Lock, timeout: float) -> bool:
    """Whether a new connection reaches another server than the one where the lock was acquired."""
    try:
        lock.verify_server(timeout)
    except LockLost:
        return True
    return False


def _committed(after: Drift, pending: Collection[str], progress: Progress) -> str:
    done = [id_ for id_ in progress.planned.pending if id_ not in pending]
    all_undone = progress.step > 1 and not done and not progress.autocommit_revisions
    undone = " The earlier revisions of this upgrade were rolled back with it." if all_undone else ""
    if len(done) > MAX_REVISIONS:
        done = [f"{len(done)} revisions, the last {done[-1]}"]
    left = ", ".join(after.pending) if len(after.pending) <= MAX_PENDING_SHOWN else pending_text(after)
    current = " The schema is current nevertheless." if after.stamp_verdict is Verdict.CURRENT else ""
    return f"Committed: {', '.join(done) or 'nothing'}. Still pending: {left or 'nothing'}.{undone}{current}"


def _partially_applied(lock: Lock, progress: Progress, pending: Collection[str]) -> list[str]:
    return (partially_committed if lock.transactional else _autocommitted)(progress, pending)


def _partial_changes(lock: Lock, progress: Progress, partial: Collection[str], *, is_known: bool) -> str:
    """Name what may be half applied. `is_known`: whether `partial` was found on the server of the attempt."""
    if "" in progress.autocommit_revisions:
        return (
            " env.py's connection is in autocommit mode, so changes of a revision that is still pending remain. "
            f"{UNDO_MANUALLY}"
        )
    if partial and not is_known:
        return (
            f" Something of {join_ids(partial)} was committed, or all of it, on the server that went away. If `gate "
            "plan` lists one of them as pending, see what it has left, and undo that by hand before the next attempt."
        )
    if partial:
        return (
            f" Part of {join_ids(partial)} ran in autocommit mode (autocommit_block, for example) or was committed by "
            f"the revision itself, so its changes may remain although the revision is pending. {UNDO_MANUALLY}"
        )
    if lock.transactional:
        return ""
    return (
        " On this database each DDL statement commits implicitly, so changes that the failed revision made before it "
        f"failed remain. {UNDO_MANUALLY}"
    )


def _autocommitted(progress: Progress, pending: Collection[str]) -> list[str]:
    return [id_ for id_ in progress.autocommit_revisions if id_ in pending]


def partially_committed(progress: Progress, pending: Collection[str]) -> list[str]:
    """The revisions that are still pending, and of which something was committed."""
    candidates = {*progress.autocommit_revisions, *progress.committed_revisions}
    return sorted(candidates & set(pending))


def remedy(error: GateError, progress: Progress) -> str:
    """Advise what to do before the next attempt."""
    advice = ""
    if progress.planned.redundant:
        advice = f" {redundant_rows(progress.planned)}"
    elif progress.planned.stamp_verdict is Verdict.UNSTAMPED and STAMP_REMEDY not in str(error):
        advice = (
            " The database had tables but no version table before this attempt. If the tables that this revision "
            f"creates were among them (create_all, another tool), do not undo them but run {STAMP_REMEDY}."
        )
    return f"{advice} Fix the cause, then migrate again."
