"""`gate check` and `gate heads`: inspect once and print the result on standard output."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gate.database.stamp import VersionTableLocked
from gate.drift import messages
from gate.drift.comparison import Drift, SchemaCounts, Verdict
from gate.drift.inspector import Inspection, SchemaState
from gate.drift.project import Project, load_project
from gate.errors import GateError
from gate.image.revision_graph import RevisionGraph
from gate.process.stdio import print_error, print_result
from gate.redaction import hide_in_message, hide_in_value, learn
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.settings.settings import Settings
from gate.text import first_ids, printable

MAX_MISSING_LINES = 20
"""Missing items that `gate check` prints."""

MAX_PENDING_LINES = 20
"""Pending revisions that `gate check` prints; an empty database may have hundreds."""

MAX_SCHEMAS_LISTED = 100
"""Schemas that `gate check --json` lists."""

BUSY_TIMEOUTS = {"GATE_CONNECT_TIMEOUT": "20", "GATE_QUERY_TIMEOUT": "20"}
"""Defaults for `--busy`, in seconds: an answer that is late is better than a wrong one on a busy machine."""

BUSY_TIMEOUT = 40.0
"""Seconds for the whole check of `--busy`: Watchtower waits one minute for a hook, by default (its lifecycle.go)."""


class Report(NamedTuple):
    """What a command found out about one history. `fields`: for --json; `text`: for people; `code`: the exit code."""

    fields: Mapping[str, object]
    text: str
    code: int = 0


def heads(arguments: Arguments) -> int:
    """Print the heads that the image expects, without a database; return the exit code."""
    try:
        report = report_heads(load(arguments, whole=True, with_expectations=False))
    except GateError as error:
        return report_failure(error, arguments)
    return 0 if print_report(report, arguments) else GateError.exit_code


def report_heads(project: Project) -> Report:
    """Report the heads of one history, and print warnings about them."""
    graph = project.image.graph
    may_wait = [id_ for id_ in graph.outstanding(()) if id_ in graph.may_wait]
    _warn_of_needed_post_deploy(graph)
    fields = {"heads": list(graph.expected), "revisions": len(graph.revisions), "may_wait": may_wait}
    lines = [*map(printable, graph.expected), *([messages.may_wait_text(may_wait)] if may_wait else [])]
    return Report(fields | {"target": graph.target}, "\n".join(lines))


def print_report(report: Report, arguments: Arguments) -> bool:
    """Print a report on standard output; return whether that was possible."""
    text = json.dumps(hide_in_value(report.fields)) if arguments.json else hide_in_message(report.text)
    return print_result(text)


def _warn_of_needed_post_deploy(graph: RevisionGraph) -> None:
    needed = [*graph.needed_post_deploy.items()]
    for id_, needed_by in needed[:MAX_PENDING_LINES]:
        print_error(f"WARNING {messages.needed_post_deploy(graph.revisions[id_], needed_by)}")
    if len(needed) > MAX_PENDING_LINES:
        more = len(needed) - MAX_PENDING_LINES
        print_error(f"WARNING {more} more post_deploy revision(s) are required for the same reason.")


def check(arguments: Arguments) -> int:
    """Inspect once. Return 0 if the schema fits, 1 on drift, 69 or 78 if the database could not be inspected."""
    if arguments.busy:
        return _check_busy(arguments)
    try:
        report = report_check(load(arguments))
    except GateError as error:
        return report_failure(error, arguments)
    print_report(report, arguments)
    return report.code


def report_check(project: Project) -> Report:
    """Inspect the database of one history, and print warnings about it."""
    inspection = project.inspector().inspect()
    for warning in inspection.warnings.values():
        print_error(warning)
    if not inspection.drift.fits:
        learn()  # what is shown then has more text from elsewhere
    return Report(as_json(inspection), _as_text(inspection), 0 if inspection.drift.fits else 1)


def as_json(inspection: Inspection) -> dict[str, object]:
    """Return an inspection as one JSON object; `messages` has the message of each pending revision's script."""
    drift, stamp = inspection.drift, inspection.stamp
    return {
        "verdict": drift.verdict,
        "drift": str(drift),
        "stamped": list(drift.stamped),
        "expected": list(drift.expected),
        "pending": list(drift.pending),
        "deferred": list(drift.deferred),
        "target": drift.target,
        "messages": drift.messages,
        "unknown": list(drift.unknown),
        "redundant": list(drift.redundant),
        "missing": [item._asdict() for item in drift.missing],
        "missing_total": drift.missing_total,
        "database": stamp.database,
        "schema": stamp.schema,
        "migrating": str(stamp.migrator) if stamp.migrator else None,
        **(_schemas_as_json(drift.schemas, inspection.schemas or ()) if drift.schemas else {}),
    }


