"""What happened, what gate does now, what you can do: the sentences for a person woken at night."""

from __future__ import annotations

from gate.drift.comparison import Drift, Verdict
from gate.text import join_ids, printable, truncate

LOCKED_OUT_REMEDY = "Another migrator holds the lock and has not said yet who it is. Nothing to do but wait for it."

OTHER_DATABASE_REMEDY = (
    "There is nothing to migrate where MIGRATION_DATABASE_URL leads, but DATABASE_URL leads here: correct one of the "
    "URLs, or wait if this is a replica that lags."
)

MAX_PENDING_SHOWN = 5
"""How many pending revisions a line names."""


def finding(drift: Drift, database: str) -> str:  # noqa: PLR0911 - one sentence for one verdict
    """One sentence on what a look found."""
    ids, database = join_ids(drift.unknown), printable(database)
    match drift.verdict:
        case Verdict.CURRENT:
            return f"Database {database} is at the head(s) of this image."
        case Verdict.BEHIND if not drift.stamped:
            pending = pending_text(drift)
            return f"The version table of database {database} has no rows, so it lacks {pending} of this image."
        case Verdict.BEHIND:
            return f"Database {database} lacks {pending_text(drift)} of this image."
        case Verdict.EMPTY:
            return f"Database {database} is empty; this image expects {pending_text(drift)} in it."
        case Verdict.UNSTAMPED:
            return f"Database {database} has tables but no version table, so nothing says which revision it is at."
        case Verdict.UNKNOWN:
            return (
                f"Database {database} is stamped with {ids}, which this image does not know: migrated by a newer image "
                "(a rollout or a rollback), squashed, or not this application's."
            )
        case Verdict.DIVERGED if drift.unknown:
            return (
                f"Database {database} is stamped with {ids}, which this image does not know, and lacks "
                f"{pending_text(drift)} of this image: the two histories have parted."
            )
        case Verdict.DIVERGED:
            return (
                f"Database {database} is stamped with rows that overlap through depends_on, while revisions between "
                "them were never applied: the histories have parted."
            )


def next_step(drift: Drift, migrator: object = None, *, standby: bool = False, tried: bool = False) -> str:
    """What a person can do, or that somebody is at it."""
    if migrator:
        return f"Migrating now: {printable(str(migrator))}. Nothing to do but wait for it."
    return remedy(drift, standby=standby, tried=tried)


def remedy(drift: Drift, *, standby: bool = False, tried: bool = False) -> str:  # noqa: PLR0911 - likewise
    """What a person can do about it while nobody migrates; `tried`: this gate has, in vain, and does not repeat it."""
    match drift.verdict:
        case Verdict.BEHIND | Verdict.EMPTY if standby:
            return "This is a standby, so gate cannot see here who migrates; look at the primary."
        case Verdict.BEHIND | Verdict.EMPTY if tried:
            return (
                "This container does not try again: deploy a mended image, run `gate migrate` from one, or restart the "
                "container once the cause is gone."
            )
        case Verdict.BEHIND | Verdict.EMPTY:
            return (
                "Nobody is migrating: run `gate migrate` (or `alembic upgrade heads`) from this image once, or give "
                "`gate run` RUN_MIGRATIONS=1."
            )
        case Verdict.UNSTAMPED:
            return (
                "If create_all made the tables, tell Alembic with `alembic stamp REVISION`; if they are another "
                "application's, run `gate migrate` from this image once (GATE_ON_UNSTAMPED=go or wait)."
            )
        case Verdict.UNKNOWN:
            return (
                "During a rollout and after a rollback this is as it should be; else deploy the image that brought the "
                "stamp, or correct the database's URL."
            )
        case Verdict.DIVERGED:
            return "Deploy an image that contains both histories (`alembic merge`), or restore the database."
        case Verdict.CURRENT:
            return ""


def redundant_rows(drift: Drift) -> str:
    """What to say of rows that Alembic would reject as overlapping."""
    return (
        f"The version table holds {join_ids(drift.redundant)} beside a descendant. Alembic refuses "
        "such rows as overlapping at the next upgrade: delete the redundant row(s) from the version table."
    )


def pending_text(drift: Drift) -> str:
    """The number of pending revisions and the first few of them."""
    number = len(drift.pending)
    named = ", ".join(truncate(printable(truncate(id_))) for id_ in drift.pending[:MAX_PENDING_SHOWN]) + (
        ", …" if number > MAX_PENDING_SHOWN else ""
    )
    return f"{number} revision{'' if number == 1 else 's'} ({named})" if number else "no revision"
