"""The facts of a failed `gate expect` -> one message: what is wrong, where, and what to do.

Pure. The place is the file and line of the innermost frame that is the application's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from posixpath import dirname, join, normpath
from typing import Any, NamedTuple

from gate.redaction import hide, shorten
from gate.text import join_ids, printable, truncate

MAX_REASON_LENGTH = 500
"""Characters of the application's error that a message quotes."""

MAX_SUBJECT_LENGTH = 200
"""Characters of a name from the application that a message quotes."""

DUMMY_URL = "postgresql://build@localhost/build"

NO_ENV_PY = "or leave env.py out and name the models: gate expect --no-env-py MODULE:ATTRIBUTE"

OFFLINE = "an offline branch (if context.is_offline_mode(), as in the env.py of `alembic init`)"

ACCEPTED = "a MetaData, a declarative base, a registry, SQLModel, Flask-SQLAlchemy's db, or a sequence of them"

SET_VARIABLE = (
    "If the code needs a variable, set it for this command only, such as RUN DATABASE_URL="
    f"{DUMMY_URL} gate expect; gate expect connects to no database"
)

INTERPRETER = "name the application's own interpreter with --python PATH"


class Program(NamedTuple):
    """What was executed: the interpreter, and the file env.py."""

    interpreter: str
    env_py: str


class _Message(NamedTuple):
    """`place`: file and line, "" if there is none; `reason`: the text of the application's error."""

    finding: str
    remedy: str
    place: str = ""
    reason: str = ""

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        finding = self.finding if place else self.finding[:1].upper() + self.finding[1:]
        reason = f": {self.reason.rstrip('.')}" if self.reason else ""
        return f"{place}{finding}{reason}. {self.remedy}."


def explain(failure: Mapping[str, Any], program: Program) -> str:
    """Return the message for what `child` has reported. Passwords in the application's text are redacted."""
    error = failure.get("error")
    facts = {key: _subject(value) for key, value in failure.items() if isinstance(value, str)}
    if not isinstance(error, dict):
        return str(_of_names(facts, failure, program))
    place = place_of(error["frames"], failure, dirname(program.env_py))
    reason = _reason(error)
    if failure["kind"] == "library":
        finding = f"the interpreter {program.interpreter} cannot import {facts['library']}"
        return str(_Message(finding, f"Install the library there, or {INTERPRETER}", "", reason))
    if failure["kind"] == "import" and _is_named(error["module"], facts["module"]) and not place and _missing(error):
        return str(_no_module(facts, error, program))
    place = place or (program.env_py if failure["kind"] == "env.py" else "")
    return str(_of_error(failure, facts, error, program)._replace(place=place))


def _of_names(facts: Mapping[str, str], failure: Mapping[str, Any], program: Program) -> _Message:
    match failure["kind"]:
        case "not configured":
            finding = "running env.py in Alembic's offline mode does not call context.configure"
            return _Message(finding, f"Give it {OFFLINE}, {NO_ENV_PY}", program.env_py)
        case "no attribute":
            others = join_ids([_subject(other) for other in failure["others"]])
            remedy = f"Correct the name; {'the module has ' + others if others else 'name ' + ACCEPTED}"
            return _Message(f"there is no attribute {facts['attribute']} in {facts['name']}", remedy)
        case "no metadata":
            finding = f"the object {facts['name']} ({facts['type']}) is no MetaData and no declarative base"
            return _Message(finding, f"Name {ACCEPTED}")
        case "no target metadata":
            finding = f"env.py passes no MetaData to context.configure: target_metadata is {facts.get('type', 'None')}"
            remedy = "Let it pass the MetaData of the models, or name the models: gate expect MODULE:ATTRIBUTE"
            return _Message(finding, remedy, program.env_py)
        case "info":
            remedy = 'The values are "ignore" and "read-only"; correct the definition of the table'
            return _Message(f'table {facts["table"]} has info={{"gate": {facts["mark"]}}}', remedy)
    return _Message("gate expect has failed", "Please report it")


def _no_module(facts: Mapping[str, str], error: Mapping[str, Any], program: Program) -> _Message:
    return _Message(
        f"there is no module {_subject(error['module'])}, which {facts['name']} names",
        f"{program.interpreter} looks for it in {facts['folder']}, in prepend_sys_path of the Alembic configuration "
        f"and among its packages: correct the name, run gate in the project's folder, or {INTERPRETER}",
    )


