"""Loads the scripts with Alembic where parsing them is not enough: `python -m gate.image.alembic_loader`.

Alembic executes the scripts, so this runs in a child process and leaves nothing behind in gate. Its standard output and
standard error belong to the scripts, to `sitecustomize` and to whatever they start. It answers on a pipe of its own,
with one line of JSON: `{"revisions": [...]}`, or `{"error": "…"}`.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import suppress
from typing import Any

from gate.descriptors import InheritedDescriptor
from gate.errors import BadScripts
from gate.files import read_regular_file
from gate.image import child_answer
from gate.image.alembic_config import Configuration
from gate.image.revision_graph import Revision
from gate.image.script_parser import (
    MAX_SCRIPT_SIZE,
    POST_DEPLOY,
    line_of,
    misspelled,
    misspelled_flag,
    not_a_flag,
    parse,
)
from gate.redaction import hide
from gate.text import truncate

MAX_ERROR_LENGTH = 500
"""Characters of Alembic's error that a message quotes."""

MAX_REPORTED_LENGTH = 20_000
"""Characters of an error that are reported; gate shortens them further after it has redacted the passwords."""

LOAD_TIMEOUT = 120.0
"""Seconds for importing all scripts; 10,000 take about four."""


def load(configuration: Configuration, reason: str) -> list[Revision]:
    """Let Alembic load the scripts in a child process.

    `reason`: why gate cannot parse them. Raises `BadScripts` with this reason and Alembic's error.
    """
    answer = _ask(configuration.ini, configuration.toml, configuration.section)
    if "revisions" not in answer:
        shortened = truncate(hide(str(answer["error"])), MAX_ERROR_LENGTH).rstrip(".")
        raise BadScripts(f"{reason}, and Alembic cannot load it either: {shortened}.")
    return [_revision(each) for each in answer["revisions"]]


def _ask(*arguments: str) -> dict[str, Any]:
    try:
        return child_answer.run(
            lambda descriptor: [sys.executable, "-P", "-m", __name__, str(descriptor), *arguments],
            lambda answer: bool(answer.keys() & {"revisions", "error"}),
            LOAD_TIMEOUT,
        )
    except child_answer.NoAnswer as reason:
        return {"error": f"its process {reason}"}


def _revision(fields: dict[str, object]) -> Revision:
    path = str(fields["path"])
    if name := str(fields.pop("misspelled_flag", "")):
        raise BadScripts(misspelled(path, _line_of(path, name), name))
    if type_name := fields.pop("post_deploy_type", ""):
        raise BadScripts(not_a_flag(path, _line_of(path, POST_DEPLOY), str(type_name)))
    tuples = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return Revision(**{**fields, **tuples})  # type: ignore[arg-type] # written by `loaded_revisions`


def _line_of(path: str, name: str) -> int:
    """Return the line that binds a name; 1 where only bytecode is left, or another module binds it."""
    with suppress(OSError, BadScripts):
        return line_of(parse(read_regular_file(path, MAX_SCRIPT_SIZE), path), name)
    return 1


def loaded_revisions(ini: str, toml: str, section: str) -> dict[str, object]:
    """Load all scripts with Alembic and return their revisions as JSON values, in Alembic's order."""
    from alembic.config import Config  # noqa: PLC0415 - only the child process imports Alembic
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    directory = ScriptDirectory.from_config(Config(ini, toml_file=toml, ini_section=section))
    # The public walk_revisions() raises for a broken graph; RevisionGraph reports the files that break it.
    scripts = directory._load_revisions()  # noqa: SLF001 - see above
    return {"revisions": [_to_fields(script) for script in scripts]}


def _to_fields(script: object) -> dict[str, object]:
    """The fields of a `Revision`, and what is wrong with `post_deploy`.

    `post_deploy_type`: what it is instead of a bool, "" if it is one; `misspelled_flag`: a name that must mean it.
    """
    from alembic.util import to_tuple  # noqa: PLC0415

    # Without the module's `__getattr__`, which answers to any name.
    names = vars(script.module)  # type: ignore[attr-defined]
    post_deploy = names.get(POST_DEPLOY, False)
    is_flag = isinstance(post_deploy, bool)
    revision = Revision(
        id=script.revision,  # type: ignore[attr-defined]
        down=to_tuple(script.down_revision, default=()),  # type: ignore[attr-defined]
        depends_on=to_tuple(script.dependencies, default=()),  # type: ignore[attr-defined]
        labels=tuple(script._orig_branch_labels),  # type: ignore[attr-defined] # noqa: SLF001 - without inherited ones
        message=" ".join(script.doc.split()),  # type: ignore[attr-defined]
        path=script.path,  # type: ignore[attr-defined]
        post_deploy=is_flag and post_deploy,
    )
    type_name = "" if is_flag else type(post_deploy).__name__
    return {**revision._asdict(), "post_deploy_type": type_name, "misspelled_flag": misspelled_flag(names)}


def main() -> None:
    """Load the scripts, answer, and exit at once: an exit function or a thread of a script could hang."""
    warnings.simplefilter("ignore")
    pipe, process = InheritedDescriptor(int(sys.argv[1])), os.getpid()
    try:
        answer = loaded_revisions(*sys.argv[2:5])
    except BaseException as error:  # noqa: BLE001 - scripts may raise anything; all of it is reported
        answer = {"error": _describe(error)}
    if os.getpid() == process:  # not in a process that a script has forked
        pipe.write(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())[:MAX_REPORTED_LENGTH]
    if isinstance(error, ModuleNotFoundError):
        text += f" in {sys.executable}, which runs gate"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
