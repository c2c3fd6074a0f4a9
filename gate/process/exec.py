"""Replaces this process by the server, with the signals, streams and environment that gate was started with."""

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
    """Check that the command can be executed, so that no migration runs for one that is misspelt.

    Raises `CommandNotFound` (127) or `CommandNotExecutable` (126): the exit codes of POSIX's shell.
    """
    if not program:
        raise CommandNotFound(
            "The command '' was not found: it is empty. Check that the variable which names it is set."
        )
    folders = [""] if os.path.dirname(program) else os.get_exec_path()
    numbers = [_exec_errno(os.path.join(folder, program)) for folder in folders]
    if 0 not in numbers:
        number = next((each for each in numbers if each not in {errno.ENOENT, errno.ENOTDIR}), errno.ENOENT)
        raise _explain(program, OSError(number, os.strerror(number)))


def _exec_errno(path: str) -> int:
    """Return the error that an exec of this file would end with, 0 if it may succeed.

    POSIX lets `access` succeed for root on a file without an execute bit, so the bits are checked, too.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.errno or errno.ENOENT
    is_permitted = os.access(path, os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    return 0 if stat.S_ISREG(mode) and mode & EXECUTE_BITS and is_permitted else errno.EACCES


def execute(command: Sequence[str]) -> NoReturn:
    """Replace this process by the command; its process id, working directory and standard streams stay.

    Raises what `find_command` raises: the file may have been removed since, or name an interpreter that does not exist.
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
    """Return the environment that gate was started with: without a locale, Python adds LC_CTYPE to it (PEP 538)."""
    environment = dict(os.environ)
    with suppress(OSError):
        variables = Path("/proc/self/environ").read_bytes().split(b"\0")
        environment.pop("LC_CTYPE", None)
        values = [os.fsdecode(v).partition("=")[2] for v in variables if v.startswith(b"LC_CTYPE=")]
        if values:
            environment["LC_CTYPE"] = values[0]
    return environment


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
