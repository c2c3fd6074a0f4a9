"""The image: its migration scripts, read as text into one `Image`; Alembic is asked where text is not enough."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gate.configuration import Configuration
from gate.errors import BadScripts
from gate.revisions import Graph
from gate.script_text import NotLiteral, Script, VersionTable, read_environment, read_script

LONGEST = 8 << 20
"""Bytes; a longer script is data in the wrong place, and reading it would cost the container's memory."""


@dataclass(frozen=True, slots=True)
class Image:
    """What the image expects. `asked_alembic`: why text was not enough, "" if it was."""

    graph: Graph
    version_table: VersionTable
    asked_alembic: str = ""


def read(configuration: Configuration) -> Image:
    """Read all scripts of the image.

    Raises `BadScripts` with the file, and the line where there is one.
    """
    version_table = _read_environment(configuration.script_location / "env.py")
    scripts, because = _read_scripts(configuration)
    if because:
        from gate.alembic_loader import ask  # noqa: PLC0415 - only for scripts that compute their revision

        return Image(Graph(ask(configuration, because)), version_table, because)
    return Image(Graph(script.revision for script in scripts), version_table)


def _read_environment(path: Path) -> VersionTable:
    try:
        return read_environment(path.read_bytes(), str(path))
    except FileNotFoundError:
        return VersionTable()
    except OSError as error:
        raise BadScripts(f"{path} cannot be read: {error.strerror}.") from None


def _read_scripts(configuration: Configuration) -> tuple[list[Script], str]:
    scripts: list[Script] = []
    for path in _files(configuration):
        if not path.endswith(".py"):
            return [], f"{path} is compiled and cannot be read as text"
        found = read_script(_source(path), path, os.path.basename(path))
        if isinstance(found, NotLiteral):
            return [], f"{found.path}, line {found.line}: {found.name} is computed and cannot be read as text"
        scripts.append(found)
    return scripts, _unexplained_label(scripts)


def _unexplained_label(scripts: list[Script]) -> str:
    """Computed labels matter only where a `depends_on` may mean one."""
    computed = [script.revision.path for script in scripts if script.opaque_labels]
    names = {n for script in scripts for n in (script.revision.id, *script.revision.labels)} if computed else set()
    if any(name not in names for script in scripts if computed for name in script.revision.depends_on):
        return f"{computed[0]}: branch_labels is computed and cannot be read as text"
    return ""


def _files(configuration: Configuration) -> Iterator[str]:
    """The files that Alembic would load, in its order (its `Script._list_py_dir` and `_from_path`)."""
    seen: set[str] = set()
    for location in configuration.version_locations:
        for folder, folders, names in os.walk(os.path.realpath(location), onerror=_unreadable_folder):
            if folder.endswith("__pycache__"):
                continue
            _refuse_script_folders(folder, folders, recursive=configuration.recursive)
            compiled = _compiled(folder, names) if configuration.sourceless else []
            for name in (*sorted(names), *compiled):
                path = _real(folder, name)
                if _is_script(os.path.basename(path), sourceless=configuration.sourceless) and path not in seen:
                    seen.add(path)
                    yield path
            if not configuration.recursive:
                break
            folders.sort()


def _is_script(name: str, *, sourceless: bool) -> bool:
    endings = (".py", ".pyc", ".pyo") if sourceless else (".py",)
    return name.endswith(endings) and not name.startswith((".#", "__init__"))


def _compiled(folder: str, names: list[str]) -> list[str]:
    """What `sourceless` adds: cached bytecode whose source is gone."""
    cache = os.path.join(folder, "__pycache__")
    sources = {name.split(".")[0] for name in names}
    found = os.listdir(cache) if os.path.isdir(cache) else []
    return [os.path.join("__pycache__", name) for name in sorted(found) if name.split(".")[0] not in sources]


def _real(folder: str, name: str) -> str:
    path = os.path.join(folder, name)
    return os.path.realpath(path) if os.path.islink(path) else path


def _refuse_script_folders(folder: str, folders: list[str], *, recursive: bool) -> None:
    for name in folders:
        if name.endswith(".py") and not recursive:
            raise BadScripts(
                f"{os.path.join(folder, name)}, line 1: a folder stands where a script should be "
                "(a container mount makes one when its source is missing); put the script there."
            )


def _unreadable_folder(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise BadScripts(f"{error.filename} cannot be listed: {error.strerror}; make it readable for this user.")


def _source(path: str) -> bytes:
    try:
        # O_NONBLOCK: a named pipe by a script's name must not hold the gate
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadScripts(f"{path}, line 1: this is no regular file; put the script there.")
            if status.st_size > LONGEST:
                raise BadScripts(f"{path}, line 1: {status.st_size >> 20} MB are too long for a migration script.")
            return file.read()
    except OSError as error:
        raise BadScripts(f"{path}, line 1: cannot be read: {error.strerror}; make it readable for this user.") from None