def _schemas_as_json(counts: SchemaCounts, states: Sequence[SchemaState]) -> dict[str, object]:
    """Count the schemas, and list the first that are not at the head; the other fields are those of `example`."""
    rest = [state for state in states if state.drift.verdict not in {Verdict.CURRENT, Verdict.DEFERRED}]
    listed = [
        {"schema": state.name, "verdict": state.drift.verdict, "stamped": first_ids(state.drift.stamped)}
        for state in rest[:MAX_SCHEMAS_LISTED]
    ]
    fields = {
        "total": counts.total,
        "by_verdict": counts.by_verdict(),
        "example": counts.example,
        "not_current": listed,
    }
    return {"schemas": fields}


def _as_text(inspection: Inspection) -> str:
    drift, stamp = inspection.drift, inspection.stamp
    lines = [f"{drift.verdict} {drift}", messages.finding(drift, stamp.database, inspection.table)]
    if listed := _listed(drift):
        shown = listed[:MAX_PENDING_LINES]
        lines += [f"  {printable(id_)}  {printable(drift.messages[id_])}".rstrip() for id_ in shown]
        if more := len(listed) - len(shown):
            lines.append(f"  and {more} more; --json lists all")
    if drift.missing:
        lines += [f"  missing: {item}" for item in drift.missing[:MAX_MISSING_LINES]]
        if more := drift.missing_total - len(drift.missing[:MAX_MISSING_LINES]):
            lines.append(f"  missing: {more} more")
    if remedy := messages.remedy(drift, stamp.migrator, standby=stamp.standby, role=stamp.role):
        lines.append(remedy)
    if drift.redundant:
        lines.append(f"WARNING {messages.redundant_rows(drift)}")
    return "\n".join(lines)


def _listed(drift: Drift) -> tuple[str, ...]:
    """Return the revisions to list below the verdict."""
    if drift.stamp_verdict is Verdict.DEFERRED:
        return drift.deferred
    return drift.pending if drift.verdict in {Verdict.BEHIND, Verdict.EMPTY} else ()


def _check_busy(arguments: Arguments) -> int:
    """Return 75 while a migration is running, else 0.

    An updater runs this as its pre-update hook. An error is 0, too, so that a broken image is updated (hazards.md 8).
    """
    try:
        report = report_busy(load(arguments, defaults=BUSY_TIMEOUTS))
    except GateError as error:
        report_failure(error, arguments)
        return 0
    print_report(report, arguments)
    return report.code


def report_busy(project: Project) -> Report:
    """Report whether a migration of one history is running."""
    try:
        inspector = project.inspector(migrating=True)
        migrator = inspector.inspect(limit=BUSY_TIMEOUT).stamp.migrator
    except VersionTableLocked as error:
        migrator = error.migrator
    text = f"Migrating now: {printable(hide_in_message(str(migrator)))}." if migrator else "Nobody is migrating."
    return Report({"migrating": str(migrator) if migrator else None}, text, 75 if migrator else 0)


def load(
    arguments: Arguments,
    *,
    whole: bool = False,
    with_expectations: bool = True,
    defaults: Mapping[str, str] | None = None,
) -> Project:
    """Read the settings and the image, and print warnings about them; raises `BadSettings` and `BadScripts`.

    `defaults`: of variables that are not set.
    """
    current = read_settings(arguments, defaults)
    [history] = arguments.histories
    project = load_project(
        current,
        history.config,
        history.section,
        whole=whole,
        post_deploy=applies_post_deploy(arguments, current),
        with_expectations=with_expectations,
    )
    for warning in project.warnings().values():
        print_error(warning)
    return project


def read_settings(arguments: Arguments, defaults: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `defaults`: of variables that are not set."""
    return settings.read({**(defaults or {}), **os.environ}, arguments.flags)


def applies_post_deploy(arguments: Arguments, current: Settings) -> bool:
    """Whether the command is about a migration that applies the revisions that may wait."""
    return arguments.command == "plan" and current.post_deploy


def report_failure(error: GateError, arguments: Arguments) -> int:
    """Print an error, with --json also as one JSON object, and return its exit code."""
    learn()
    text = hide_in_message(error.text)
    print_error(*text.splitlines())
    if arguments.json:
        print_result(json.dumps({"verdict": None, "error": text}))
    return error.exit_code
