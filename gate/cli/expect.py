"""`gate expect`: record what the code needs of its database, or compare that with the file (`--check`)."""

from __future__ import annotations

import os

from gate.drift.histories import Claims
from gate.drift.project import Project, expected_file, load_project
from gate.errors import BadSettings, BadUsage, GateError, about
from gate.expect.changes import changes
from gate.expect.recorder import Recording, Request, record
from gate.files import replace_file
from gate.image.expectations import Expectations
from gate.image.expectations_file import read_expectations, render
from gate.process import stdio
from gate.process.descendants import adopt_orphans, kill_descendants
from gate.process.stdio import print_error, print_result
from gate.redaction import hide_in_message, learn
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.text import join_ids

MAX_CHANGES = 20
"""Differences that `--check` prints."""


def expect(arguments: Arguments) -> int:
    """Record, and write the file or compare with it; return the exit code."""
    if arguments.no_env_py and not arguments.models:
        print_error("--no-env-py needs the models: gate expect --no-env-py MODULE:ATTRIBUTE, such as shop.models:Base.")
        return BadUsage.exit_code
    if arguments.models and len(arguments.histories) > 1:
        print_error("MODULE:ATTRIBUTE is for one history: run gate expect once for each section, with its own models.")
        return BadUsage.exit_code
    try:
        adopt_orphans()
        projects = _load(arguments)
        return max(_expect(project, arguments) for project in projects)
    except GateError as error:
        learn()
        print_error(*hide_in_message(error.text).splitlines())
        return error.exit_code


def _load(arguments: Arguments) -> list[tuple[str, Project]]:
    """Load the project of each history, before any file is written."""
    current = settings.read(os.environ, arguments.flags)
    if (current.expected or "").lower() == "off":
        raise BadSettings("GATE_EXPECTED is off, so gate expect has no file to write. Unset it, or name a file.")
    claims = Claims()
    projects = []
    for each in arguments.histories:
        with about(each.label):
            project = load_project(current, each.config, each.section, whole=True, with_expectations=False)
            claims.claim_file(project, each.label)
            projects.append((each.label, project))
    return projects


def _expect(named: tuple[str, Project], arguments: Arguments) -> int:
    """Record what one history needs, and write its file or compare with it; return the exit code."""
    section, project = named
    with stdio.about(section), about(section):
        try:
            recording = _record(project, arguments)
        finally:
            kill_descendants()  # what the application has started in a session of its own
        for warning in recording.warnings:
            print_error(hide_in_message(warning))
        return _verify(recording.expectations) if arguments.verify else _write(recording)


def _record(project: Project, arguments: Arguments) -> Recording:
    request = Request(arguments.models, not arguments.no_env_py, arguments.python, arguments.exclude, arguments.x)
    path = expected_file(project.settings, project.configuration)
    return record(request, project.configuration, project.image.graph.heads, path)


def _write(recording: Recording) -> int:
    expectations = recording.expectations
    try:
        replace_file(expectations.path, render(expectations))
    except OSError as error:
        raise BadSettings(
            f"{expectations.path} cannot be written: {error.strerror}. Run gate expect in the build as a user who may "
            "write there, or name another file: GATE_EXPECTED."
        ) from None
    return 0 if print_result(summary(recording)) else GateError.exit_code


def summary(recording: Recording) -> str:
    """Say in one line what was recorded."""
    expectations, table = recording.expectations, recording.expectations.version_table
    tables, columns = len(expectations.tables), sum(len(each.columns) for each in expectations.tables)
    if table:
        where = f"version table {table.name}" + (f" in schema {table.schema}" if table.schema else "")
    else:
        where = (
            f"but no version table: {recording.doubt}. If gate does not find the version table by itself, set "
            "GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA"
        )
    heads = join_ids(expectations.heads)
    return hide_in_message(
        f"{expectations.path}: recorded {_count(tables, 'table')} with {_count(columns, 'column')}, "
        f"{'heads' if len(expectations.heads) > 1 else 'head'} {heads}, {where}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _verify(current: Expectations) -> int:
    """Return 0 if the file says the same, else 1, and print what differs."""
    if not os.path.lexists(current.path):
        print_error(f"{current.path} does not exist. Run gate expect without --check to write it.")
        return 1
    differences = changes(read_expectations(current.path), current)
    if not differences:
        return 0 if print_result(f"{current.path} is up to date.") else GateError.exit_code
    more = len(differences) - MAX_CHANGES
    shown = [*differences[:MAX_CHANGES], *([f"and {more} more differences"] if more > 0 else [])]
    print_error(f"{current.path} is stale. Run gate expect without --check to write it again.", *shown)
    return 1
