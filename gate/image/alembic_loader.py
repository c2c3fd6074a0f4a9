"""Loads the scripts with Alembic where parsing them is not enough: `python -m gate.image.alembic_loader`.

Alembic executes the scripts, so this runs in a child process and leaves nothing behind in gate. It prints one JSON
object: `{"revisions": [...]}`, or `{"error": "…"}`.
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
from gate.redaction import shorten

MAX_ERROR_LENGTH = 500
"""Characters of Alembic's error that a message quotes."""

LOAD_TIMEOUT = 120
"""Seconds for importing all scripts; 10,000 take about four."""


def load(configuration: Configuration, reason: str) -> list[Revision]:
    """Let Alembic load the scripts in a child process.

    `reason`: why gate cannot parse them. Raises `BadScripts` with this reason and Alembic's error.
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
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOAD_TIMEOUT, check=False
        )
        answer = json.loads(child.stdout or b"null") or {}
    except subprocess.TimeoutExpired:
        answer = {"error": f"it did not finish within {LOAD_TIMEOUT} s"}
    except ValueError:
        answer = {}
    if "revisions" not in answer:
        shortened = shorten(answer.get("error", "the process died"), MAX_ERROR_LENGTH)
        raise BadScripts(f"{reason}, and Alembic cannot load it either: {shortened}.")
    return [_revision(each) for each in answer["revisions"]]


def _revision(fields: dict[str, object]) -> Revision:
    tuples = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return Revision(**{**fields, **tuples})  # type: ignore[arg-type] # written by `loaded_revisions`


def loaded_revisions(ini: str, toml: str, section: str) -> dict[str, object]:
    """Load all scripts with Alembic and return their revisions as JSON values, in Alembic's order."""
    from alembic.config import Config  # noqa: PLC0415 - only the child process imports Alembic
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    directory = ScriptDirectory.from_config(Config(ini, toml_file=toml, ini_section=section))
    # The public walk_revisions() raises for a broken graph; RevisionGraph reports the files that break it.
    scripts = directory._load_revisions()  # noqa: SLF001 - see above
    return {"revisions": [_to_revision(script)._asdict() for script in scripts]}


def _to_revision(script: object) -> Revision:
    from alembic.util import to_tuple  # noqa: PLC0415

    return Revision(
        id=script.revision,  # type: ignore[attr-defined]
        down=to_tuple(script.down_revision, default=()),  # type: ignore[attr-defined]
        depends_on=to_tuple(script.dependencies, default=()),  # type: ignore[attr-defined]
        labels=tuple(script._orig_branch_labels),  # type: ignore[attr-defined] # noqa: SLF001 - without inherited ones
        message=" ".join(script.doc.split()),  # type: ignore[attr-defined]
        path=script.path,  # type: ignore[attr-defined]
    )


def main() -> None:
    """Print the revisions on standard output; the scripts' own output goes to standard error."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = loaded_revisions(*sys.argv[1:4])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a script may raise anything; it is reported
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:20000]}"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
