"""Alembic's own loader, asked when a script cannot be read as text: `python -m gate.alembic_loader`.

It runs the project's scripts, so it is a process of its own that leaves nothing behind in gate. It prints one
JSON object: `{"revisions": [...]}`, or `{"error": "…"}`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import warnings

from gate.errors import BadScripts
from gate.image.alembic_config import Configuration
from gate.image.revision_graph import Revision
from gate.redaction import hide

MAX_ERROR_LENGTH = 500
"""Characters of what Alembic said."""

LOAD_TIMEOUT = 120
"""Seconds that importing all scripts may take; a project of 10,000 revisions needs about four."""


def load(configuration: Configuration, because: str) -> list[Revision]:
    """Let Alembic load the project's scripts in a process of its own.

    Raises `BadScripts` with both reasons: why gate asked, and what Alembic said.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        __name__,
        configuration.ini,
        configuration.toml,
        configuration.section,
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOAD_TIMEOUT, check=False)
        answer = json.loads(done.stdout or b"null") or {}
    except subprocess.TimeoutExpired:
        answer = {"error": f"it did not finish within {LOAD_TIMEOUT} s"}
    except ValueError:
        answer = {}
    if "revisions" not in answer:
        shortened = hide(answer.get("error", "its process died"))[:MAX_ERROR_LENGTH]
        raise BadScripts(f"{because}, and Alembic cannot load it either: {shortened}.")
    return [_revision(each) for each in answer["revisions"]]


def _revision(fields: dict[str, object]) -> Revision:
    tuples = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return Revision(**{**fields, **tuples})  # type: ignore[arg-type] # what `answer` wrote


def loaded_revisions(ini: str, toml: str, section: str) -> dict[str, object]:
    """Load all scripts as Alembic does and tell their revisions, in Alembic's order."""
    from alembic.config import Config  # noqa: PLC0415 - only this process pays for Alembic
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    directory = ScriptDirectory.from_config(Config(ini, toml_file=toml, ini_section=section))
    return {"revisions": [_to_revision(script)._asdict() for script in directory._load_revisions()]}  # noqa: SLF001 - see below


def _to_revision(script: object) -> Revision:
    # The public walk_revisions() refuses a broken graph; gate wants the revisions to say itself what is broken.
    from alembic.util import to_tuple  # noqa: PLC0415

    return Revision(
        id=script.revision,  # type: ignore[attr-defined]
        down=to_tuple(script.down_revision, default=()),  # type: ignore[attr-defined]
        depends_on=to_tuple(script.dependencies, default=()),  # type: ignore[attr-defined]
        labels=tuple(script._orig_branch_labels),  # type: ignore[attr-defined] # noqa: SLF001
        message=" ".join(script.doc.split()),  # type: ignore[attr-defined]
        path=script.path,  # type: ignore[attr-defined]
    )


def main() -> None:
    """Answer on standard output; whatever the scripts print goes to standard error."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = loaded_revisions(*sys.argv[1:4])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - scripts may raise anything; all of it is told
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:20000]}"}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
