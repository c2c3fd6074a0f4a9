"""The error that ended an upgrade: its text, and the application's file and line that caused it."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence

import gate

MAX_ERROR_LENGTH = 20_000
"""Characters of an error that are reported; gate shortens them further after it has redacted the passwords."""

MAX_STATEMENT_LENGTH = 20_000
"""Characters of the failed statement that are reported; gate shortens it likewise."""

AUTOCOMMIT_BLOCK = (
    "autocommit_block() cannot commit the transaction, since env.py began it before context.begin_transaction(). Let "
    "env.py commit or roll back what it runs on the connection before context.configure()"
)
"""Alembic asserts this without a text (`MigrationContext.autocommit_block`)."""


def describe(error: BaseException) -> str:
    """Describe an error in one line, with the statement that failed; never raises."""
    error = _first_of_group(error)
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    if _is_about_autocommit_block(error):
        return f"{type(error).__name__}: {AUTOCOMMIT_BLOCK}"
    if isinstance(error, ModuleNotFoundError):
        return f"{_name_and_text(error)}. {sys.executable} runs gate and env.py: install the module there"
    statement = " ".join(_text(getattr(error, "statement", None) or "").split())[:MAX_STATEMENT_LENGTH]
    return _name_and_text(error) + (f" (in: {statement})" if statement else "")


def _name_and_text(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    text = " ".join(_text(original).split())[:MAX_ERROR_LENGTH]
    if text:
        return f"{type(original).__name__}: {text}"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    reason = " ".join(_text(cause).split())[:MAX_ERROR_LENGTH] if cause else ""
    return type(original).__name__ + (f", after {type(cause).__name__}: {reason}" if reason else "")


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an application's __str__ may raise anything
        return ""


def _first_of_group(error: BaseException) -> BaseException:
    """The first error in a group, as `asyncio.TaskGroup` raises one: the group's own text names none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_about_autocommit_block(error: BaseException) -> bool:
    if not isinstance(error, AssertionError) or _text(error):
        return False
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1:] == ["autocommit_block"]


def location_of(error: BaseException, script_folders: Sequence[str]) -> str | None:
    """The file and line of the innermost frame that is the application's own, not gate's or a library's.

    A file below `script_folders` is the application's own, even if it is installed as a package.
    """
    own = _first_of_group(error)
    if isinstance(own, SyntaxError) and own.filename and os.path.isabs(own.filename):
        return f"{own.filename}, line {own.lineno}"
    folders = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in script_folders)
    for each in (own, error):
        frames = [f for f in traceback.extract_tb(each.__traceback__) if _is_own(f.filename, folders)]
        if frames:
            return f"{frames[-1].filename}, line {frames[-1].lineno}"
    return None


def _is_own(path: str, script_folders: tuple[str, ...]) -> bool:
    return os.path.realpath(path).startswith(script_folders) or not _is_library(path)


def _is_library(path: str) -> bool:
    """Whether a file is gate's, Python's or an installed package's.

    `sys.prefix` cannot decide that: it is /usr for a distribution's Python, and an application may be in /usr/src.
    """
    installed = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    folders = (os.path.dirname(gate.__file__), *installed)
    return path.startswith(("<", *(f"{folder}{os.sep}" for folder in folders))) or "-packages" in path
