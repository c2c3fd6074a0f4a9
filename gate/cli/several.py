"""Commands that report on several histories: each is reported, and the worst of them decides."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from gate.cli.check import (
    BUSY_TIMEOUTS,
    Report,
    applies_post_deploy,
    read_settings,
    report_busy,
    report_check,
    report_failure,
    report_heads,
)
from gate.drift.histories import load_each
from gate.drift.project import Project
from gate.drift.schemas import SEVERITY
from gate.errors import GateError, about
from gate.process import stdio
from gate.process.stdio import print_error, print_result
from gate.redaction import hide_in_message, hide_in_value, learn
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.text import printable


class SectionReport(NamedTuple):
    """The report on one history, or the error that prevented it (`fields` then has no verdict)."""

    section: str
    report: Report

    @property
    def fields(self) -> dict[str, Any]:
        """The fields with the name of the history."""
        return {"section": self.section, **self.report.fields}

    @property
    def severity(self) -> tuple[int, int]:
        """Sorts the worst first: errors by their exit codes, then verdicts."""
        verdict = self.report.fields.get("verdict")
        return (-self.report.code, 0) if verdict is None else (0, -SEVERITY.index(verdict))


def check_all(arguments: Arguments) -> int:
    """Inspect each database once, and print each verdict; return the exit code of the worst."""
    if arguments.busy:
        return _check_busy_all(arguments)
    try:
        reports = _report_each(arguments, lambda _, project: _hidden(report_check(project)))
    except GateError as error:
        return report_failure(error, arguments)
    _print(reports, min(reports, key=lambda each: each.severity).fields, arguments)
    return max(each.report.code for each in reports)


def _check_busy_all(arguments: Arguments) -> int:
    """Return 75 while a migration of any history is running, else 0."""
    try:
        reports = _report_each(arguments, lambda _, project: _hidden(report_busy(project)), defaults=BUSY_TIMEOUTS)
    except GateError as error:
        report_failure(error, arguments)
        return 0
    busy = [each for each in reports if each.report.fields.get("migrating")]
    _print(reports, {"migrating": busy[0].fields["migrating"] if busy else None}, arguments)
    return busy[0].report.code if busy else 0


def heads_of_all(arguments: Arguments) -> int:
    """Print the heads of each history, without a database; return the exit code."""
    try:
        reports = _report_each(
            arguments, lambda _, project: _hidden(report_heads(project)), whole=True, inspecting=False
        )
    except GateError as error:
        return report_failure(error, arguments)
    failed = [each for each in reports if each.report.code]
    fields = failed[0].fields if failed else _all_heads([each.fields for each in reports])
    return _exit_code(reports, printed=_print(reports, fields, arguments))


def _all_heads(each: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    return {
        "heads": [*chain.from_iterable(fields["heads"] for fields in each)],
        "revisions": sum(fields["revisions"] for fields in each),
        "may_wait": [*chain.from_iterable(fields["may_wait"] for fields in each)],
        "target": each[0]["target"],
    }


def plan_all(arguments: Arguments) -> int:
    """Print the plan of each history; return the exit code of the first with which `gate migrate` would fail."""
    from gate.cli.plan import print_bypassed, report_plan  # noqa: PLC0415 - the other commands load none of it

    if settings.bypassed(os.environ):
        return print_bypassed(arguments)
    try:
        reports = _report_each(
            arguments, lambda section, project: report_plan(project, arguments, section), whole=True, migrating=True
        )
    except GateError as error:
        return report_failure(error, arguments)
    verdict = min(reports, key=lambda each: each.severity).fields["verdict"]
    return _exit_code(reports, printed=_print(reports, {"verdict": verdict}, arguments))


def _exit_code(reports: Sequence[SectionReport], *, printed: bool) -> int:
    codes = [each.report.code for each in reports if each.report.code]
    return codes[0] if codes else 0 if printed else GateError.exit_code


def _report_each(
    arguments: Arguments,
    report: Callable[[str, Project], Report],
    *,
    defaults: Mapping[str, str] | None = None,
    whole: bool = False,
    migrating: bool = False,
    inspecting: bool = True,
) -> list[SectionReport]:
    """Report on each history; an error of one does not keep the others from being reported.

    The keywords are those of `load_each`. Raises `BadSettings` if a setting is wrong, since it holds for all.
    """
    current = read_settings(arguments, defaults)
    loaded = load_each(
        current,
        arguments.histories,
        whole=whole,
        post_deploy=applies_post_deploy(arguments, current),
        migrating=migrating,
        inspecting=inspecting,
    )
    reports = []
    for history, project in zip(arguments.histories, loaded, strict=True):
        try:
            with stdio.about(history.label), about(history.label):
                reports.append(SectionReport(history.label, _report(history.label, project, report)))
        except GateError as error:
            reports.append(SectionReport(history.label, _failed(error)))
    return reports


def _report(section: str, project: Project | GateError, report: Callable[[str, Project], Report]) -> Report:
    if isinstance(project, GateError):
        raise project
    for warning in project.warnings().values():
        print_error(warning)
    return report(section, project)


def _failed(error: GateError) -> Report:
    """Print an error, and return the report in its place."""
    learn()
    text = hide_in_message(error.text)
    print_error(*text.splitlines())
    return Report({"verdict": None, "error": hide_in_message(str(error))}, "", error.exit_code)


def _hidden(report: Report) -> Report:
    """Return the report without passwords."""
    return report._replace(fields=hide_in_value(report.fields), text=hide_in_message(report.text))


def _print(reports: Sequence[SectionReport], fields: Mapping[str, object], arguments: Arguments) -> bool:
    """Print one JSON object, or one text for each history that could be reported; return whether that was possible."""
    if arguments.json:
        return print_result(json.dumps({**fields, "histories": [each.fields for each in reports]}))
    texts = [_titled(each, as_comment=arguments.sql) for each in reports if each.report.text]
    return print_result("\n".join(texts)) if texts else True


def _titled(each: SectionReport, *, as_comment: bool) -> str:
    """Return the text with the name of the history in front of each line, or in a comment of SQL above it."""
    title = f"[{printable(each.section)}]"
    if as_comment:
        return f"-- {title}\n{each.report.text}\n"
    return "\n".join(f"{title} {line}" for line in each.report.text.splitlines())
