"""Sentences about a verdict: what was found (`finding`), and what a person can do about it (`remedy`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gate.database.missing import MAX_MISSING_SHOWN, Kind, Missing, sql_name
from gate.drift.comparison import Drift, SchemaCounts, Verdict
from gate.image.revision_graph import ALL_HEADS, Revision
from gate.text import join_ids, printable, short_name

LOCKED_OUT_REMEDY = "Another migrator holds the lock and has not published its name yet. Wait until it has finished."

OTHER_DATABASE_REMEDY = (
    "The database of MIGRATION_DATABASE_URL needs no migration, but the server will connect to this one, through "
    "DATABASE_URL. Correct one of the URLs, or wait if this is a replica that lags behind."
)

REMOVE_DROPPED = "after DROP SCHEMA, remove its name from the list or its row from what the SELECT reads"

LACKS = "The database lacks what the code of this image needs:"
"""In front of what is missing."""

CREATE_REMEDY = {
    Verdict.UNKNOWN: (
        "A newer image has changed what this image uses, or the database belongs to another application: deploy the "
        "image that contains the stamped revisions, or correct the URL of the database."
    ),
    Verdict.UNSTAMPED: (
        "If create_all created the tables, an older version of the models did, or another schema has them. If they "
        "belong to another application, run `gate migrate` from this image once."
    ),
    Verdict.CURRENT: (
        "The database was stamped without an upgrade, a revision was edited after it had run, or no revision creates "
        "what is missing. Write a migration that creates it. If a revision was stamped and never ran, `alembic stamp` "
        "the revision before that one, and upgrade."
    ),
}
"""What to do about a missing table or column, by the verdict of the stamp."""

START_ANYWAY = "With GATE_ON_INCOMPLETE=go, `gate run` starts the server nevertheless."

SEVERAL_TABLES_REMEDY = (
    "Give each history a section of its own in the Alembic configuration, let env.py configure only the one of its "
    "section, and name them all: gate migrate -n SECTION -n SECTION. For a schema for each tenant, set GATE_SCHEMAS."
)
"""What to do where one run of env.py configures several version tables."""

MAX_PENDING_SHOWN = 5
"""The number of pending revisions that a line names."""


def finding(drift: Drift, database: str, table: str = "") -> str:
    """Describe the result of an inspection in one sentence, and in a second one what is missing.

    `table`: the version table that was read, with its schema.
    """
    subject, table = f"Database {printable(database)}", printable(table)
    sentences = []
    if drift.schemas is not None:
        sentences.append(_schemas_finding(drift.schemas, subject))
        subject = f"Schema {short_name(drift.schemas.example)}"
    if drift.schemas is not None and not drift.schemas.example_exists:
        sentences.append(f"{subject} does not exist. Create it, or correct GATE_SCHEMAS ({REMOVE_DROPPED}).")
    elif drift.schemas is None or not drift.schemas.all_reached:
        sentences.append(_stamp_finding(drift, subject, table))
    if drift.missing:
        sentences.append(f"{LACKS} {missing_text(drift)}.")
    elif drift.verdict is Verdict.AHEAD:
        sentences.append("The database has all that the code of this image needs.")
    return " ".join(sentences)


def _schemas_finding(schemas: SchemaCounts, subject: str) -> str:
    if not schemas.total:
        return "GATE_SCHEMAS names no schema, which GATE_SCHEMAS_MAY_BE_EMPTY=1 accepts."
    if schemas.all_reached:
        return f"{subject}: all schemas ({schemas.total:,}) are at the head(s) of this image."
    return f"{subject}: {schemas.total - schemas.reached:,} of {schemas.total:,} schemas are not at the head(s)."


def _stamp_finding(drift: Drift, subject: str, table: str) -> str:  # noqa: PLR0911 - one sentence for each verdict
    ids, read = join_ids(drift.unknown), f" (table {table})" if table else ""
    match drift.stamp_verdict:
        case Verdict.CURRENT | Verdict.INCOMPLETE | Verdict.AHEAD:
            return f"{subject} {_reached(drift)} of this image."
        case Verdict.DEFERRED:
            return f"{subject} has all revisions that this image requires; {deferred_text(drift)}."
        case Verdict.BEHIND if not drift.stamped:
            return f"{subject} has an empty version table and lacks {_lacking(drift)}."
        case Verdict.BEHIND:
            return f"{subject} lacks {_lacking(drift)}."
        case Verdict.EMPTY:
            return f"{subject} is empty; this image expects {pending_text(drift)}{_and_deferred(drift)}."
        case Verdict.UNSTAMPED:
            return f"{subject} has tables but no version table, so its revision is unknown."
        case Verdict.UNKNOWN:
            return (
                f"{subject} is stamped with {ids}, which this image does not know{read}: a newer image "
                "migrated it (during a rollout, or before a rollback), the revision was squashed, or another "
                "application owns the table."
            )
        case Verdict.DIVERGED if drift.unknown:
            return (
                f"{subject} is stamped with {ids}, which this image does not know{read}, and lacks "
                f"{pending_text(drift)} of this image: the two histories have diverged."
            )
        case Verdict.DIVERGED:
            return (
                f"{subject} is stamped with rows that overlap through depends_on, but revisions between "
                "them were never applied: the histories have diverged."
            )


def remedy(  # noqa: PLR0911 - as above
    drift: Drift,
    migrator: object = None,
    *,
    standby: bool = False,
    tried: bool = False,
    role: str = "",
    starting: bool = False,
) -> str:
    """Say what a person can do, "" if nothing is needed.

    `migrator`: who is migrating, None if nobody is; `standby`: the database is one, so a migrator would not be visible;
    `tried`: this gate has failed to migrate and does not repeat it; `role`: the server's, "" if that is not known;
    `starting`: the server starts, or has started, whatever is missing.
    """
    if migrator:
        return f"Migrating now: {printable(str(migrator))}. Wait until it has finished."
    match drift.verdict:
        case Verdict.BEHIND | Verdict.EMPTY:
            return _upgrade_remedy(drift, standby=standby, tried=tried)
        case Verdict.UNSTAMPED:
            return (
                "If create_all created the tables, record their revision with `alembic stamp REVISION`. If they belong "
                "to another application, run `gate migrate` from this image once (GATE_ON_UNSTAMPED=go or wait)."
            )
        case Verdict.UNKNOWN:
            return (
                "This is expected during a rollout and after a rollback. Otherwise deploy the image that contains the "
                "stamped revisions, or correct the URL of the database."
            )
        case Verdict.DIVERGED:
            return "Deploy an image that contains both histories (`alembic merge`), or restore the database."
        case Verdict.DEFERRED:
            return "Run `gate migrate --post-deploy` from this image once no server of an earlier image runs any more."
        case Verdict.INCOMPLETE:
            return " ".join(_missing_remedies(drift, role) + ([] if starting else [START_ANYWAY]))
        case Verdict.CURRENT | Verdict.AHEAD:
            return ""


def _upgrade_remedy(drift: Drift, *, standby: bool, tried: bool) -> str:
    if standby:
        return "This is a standby, where gate cannot see who is migrating; check the primary."
    if tried:
        return (
            "This container does not try again. Deploy a corrected image, run `gate migrate` from one, or restart "
            "this container after the cause has been removed."
        )
    by_alembic = "" if drift.deferred or drift.schemas else f" (or `alembic upgrade {printable(drift.target)}`)"
    once = f"run `gate migrate`{by_alembic} from this image once"
    return f"Nobody is migrating: {once}, or set RUN_MIGRATIONS=1 for `gate run`."


def missing_text(drift: Drift) -> str:
    """Describe the first missing items, and say how many more there are."""
    shown = drift.missing[:MAX_MISSING_SHOWN]
    more = max(drift.missing_total, len(drift.missing)) - len(shown)
    return ", ".join(map(_described, shown)) + (f" and {more} more" if more else "")


def _described(item: Missing) -> str:
    name = str(item._replace(kind=Kind.COLUMN))
    match item.kind:
        case Kind.TABLE | Kind.COLUMN:
            return f"{item.kind} {name}"
        case Kind.USAGE:
            return f"the right to use the schema of {name}"
        case Kind.SELECT:
            return f"the right to SELECT {name}"
        case Kind.DEFAULT:
            return f"a default for column {name}, which may not be NULL and which the models do not know"


def _missing_remedies(drift: Drift, role: str) -> list[str]:
    """Say what a person can do about what is missing."""
    kinds = {item.kind for item in drift.missing}
    sentences = [_create_remedy(drift)] if kinds & {Kind.TABLE, Kind.COLUMN} else []
    sentences += _grants(drift.missing, sql_name(role) if role else "the role of the server")
    if required := next((item for item in drift.missing if item.kind is Kind.DEFAULT), None):
        sentences.append(
            f"Every INSERT of this image into {required.sql_table} fails: give the column a default, or deploy the "
            f"image that knows it.{_allow_null_earlier(drift)}"
        )
    return sentences


def _grants(missing: Sequence[Missing], grantee: str) -> list[str]:
    """Return the statements that grant the first of the missing rights."""
    rights = [item for item in missing if item.kind is Kind.SELECT][:MAX_MISSING_SHOWN]
    usage = [item for item in missing if item.kind is Kind.USAGE][:MAX_MISSING_SHOWN]
    schemas = _unique(sql_name(item.schema or "") for item in usage)
    tables = _unique(item.sql_table for item in rights if item.column is None)
    statements = [f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {grantee}."] if schemas else []
    statements += [f"GRANT SELECT ON {', '.join(tables)} TO {grantee}."] if tables else []
    for table in _unique(item.sql_table for item in rights if item.column is not None):
        columns = (sql_name(item.column) for item in rights if item.column is not None and item.sql_table == table)
        statements.append(f"GRANT SELECT ({', '.join(columns)}) ON {table} TO {grantee}.")
    return statements


def _unique(names: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(names)]


def _create_remedy(drift: Drift) -> str:
    remedy = CREATE_REMEDY.get(drift.stamp_verdict, CREATE_REMEDY[Verdict.CURRENT])
    return f"{_left_out(drift)}{remedy}"


def _left_out(drift: Drift) -> str:
    """Say which revisions are left out on purpose and may create what is missing, "" if there are none."""
    if drift.stamp_verdict is Verdict.DEFERRED:
        return (
            f"If a revision that may wait ({_first_few(drift.deferred)}) creates it, this image needs that revision "
            "before the deployment: remove post_deploy from it, or run `gate migrate --post-deploy` if no server of an "
            "earlier image runs. Otherwise: "
        )
    if drift.stamp_verdict is Verdict.CURRENT and drift.target != ALL_HEADS:
        target = short_name(drift.target)
        return f"If a revision beyond {target} creates it, this image needs it: correct GATE_TARGET. Otherwise: "
    return ""


def _allow_null_earlier(drift: Drift) -> str:
    if drift.stamp_verdict is not Verdict.DEFERRED:
        return ""
    return (
        f" If a revision that may wait ({_first_few(drift.deferred)}) drops the column, let one that may not wait "
        "allow NULL in it first."
    )


def redundant_rows(drift: Drift) -> str:
    """Explain rows that Alembic rejects as overlapping, and how to remove them."""
    return (
        f"The version table holds {join_ids(drift.redundant)} as well as a descendant. Alembic rejects such rows as "
        "overlapping at the next upgrade: delete the redundant row(s) from the version table."
    )


def _reached(drift: Drift) -> str:
    if drift.target == ALL_HEADS:
        return "is at the head(s)"
    return f"has all revisions up to {printable(drift.target)} (GATE_TARGET)"


def _lacking(drift: Drift) -> str:
    return f"{pending_text(drift)} of this image{_and_deferred(drift)}"


def _and_deferred(drift: Drift) -> str:
    return f"; {deferred_text(drift)}" if drift.deferred else ""


def pending_text(drift: Drift) -> str:
    """Render the number of pending revisions and the first few of their ids."""
    number = len(drift.pending)
    return f"{revision_count(number)} ({_first_few(drift.pending)})" if number else "no revision"


def stamped_unknown(drift: Drift) -> str:
    """Say with what the database is stamped that the image does not know."""
    return f"the database is stamped with {join_ids(drift.unknown)}, which this image does not know"


def deferred_text(drift: Drift) -> str:
    """Say which revisions may wait: their number and the first few of their ids."""
    return may_wait_text(drift.deferred)


def may_wait_text(ids: Sequence[str]) -> str:
    """Say that these revisions may wait."""
    return f"{revision_count(len(ids))} may wait until after the deployment ({_first_few(ids)})"


def needed_post_deploy(revision: Revision, needed_by: str) -> str:
    """Say that a `post_deploy` revision is required all the same."""
    return (
        f"{printable(revision.path)}: revision {printable(revision.id)} is post_deploy, but {printable(needed_by)} "
        "needs it and is not, so both are required before the deployment."
    )


def revision_count(number: int) -> str:
    """Render a number of revisions."""
    return f"{number} revision{'' if number == 1 else 's'}"


def _first_few(ids: Sequence[str]) -> str:
    shown = [*map(short_name, ids[:MAX_PENDING_SHOWN])]
    return ", ".join([*shown, "…"] if len(ids) > MAX_PENDING_SHOWN else shown)
