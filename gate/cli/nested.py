"""Which commands after `gate run --` start without a check: those that check or change the schema themselves.

In an image whose entrypoint is gate, gate would otherwise wait for the very migration that the command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from gate.cli.arguments import command_first

SCHEMA_COMMANDS = frozenset({"migrate", "plan", "check", "heads", "expect", "serve"})
"""Commands of gate that migrate or report the schema, or record what the code needs of it. `run` and `wait` admit a
server: gate checks first."""


def manages_schema(server: Sequence[str]) -> bool:
    """Whether the server's command is such a command of this gate, or any command of `alembic`."""
    if not server:
        return False
    words = command_first([*server[1:]])
    if os.path.basename(server[0]) == "alembic":
        return bool(words)
    return bool(words) and words[0] in SCHEMA_COMMANDS and _is_this_gate(server[0])


def _is_this_gate(program: str) -> bool:
    """Whether exec would run the file that runs now: another program can have the name `gate`, too."""
    path = _find(program)
    return path is not None and any(_is_same_file(path, own) for own in _own_files())


def _own_files() -> Iterator[str]:
    """The console script that started gate; for `python -m gate` the one that pip has written beside this Python."""
    if os.path.basename(sys.argv[0]) == "__main__.py":
        yield os.path.join(os.path.dirname(sys.executable), "gate")
    else:
        yield sys.argv[0]


def _find(program: str) -> str | None:
    """Return the file that exec finds for this word (POSIX, `execvp`); None if there is none."""
    folders = [""] if os.path.dirname(program) else os.get_exec_path()
    paths = (os.path.join(folder, program) for folder in folders)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _is_same_file(one: str, other: str) -> bool:
    with suppress(OSError, ValueError):
        return os.path.samefile(one, other)
    return False