def _of_error(
    failure: Mapping[str, Any], facts: Mapping[str, str], error: Mapping[str, Any], program: Program
) -> _Message:
    kind = failure["kind"]
    subject = _subjects(facts)[kind]
    place = place_of(error["frames"], failure, dirname(program.env_py))
    if "TimeLimit" in error["kinds"]:
        return _Message(f"{subject} does not end in time", "Let the code wait for nothing while it is imported")
    in_env_py = kind == "env.py" and place.rpartition(", line ")[0] == program.env_py
    if failure.get("configured") or (error["refused"] and in_env_py):
        return _Message(
            "env.py connects to a database, although Alembic is in offline mode, and in the build there is none",
            f"Give it {OFFLINE} and let it connect in the other one only, {NO_ENV_PY}",
        )
    if error["refused"]:
        return _Message(
            f"{subject} fails, since this connects to a database while it is imported, and in the build there is none",
            "Connect when the application starts, or name a module that only has the models: gate expect "
            "MODULE:ATTRIBUTE" + (" --no-env-py" if kind == "env.py" else ""),
        )
    return _Message(f"{subject} fails", _remedy(kind, error, program), reason=_reason(error))


def _subjects(facts: Mapping[str, str]) -> dict[str, str]:
    """Return what was executed, by kind of failure."""
    return {
        "import": f"importing {facts.get('module', '')}",
        "reading": f"reading {facts.get('name', '')}",
        "env.py": "running env.py in Alembic's offline mode",
        "configuration": "reading the Alembic configuration",
        "flask": "loading the Flask application, which env.py uses,",
        "filters": "a filter of env.py (include_name or include_object) or reading the tables",
        "itself": "gate expect",
    }


def _remedy(kind: str, error: Mapping[str, Any], program: Program) -> str:
    around = f", {NO_ENV_PY}" if kind in {"env.py", "flask", "filters"} else ""
    if _missing(error):
        return f"Install the module for {program.interpreter}, which runs the code, or {INTERPRETER}{around}"
    name = _subject(error["argument"])
    if error["type"] == "KeyError" and name.isupper():
        value = DUMMY_URL if name.endswith(("URL", "URI", "DSN")) else "…"
        return f"Set the variable for this command only: RUN {name}={value} gate expect{around}"
    if kind == "flask":
        return f"Set FLASK_APP for this command as for `flask db`{around}. {SET_VARIABLE}"
    if "SyntaxError" in error["kinds"]:
        return "Correct the file"
    return f"Correct the code{around}. {SET_VARIABLE}"


def _missing(error: Mapping[str, Any]) -> bool:
    return "ModuleNotFoundError" in error["kinds"]


def _is_named(missing: str, module: str) -> bool:
    """Whether the missing module is the named one or a package around it."""
    return bool(missing) and f"{module}.".startswith(f"{missing}.")


def _reason(error: Mapping[str, Any]) -> str:
    text = shorten(error["text"], MAX_REASON_LENGTH)
    if error["type"] == "SystemExit":
        return f"it calls sys.exit({text})"
    return f"{error['type']}: {text}" if text else str(error["type"])


def _subject(text: str) -> str:
    return truncate(printable(hide(text)), MAX_SUBJECT_LENGTH)


def place_of(frames: Sequence[Sequence[Any]], failure: Mapping[str, Any], script_folder: str) -> str:
    """Return file and line of the innermost frame that is the application's own, "" if there is none.

    A file of an installed package counts only if there is no other, since an application may be a package; one of
    Python, Alembic or SQLAlchemy never does.
    """
    libraries = tuple(f"{normpath(folder)}/" for folder in failure.get("libraries", ()))
    paths = [(normpath(join(failure.get("start", ""), path)), line) for path, line in frames if "<" not in path]
    paths = [frame for frame in paths if dirname(frame[0]) != dirname(__file__)]
    own = [frame for frame in paths if _is_own(frame[0], libraries, script_folder)]
    installed = [frame for frame in paths if "-packages/" in frame[0] and not _is_framework(frame[0])]
    found = (own or installed)[-1:]
    return f"{found[0][0]}, line {found[0][1]}" if found else ""


def _is_own(path: str, libraries: tuple[str, ...], script_folder: str) -> bool:
    return path.startswith(f"{normpath(script_folder)}/") or not (path.startswith(libraries) or "-packages/" in path)


def _is_framework(path: str) -> bool:
    return any(f"-packages/{name}/" in path for name in ("alembic", "sqlalchemy", "flask", "flask_sqlalchemy"))
