"""Becoming the server: `exec` with everything that gate touched put back."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from gate.errors import CommandNotExecutable, CommandNotFound
from gate.process import signals, stdio

EXECUTE_BITS = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def find_command(program: str) -> None:
    """See that there is such a command, so that nothing is migrated for one that is misspelt.

    Raises `CommandNotFound` (127) or `CommandNotExecutable` (126), as a shell has them.
    """
    if not program:
        raise CommandNotFound(
            "The command '' was not found: it is an empty word. Is the variable unset that should name it?"
        )
    folders = [""] if os.path.dirname(program) else os.get_exec_path()
    refusals = [_exec_errno(os.path.join(folder, program)) for folder in folders]
    if 0 not in refusals:
        number = next((each for each in refusals if each not in {errno.ENOENT, errno.ENOTDIR}), errno.ENOENT)
        raise _explain(program, OSError(number, os.strerror(number)))


def _exec_errno(place: str) -> int:
    """The error of an exec that is bound to fail, 0 where it may not. Root may read what it may not execute."""
    try:
        mode = os.stat(place).st_mode
    except OSError as error:
        return error.errno or errno.ENOENT
    may = os.access(place, os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    return 0 if stat.S_ISREG(mode) and mode & EXECUTE_BITS and may else errno.EACCES


def execute(command: Sequence[str]) -> NoReturn:
    """Replace this process by the command; the process id, the folder, standard streams and arguments stay.

    Raises what `find` does: what was there when gate began may be gone, or name an interpreter that is not there.
    """
    _flush()
    stdio.close_opened_streams()
    signals.restore_defaults()
    try:
        os.execvpe(command[0], list(command), original_environment())
    except OSError as error:
        raise _explain(command[0], error) from None
    except ValueError as error:
        raise CommandNotExecutable(f"The command {command[0]!r} cannot be executed: {error}.") from None


def original_environment() -> dict[str, str]:
    """The environment as gate was given it: Python adds LC_CTYPE in a container without a locale (PEP 538)."""
    given = dict(os.environ)
    with suppress(OSError):
        variables = Path("/proc/self/environ").read_bytes().split(b"\0")
        given.pop("LC_CTYPE", None)
        own = [os.fsdecode(v).partition("=")[2] for v in variables if v.startswith(b"LC_CTYPE=")]
        if own:
            given["LC_CTYPE"] = own[0]
    return given


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _explain(program: str, error: OSError) -> CommandNotFound | CommandNotExecutable:
    if error.errno in {errno.ENOENT, errno.ENOTDIR} and not ("/" in program and os.path.exists(program)):
        return CommandNotFound(f"The command {program!r} was not found; correct it, or the PATH of the image.")
    if error.errno == errno.ENOENT:
        return CommandNotExecutable(
            f"The command {program!r} names an interpreter in its first line that does not exist."
        )
    return CommandNotExecutable(f"The command {program!r} cannot be executed: {error.strerror}.")
