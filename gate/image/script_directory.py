"""The image: its migration scripts, read as text into one `Image`; Alembic is asked where text is not enough."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from struct import pack
from typing import NamedTuple

from gate.errors import BadScripts
from gate.image import plain_script
from gate.image.alembic_config import Configuration
from gate.image.env_py import VersionTable, read_env_py
from gate.image.revision_graph import RevisionGraph
from gate.image.script_parser import NotLiteral, Script, check_syntax, read_script

CHECK_SYNTAX_LIMIT = 250
"""Up to so many scripts each look sees that Python can read all of each (0.1 ms a script). Beyond, what an applied
script does in its functions is left to `gate heads` at build time and to the migration itself."""

MAX_SCRIPT_SIZE = 8 << 20
"""Bytes; a longer script is data in the wrong place, and reading it would cost the container's memory."""


class Image(NamedTuple):
    """What the image expects. `asked_alembic`: why text was not enough, "" if it was."""

    graph: RevisionGraph
    version_table: VersionTable
    asked_alembic: str = ""


def read(configuration: Configuration, *, whole: bool = False) -> Image:
    """Read all scripts of the image; `whole` = see also that Python can read every line of them.

    Raises `BadScripts` with the file, and the line where there is one.
    """
    version_table = _read_environment(configuration.script_location / "env.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old escape in somebody's script is not gate's to report
        scripts, because = _read_scripts(configuration, whole=whole)
    if because:
        from gate.image.alembic_loader import load  # noqa: PLC0415 - only for scripts that compute their revision

        return Image(RevisionGraph(load(configuration, because)), version_table, because)
    return Image(RevisionGraph(script.revision for script in scripts), version_table)


def _read_environment(path: Path) -> VersionTable:
    try:
        return read_env_py(path.read_bytes(), str(path))
    except FileNotFoundError:
        return VersionTable()
    except OSError as error:
        raise BadScripts(f"{path} cannot be read: {error.strerror}.") from None


def _read_scripts(configuration: Configuration, *, whole: bool) -> tuple[list[Script], str]:
    scripts: list[Script] = []
    files = list(_files(configuration))
    whole = whole or len(files) <= CHECK_SYNTAX_LIMIT
    for path in files:
        if not path.endswith(".py"):
            return [], f"{path} is compiled and cannot be read as text"
        found = _read_script(path, whole=whole)
        if isinstance(found, NotLiteral):
            return [], f"{found.path}, line {found.line}: {found.name} is computed and cannot be read as text"
        scripts.append(found)
    return scripts, _computed_label(scripts)


def _read_script(path: str, *, whole: bool) -> Script | NotLiteral:
    source = _read_source(path)
    plain = plain_script.read(source, path)
    if plain is None:
        return read_script(source, path, os.path.basename(path))
    if whole and not has_valid_bytecode(path):
        check_syntax(source, path)
    return Script(plain)


def _computed_label(scripts: list[Script]) -> str:
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
        for path in _list_files(os.path.realpath(location), configuration):
            if _is_script(os.path.basename(path), sourceless=configuration.sourceless) and path not in seen:
                seen.add(path)
                yield path


def _list_files(folder: str, configuration: Configuration) -> Iterator[str]:
    entries = sorted(_entries(folder), key=lambda entry: entry.name)
    folders = [entry for entry in entries if _is_folder(entry)]
    files = [entry for entry in entries if not _is_folder(entry)]
    _reject_script_folders(folders, recursive=configuration.recursive)
    for entry in files:
        yield os.path.realpath(entry.path) if entry.is_symlink() else entry.path
    if configuration.sourceless:
        yield from _compiled(folder, [entry.name for entry in files])
    for entry in folders if configuration.recursive else ():
        if not entry.name.endswith("__pycache__") and not entry.is_symlink():
            yield from _list_files(entry.path, configuration)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadScripts(f"{folder} cannot be listed: {error.strerror}; make it readable for this user.") from None


def _is_script(name: str, *, sourceless: bool) -> bool:
    endings = (".py", ".pyc", ".pyo") if sourceless else (".py",)
    return name.endswith(endings) and not name.startswith((".#", "__init__")) and "\n" not in name


def _compiled(folder: str, names: list[str]) -> list[str]:
    """What `sourceless` adds: cached bytecode whose source is gone."""
    cache = os.path.join(folder, "__pycache__")
    sources = {name.split(".")[0] for name in names}
    return [entry.path for entry in _entries(cache) if entry.name.split(".")[0] not in sources]


def _reject_script_folders(folders: list[os.DirEntry[str]], *, recursive: bool) -> None:
    for entry in folders:
        if entry.name.endswith(".py") and not recursive:
            raise BadScripts(
                f"{entry.path}, line 1: a folder stands where a script should be "
                "(a container mount makes one when its source is missing); put the script there."
            )


def _read_source(path: str) -> bytes:
    try:
        # O_NONBLOCK: a named pipe by a script's name must not hold the gate
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadScripts(f"{path}, line 1: this is no regular file; put the script there.")
        if status.st_size > MAX_SCRIPT_SIZE:
            raise BadScripts(f"{path}, line 1: {status.st_size >> 20} MB are too long for a migration script.")
        return _read_all(descriptor, status.st_size)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    content = os.read(descriptor, size + 1)
    while len(content) < size and (more := os.read(descriptor, size)):
        content += more
    return content


def _unreadable(path: str, error: OSError) -> BadScripts:
    return BadScripts(f"{path}, line 1: cannot be read: {error.strerror}; make it readable for this user.")


TIMESTAMP_HEADER = MAGIC_NUMBER + bytes(4)
"""How a cache begins that holds the time and the size of its source (PEP 552), as Python writes it on its own."""

HEADER_SIZE = 16
"""Bytes: the magic number, flags, time and size."""


def has_valid_bytecode(path: str) -> bool:
    """Whether a valid cache of this source shows that Python can read all of it; judged as an import judges it."""
    try:
        source = os.stat(path)
        descriptor = os.open(cache_from_source(path), os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, NotImplementedError):  # nothing is cached, or this Python caches nothing
        return False
    try:
        header = os.read(descriptor, HEADER_SIZE)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return header == TIMESTAMP_HEADER + pack("<II", int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
