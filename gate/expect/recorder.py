"""Records what the code of an image needs of its database: runs `child` and turns its answer into `Expectations`."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from gate.errors import BadSettings, ResourceShortage, starting_process
from gate.expect.failures import NO_ENV_PY, Program, explain
from gate.files import read_regular_file
from gate.image import alembic_config, child_answer
from gate.image.alembic_config import Configuration
from gate.image.configure_calls import Translation, offline_doubt, read_translation
from gate.image.env_py import Expression
from gate.image.expectations import Expectations, ExpectedTable, RecordedVersionTable
from gate.image.expectations_file import MAX_TABLES, name_error
from gate.image.script_parser import MAX_SCRIPT_SIZE
from gate.text import join_ids

CHILD = str(Path(__file__).with_name("child.py"))

TIME_LIMIT = 120.0
"""Seconds for env.py and the imports; some applications take 16."""

ANSWER_TIME = 5.0
"""Seconds after the time limit in which the process reports where it was; then it is killed."""


class Request(NamedTuple):
    """What to record.

    `models`: each MODULE:ATTRIBUTE; `run_env_py`: whether env.py is run; `python`: the interpreter, None for gate's
    own; `exclude`: patterns of names to leave out; `x`: arguments for env.py; `time_limit`: in seconds.
    """

    models: tuple[str, ...] = ()
    run_env_py: bool = True
    python: str | None = None
    exclude: tuple[str, ...] = ()
    x: tuple[str, ...] = ()
    time_limit: float = TIME_LIMIT


class Recording(NamedTuple):
    """What was recorded, and what a person should know of it.

    `doubt`: why the version table is not recorded, as a clause, "" if it is; `warnings`: sentences.
    """

    expectations: Expectations
    doubt: str = ""
    warnings: tuple[str, ...] = ()


def record(request: Request, configuration: Configuration, heads: Iterable[str], path: str) -> Recording:
    """Execute the application's code in a child process and return what it needs.

    `heads`: of the migration scripts; `path`: the file for which it is recorded. Raises `BadSettings` with file and
    line for code that fails.
    """
    env_py = str(configuration.script_location / "env.py")
    source = _read_env_py(env_py) if request.run_env_py else b""
    answer = _execute(request, configuration, Program(_interpreter(request), os.path.abspath(env_py)), source)
    translation = read_translation(source, env_py)
    tables, warnings = _tables(answer, request, translation)
    doubt, version_table = "env.py was not run (--no-env-py)", None
    if request.run_env_py:
        doubt = offline_doubt(source, env_py) or _several(answer)
        version_table = None if doubt else _version_table(answer["version_tables"][0], translation)
    return Recording(Expectations(path, tuple(heads), version_table, tables), doubt, tuple(warnings))


def _interpreter(request: Request) -> str:
    return request.python or sys.executable


def _read_env_py(path: str) -> bytes:
    try:
        return read_regular_file(path, MAX_SCRIPT_SIZE)
    except OSError as error:
        raise ResourceShortage.of(error) or BadSettings(
            f"{path} cannot be read: {error.strerror}. Copy it into the image, {NO_ENV_PY}."
        ) from None


# ---- the process


def _execute(request: Request, configuration: Configuration, program: Program, source: bytes) -> dict[str, Any]:
    token, steps = secrets.token_hex(), ["starting"]
    text = json.dumps(_request(request, configuration, source) | {"token": token})

    def is_answer(answer: dict[str, Any]) -> bool:
        if answer.get("token") != token:
            return False
        steps.append(str(answer.get("step", steps[-1])))
        return "recorded" in answer or "failure" in answer

    try:
        with starting_process("the process that executes the application's code"):
            answer = child_answer.run(
                lambda descriptor: [program.interpreter, CHILD, str(descriptor), text],
                is_answer,
                request.time_limit + ANSWER_TIME,
            )
    except child_answer.NoAnswer as reason:
        raise BadSettings(_ended(str(reason), steps[-1], program)) from None
    except OSError as error:
        raise BadSettings(f"{program.interpreter} cannot be started: {error.strerror}. Correct --python.") from None
    if "failure" in answer:
        raise BadSettings(explain(answer["failure"], program))
    return dict(answer["recorded"])


def _request(request: Request, configuration: Configuration, source: bytes) -> dict[str, object]:
    return {
        "ini": os.path.abspath(configuration.ini),
        "toml": os.path.abspath(configuration.toml),
        "section": configuration.section,
        "models": request.models,
        "env_py": request.run_env_py,
        "flask": b"current_app" in source,
        "x": request.x,
        "search_path": [*map(os.path.abspath, alembic_config.prepended_paths(configuration)), os.getcwd()],
        "time_limit": request.time_limit,
    }


def _ended(reason: str, step: str, program: Program) -> str:
    if step == "starting":
        return (
            f"{program.interpreter} {reason}: it cannot run gate's script {CHILD}. Name a Python interpreter with "
            "--python PATH, and let this user read that file."
        )
    subject = f"Running {program.env_py}" if step == "env.py" else step[:1].upper() + step[1:]
    if not reason.startswith("did not"):
        subject += " failed: the process"
    around = f" {NO_ENV_PY[:1].upper()}{NO_ENV_PY[1:]}." if step == "env.py" else ""
    return (
        f"{subject} {reason}. Let the code neither end its process nor wait for anything while it is imported.{around}"
    )


# ---- the answer


def _several(answer: dict[str, Any]) -> str:
    """Why the version table is not recorded although each call agrees, "" without a reason."""
    names = sorted({".".join(filter(None, reversed(each))) for each in answer["version_tables"]})
    if len(names) > 1:
        return f"env.py configures {len(names)} version tables in one run ({join_ids(names)})"
    databases = len({*answer["urls"]})
    return f"env.py configures {databases} databases in one run" if databases > 1 else ""


def _version_table(recorded: Sequence[str | None], translation: Translation) -> RecordedVersionTable:
    name, schema = recorded
    for each in filter(None, (name, schema)):
        if reason := name_error(each):
            raise BadSettings(f"The name of the version table, {each!r}, {reason}. Correct it in env.py.")
    return RecordedVersionTable(str(name), translation.known.get(schema, schema) or None)


def _tables(
    answer: dict[str, Any], request: Request, translation: Translation
) -> tuple[tuple[ExpectedTable, ...], list[str]]:
    if not answer["declared"]:
        raise BadSettings(
            "The MetaData has no table. Import the modules of the models in env.py, or name a module that has or "
            "imports all of them: gate expect MODULE:ATTRIBUTE."
        )
    used: set[str] = set()
    tables: dict[tuple[str | None, str], ExpectedTable] = {}
    untranslatable: dict[str, Expression] = {}
    for schema, name, columns, read_only in answer["tables"]:
        if _matches(request.exclude, _table_names(schema, name), used):
            continue
        if place := translation.computed_for(schema):
            untranslatable[name] = place
            continue
        left = [c for c in columns if not _matches(request.exclude, _column_names(schema, name, c), used)]
        table = ExpectedTable(translation.known.get(schema, schema) or None, name, tuple(left), read_only)
        tables[table[:2]] = _union(tables.get(table[:2]), table)
    _reject_unusable(tables.values(), untranslatable)
    return tuple(tables[key] for key in sorted(tables, key=lambda key: (key[0] or "", key[1]))), [
        *(f"--exclude {pattern} matches no table and no column." for pattern in request.exclude if pattern not in used),
        *_left_out(untranslatable),
    ]


def _table_names(schema: str | None, table: str) -> tuple[str, ...]:
    return (table, f"{schema}.{table}") if schema else (table,)


def _column_names(schema: str | None, table: str, column: str) -> tuple[str, ...]:
    return tuple(f"{name}.{column}" for name in _table_names(schema, table))


def _matches(patterns: Iterable[str], names: Iterable[str], used: set[str]) -> bool:
    """Whether a pattern matches one of the names; remember it as used."""
    matching = [pattern for pattern in patterns for name in names if fnmatchcase(name, pattern)]
    used.update(matching)
    return bool(matching)


def _union(one: ExpectedTable | None, other: ExpectedTable) -> ExpectedTable:
    """Join two definitions of a table, of two MetaData objects or of two schemas that are translated to one."""
    columns = {*other.columns, *(one.columns if one else ())}
    read_only = other.read_only and (one is None or one.read_only)
    return other._replace(columns=tuple(sorted(columns)), read_only=read_only)


def _reject_unusable(tables: Iterable[ExpectedTable], untranslatable: dict[str, Expression]) -> None:
    tables = list(tables)
    if not tables:
        left_out = "".join(f" {sentence}" for sentence in _left_out(untranslatable))
        raise BadSettings(
            "Nothing is left to record: --exclude, env.py's filters or info={'gate': 'ignore'} leave out every "
            f"table.{left_out} Leave out less, or do not run gate expect."
        )
    if len(tables) > MAX_TABLES:
        raise BadSettings(
            f"The models have {len(tables)} tables; gate records {MAX_TABLES}. Leave some out: --exclude."
        )
    for table in tables:
        for name in (*filter(None, table[:2]), *table.columns):
            if reason := name_error(name):
                place = f"column {name!r} of table {table.name}" if name in table.columns else f"table {name!r}"
                raise BadSettings(
                    f"The name of {place} {reason}, which gate does not record. Leave it out with --exclude."
                )


def _left_out(untranslatable: dict[str, Expression]) -> list[str]:
    if not untranslatable:
        return []
    place = next(iter(untranslatable.values()))
    names = join_ids(sorted(untranslatable))
    return [f"These tables are not recorded, since env.py computes their schema ({place}): {names}."]
