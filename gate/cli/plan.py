"""`gate plan`: print what `gate migrate` would do now, without a lock and without a change."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from gate.cli.check import Report, load, report_failure
from gate.drift import messages
from gate.drift.decision import decide_for
from gate.drift.inspector import Inspection, Inspector
from gate.drift.project import Project
from gate.drift.schemas import SchemasInspector
from gate.errors import BadSettings, GateError, Refused
from gate.image.revision_graph import RevisionGraph
from gate.migration.plan import Plan, command_for, upgrade_targets
from gate.migration.preview import Preview, RevisionPreview, as_sql
from gate.migration.progress import command_line
from gate.migration.rendering import Rendering, render
from gate.process.stdio import print_error, print_result
from gate.redaction import learn
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.settings.settings import Decision
from gate.text import join_ids, printable
from gate.waiting.builder import migrate_policy, reject_unmigratable
from gate.waiting.outcome import Outcome, refusal

BYPASSED = "GATE_BYPASS is set, so gate migrate would check nothing and migrate nothing."

COMMAND_REASON = "GATE_UPGRADE_COMMAND runs the upgrade, and gate does not know its statements."


def plan(arguments: Arguments) -> int:
    """Print the plan. Return 0, or the exit code with which `gate migrate` would end before it began."""
    if settings.bypassed(os.environ):
        return print_bypassed(arguments)
    try:
        report = report_plan(load(arguments, whole=True), arguments)
    except GateError as error:
        return report_failure(error, arguments)
    printed = print_result(json.dumps(report.fields) if arguments.json else report.text)
    return report.code if printed else report.code or GateError.exit_code


def _of_one_schema(inspector: Inspector) -> Inspector:
    """Return the inspector of the one schema that GATE_SCHEMAS names; raises `BadSettings` if it names several."""
    if not isinstance(inspector, SchemasInspector):
        return inspector
    schemas = inspector.inspect().schemas or ()
    if len(schemas) != 1:
        raise BadSettings(
            f"gate plan shows one schema, and GATE_SCHEMAS ({inspector.source}) names {len(schemas)}. Name one of "
            "them: gate plan --schemas NAME."
        )
    return inspector.of(schemas[0].name)


def report_plan(project: Project, arguments: Arguments, section: str = "") -> Report:
    """Report what `gate migrate` would do with one history; `section`: which, "" = there is only one.

    The report has no password. Its SQL is as Alembic has written it.
    """
    inspector = _of_one_schema(project.inspector(migrating=True))
    reject_unmigratable(project, inspector.database)
    inspection = inspector.inspect()
    for warning in inspection.warnings.values():
        print_error(warning)
    policy = migrate_policy(project.settings)
    decision = decide_for(inspection.drift, policy)
    if decision is Decision.REFUSE:
        raise Refused(refusal(Outcome(inspection, decision), policy))
    options = _options(project, arguments, section)
    if decision is Decision.UPGRADE:
        options = options.with_target(inspection.drift)
    rendering = Rendering()
    if decision is Decision.UPGRADE and arguments.sql:
        rendering = _render(options, inspector, inspection._replace(drift=options.planned(inspection.drift)))
    learn()
    preview = _preview(project.image.graph, options, inspection, decision, rendering)
    _report_gaps(preview)
    if rendering.failure:
        print_error(rendering.failure)
    text = preview.as_sql() if arguments.sql else preview.as_text()
    code = BadSettings.exit_code if rendering.failure else 0
    return Report(preview.as_json(with_sql=arguments.sql), text, code)


def _options(project: Project, arguments: Arguments, section: str) -> Plan:
    current = project.settings
    return Plan(
        project.configuration,
        project.table.table,
        arguments.x,
        command_for(current.upgrade_command, section),
        current.migration_timeout,
        dedicated=project.has_migration_url,
        targets=upgrade_targets(project.image.graph, post_deploy=current.post_deploy),
        post_deploy=current.post_deploy,
    )


def _render(options: Plan, inspector: Inspector, inspection: Inspection) -> Rendering:
    if options.command:
        return Rendering(reasons=dict.fromkeys(inspection.drift.pending, COMMAND_REASON))
    return render(options, inspector, inspection)


def _preview(
    graph: RevisionGraph, options: Plan, inspection: Inspection, decision: Decision, rendering: Rendering
) -> Preview:
    drift, known = inspection.drift, graph.revisions
    command = command_line(options.command) if options.command else ""
    pending = options.planned(drift).pending if decision is Decision.UPGRADE else ()
    statements = {id_: as_sql(written) for id_, written in rendering.statements.items()}
    revisions = [
        RevisionPreview(
            id_,
            known[id_].message,
            known[id_].path,
            statements.get(id_),
            rendering.reasons.get(id_, ""),
            may_wait=id_ in graph.may_wait,
        )
        for id_ in pending
    ]
    return Preview(
        drift,
        inspection.stamp.database,
        tuple(_summary(inspection, pending, decision, command)),
        command,
        tuple(revisions),
        as_sql(rendering.before),
        as_sql(rendering.after),
        rendering.failure,
    )


def _summary(inspection: Inspection, pending: Sequence[str], decision: Decision, command: str) -> Iterator[str]:
    """Say what `gate migrate` would do, in whole sentences."""
    drift, stamp = inspection.drift, inspection.stamp
    yield messages.finding(drift, stamp.database, inspection.table)
    if drift.redundant:
        yield f"WARNING {messages.redundant_rows(drift)}"
    if stamp.migrator:
        yield f"Migrating now: {printable(str(stamp.migrator))}. What is pending changes until that has finished."
    if decision is Decision.WAIT:
        yield "gate migrate would wait (GATE_ON_UNKNOWN=wait)."
    elif decision is not Decision.UPGRADE:
        yield "gate migrate would apply nothing."
    elif command:
        yield f"gate migrate would run GATE_UPGRADE_COMMAND ({command}), not Alembic's upgrade. Pending:"
    else:
        yield f"gate migrate would apply {messages.revision_count(len(pending))}:"


def _report_gaps(preview: Preview) -> None:
    """Say on standard error which revisions have no SQL: a linter that reads the SQL would pass them."""
    gaps = [each.revision for each in preview.revisions if each.reason]
    if gaps:
        print_error(f"{len(gaps)} of {messages.revision_count(len(preview.revisions))} have no SQL: {join_ids(gaps)}.")


def print_bypassed(arguments: Arguments) -> int:
    """Print that `gate migrate` would do nothing; return the exit code."""
    if arguments.json:
        text = json.dumps({"verdict": None, "summary": BYPASSED, "revisions": []})
    else:
        text = f"-- {BYPASSED}" if arguments.sql else BYPASSED
    return 0 if print_result(text) else GateError.exit_code
