"""What an upgrade that came to no good end has left: committed, still pending, half done; and the cure."""

from __future__ import annotations

from collections.abc import Collection

from gate.database.lock import Lock
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspector
from gate.drift.messages import MAX_PENDING_SHOWN, redundant_rows
from gate.errors import GateError
from gate.migration.progress import STAMP_REMEDY, Progress
from gate.text import join_ids

MAX_REVISIONS = 20
"""How many committed revisions a line names."""

UNDO_MANUALLY = "so undo that by hand before the next try."


def remaining_changes(inspector: Inspector, progress: Progress, lock: Lock, within: float) -> str:
    """What was committed, by a look of so many seconds, and what stays although its revision is pending."""
    try:
        after = inspector.inspect(limit=within).drift
    except GateError:
        told, pending = "Whether anything was committed cannot be seen now.", set(progress.planned.pending)
    else:
        pending = set(after.pending)
        told = _committed(after, pending, progress)
    return told + _partial_changes(lock, progress, pending)


def remedy(error: GateError, progress: Progress) -> str:
    """What to do before the next try."""
    told = ""
    if progress.planned.redundant:
        told = f" {redundant_rows(progress.planned)}"
    elif progress.planned.verdict is Verdict.UNSTAMPED and STAMP_REMEDY not in str(error):
        told = (
            " There were tables but no version table: if what it creates was there before this try (create_all, "
            f"another tool), do not undo that, and tell Alembic with {STAMP_REMEDY}."
        )
    return f"{told} Mend that, then migrate again."


def _committed(after: Drift, pending: Collection[str], progress: Progress) -> str:
    done = [id_ for id_ in progress.planned.pending if id_ not in pending]
    all_undone = progress.step > 1 and not done and not progress.commits_by_itself
    undone = " What was applied before it was rolled back with it." if all_undone else ""
    if len(done) > MAX_REVISIONS:
        done = [f"{len(done)} revisions, the last {done[-1]}"]
    left = ", ".join(after.pending[:MAX_PENDING_SHOWN])
    fits = " The schema is current all the same." if after.verdict is Verdict.CURRENT else ""
    return f"Committed before it: {', '.join(done) or 'nothing'}; still pending: {left or 'nothing'}.{undone}{fits}"


def _partial_changes(lock: Lock, progress: Progress, pending: Collection[str]) -> str:
    if "" in progress.commits_by_itself:
        return (
            " env.py's connection commits each statement by itself: what was done of a revision that is still pending "
            f"stays, {UNDO_MANUALLY}"
        )
    if halves := [id_ for id_ in progress.commits_by_itself if id_ in pending]:
        return (
            f" Of {join_ids(halves)} a part was committed by itself (autocommit_block, say) and may stay, although the "
            f"revision is pending, {UNDO_MANUALLY}"
        )
    if lock.transactional:
        return ""
    return (
        " This engine commits each DDL statement by itself: what the failed revision did before it failed stays, "
        f"{UNDO_MANUALLY}"
    )
