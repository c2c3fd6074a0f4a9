"""Alembic's own answers about an application's migration scripts, given by the Python of that application.

`python alembic_answers.py INI CODE` prints one object in JSON. CODE is Python that may bind `config`; without it, the
configuration is the INI.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory


def main(ini: str, code: str) -> None:
    """Print the heads, and what `alembic upgrade heads` would run from several points of the history."""
    names: dict[str, Any] = {"config": None}
    exec(code, names)
    scripts = ScriptDirectory.from_config(names["config"] or Config(ini))
    every = [step.revision for step in _steps(scripts, ())]
    applied = sorted({len(every) - 1, len(every) // 2, 1})
    answer = {
        "heads": sorted(_heads(scripts)),
        "at_head": sorted(_rows(every)),
        "all": _ids(every),
        "behind": [_behind(scripts, every[:count]) for count in applied],
    }
    print(f"\n{json.dumps(answer)}")  # noqa: T201 - the answer


def _behind(scripts: ScriptDirectory, applied: list[Any]) -> dict[str, list[str]]:
    rows = sorted(_rows(applied))
    return {"rows": rows, "pending": _ids(step.revision for step in _steps(scripts, rows))}


def _steps(scripts: ScriptDirectory, rows: Iterable[str]) -> list[Any]:
    current: Any = tuple(rows)
    return list(scripts._upgrade_revs("heads", current))


def _ids(revisions: Iterable[Any]) -> list[str]:
    return [revision.revision for revision in revisions]


def _rows(applied: list[Any]) -> set[str]:
    """The rows that Alembic leaves in the version table after these revisions."""
    below = {id_ for revision in applied for id_ in revision._all_down_revisions}
    return set(_ids(applied)) - below


def _heads(scripts: ScriptDirectory) -> Iterable[str]:
    try:
        return scripts.get_heads(consider_depends_on=True)
    except TypeError:  # Alembic before 1.18.5
        return scripts.revision_map._real_heads


if __name__ == "__main__":
    main(*sys.argv[1:])
