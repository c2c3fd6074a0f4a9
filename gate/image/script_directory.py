"""The migration scripts of the image -> one `Image`. They are parsed; Alembic executes them only where this fails.

`plain_script` reads most scripts with patterns, `script_parser` the others with `ast`. A plain script is also checked
for syntax errors, unless valid bytecode shows that Python has compiled it (`has_valid_bytecode`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from struct import pack
from typing import NamedTuple

from gate.errors import BadScripts, GateError, ResourceShortage, starting_process
from gate.files import FileTooLarge, NotRegularFile, read_regular_file
from gate.image import plain_script
from gate.image.alembic_config import Configuration
from gate.image.env_py import VersionTable, read_env_py
from gate.image.revision_graph import ALL_HEADS, RevisionGraph
from gate.image.script_parser import MAX_SCRIPT_SIZE, NotLiteral, Script, check_syntax, read_script

CHECK_SYNTAX_LIMIT = 250
"""Scripts up to which every check looks for syntax errors in all of them (0.1 ms for each). In a larger image, only
`gate heads` and a gate that may migrate do."""

IS_A_FOLDER = (
    "this is a folder and not a script (a container runtime creates one for a mount whose source is missing); put the "
    "script there."
)


class Image(NamedTuple):
    """What the image expects; `asked_alembic`: why Alembic had to load the scripts, "" if it did not."""

    graph: RevisionGraph
    version_table: VersionTable
    asked_alembic: str = ""


def read(configuration: Configuration, *, whole: bool = False, target: str = ALL_HEADS) -> Image:
    """Read env.py and all migration scripts.

    `whole`: check the syntax of every script, however many there are; `target`: what the image needs, in Alembic's
    revision syntax. Raises `BadScripts` with the file, and the line where there is one.
    """
    version_table = _read_environment(configuration.script_location / "env.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as a SyntaxWarning for an invalid escape sequence
        scripts, reason = _read_scripts(configuration, whole=whole)
    if reason:
        from gate.image.alembic_loader import load  # noqa: PLC0415 - few images need it

        with starting_process("the process in which Alembic loads the scripts"):
            revisions = load(configuration, reason)
    else:
        revisions = [script.revision for script in scripts]
    if not revisions:
        folders = " and ".join(map(str, configuration.version_locations))
        raise BadScripts(
            f"The image has no revisions: no migration script was found in {folders}. Copy the versions folder into "
            "the image, or correct script_location or version_locations."
        )
    graph = RevisionGraph(revisions)
    if target != ALL_HEADS:
        from gate.image.target import for_target  # noqa: PLC0415 - few deployments set a target

        graph = for_target(graph, target)
    return Image(graph, version_table, reason)


def _read_environment(path: Path) -> VersionTable:
    try:
        path.lstat()
    except FileNotFoundError:
        return VersionTable(unseen=f"{path} does not exist as a source file")
    except OSError as error:
        raise _unreadable(str(path), error) from None
    source = _read_source(str(path))
    version_table = read_env_py(source, str(path))
    if not version_table.may_repeat:
        return version_table
    from gate.image.several_tables import several_tables  # noqa: PLC0415 - most env.py have one call and no loop

    return version_table._replace(several=several_tables(source, str(path)))


def _read_scripts(configuration: Configuration, *, whole: bool) -> tuple[list[Script], str]:
    scripts: list[Script] = []
    files = list(_files(configuration))
    whole = whole or len(files) <= CHECK_SYNTAX_LIMIT
    for path in files:
        if not path.endswith(".py"):
            return [], f"{path} is compiled and cannot be read as text"
        script = _read_script(path, whole=whole)
        if isinstance(script, NotLiteral):
            return [], f"{script.path}, line {script.line}: {script.reason}"
        scripts.append(script)
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
    """Return why Alembic must load the scripts: a `depends_on` may name a label that a script computes."""
    computed = [script.revision.path for script in scripts if script.opaque_labels]
    names = {n for script in scripts for n in (script.revision.id, *script.revision.labels)} if computed else set()
    if any(name not in names for script in scripts if computed for name in script.revision.depends_on):
        return f"{computed[0]}: branch_labels is computed and cannot be read as text"
    return ""


def _files(configuration: Configuration) -> Iterator[str]:
    """Yield the files that Alembic would load, in its order (`Script._list_py_dir` and `Script._from_path`)."""
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
    except OSError:  # a loop of symbolic links
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResourceShortage.of(error) or BadScripts(
            f"{folder} cannot be listed: {error.strerror}; make it readable for this user."
        ) from None


def _is_script(name: str, *, sourceless: bool) -> bool:
    endings = (".py", ".pyc", ".pyo") if sourceless else (".py",)
    return name.endswith(endings) and not name.startswith((".#", "__init__")) and "\n" not in name


def _compiled(folder: str, names: list[str]) -> list[str]:
    """Return the files that `sourceless` adds: cached bytecode without its source."""
    cache = os.path.join(folder, "__pycache__")
    sources = {name.split(".")[0] for name in names}
    return [entry.path for entry in _entries(cache) if entry.name.split(".")[0] not in sources]


def _reject_script_folders(folders: list[os.DirEntry[str]], *, recursive: bool) -> None:
    for entry in folders:
        if entry.name.endswith(".py") and not recursive:
            raise BadScripts(f"{entry.path}, line 1: {IS_A_FOLDER}")


def _read_source(path: str) -> bytes:
    try:
        return read_regular_file(path, MAX_SCRIPT_SIZE)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: OSError) -> GateError:
    """Explain why a script cannot be read."""
    if isinstance(error, FileNotFoundError):
        return BadScripts(
            f"{path}, line 1: cannot be read: a symbolic link leads to this file, which does not exist; correct the "
            "link, or put the script here."
        )
    if isinstance(error, IsADirectoryError):
        return BadScripts(f"{path}, line 1: {IS_A_FOLDER}")
    if isinstance(error, NotRegularFile):
        return BadScripts(f"{path}, line 1: this is not a regular file; put the script there.")
    if isinstance(error, FileTooLarge):
        return BadScripts(f"{path}, line 1: more than {MAX_SCRIPT_SIZE >> 20} MB are too long for a script.")
    return ResourceShortage.of(error) or BadScripts(
        f"{path}, line 1: cannot be read: {error.strerror}; make it readable for this user."
    )


TIMESTAMP_HEADER = MAGIC_NUMBER + bytes(4)
"""The first bytes of a timestamp-based pyc file (PEP 552), the kind that Python writes by itself."""

HEADER_SIZE = 16
"""Bytes of a pyc header: magic number, flags, and the source's modification time and size (PEP 552)."""


def has_valid_bytecode(path: str) -> bool:
    """Return whether a pyc file that an import would accept shows that the script has no syntax error.

    Reading its header takes a fraction of the time for checking the syntax. With this and `plain_script`, a check of
    100 scripts takes 76 ms instead of 198 ms, and one of 1,000 scripts 115 ms instead of 1297 ms. The rules are those
    of `importlib.machinery.SourceFileLoader`; a hash-based pyc file proves nothing without hashing the source. Gate
    never loads the bytecode itself: a forged header hides a syntax error, and executes nothing.
    """
    try:
        source = os.stat(path)
        descriptor = os.open(cache_from_source(path), os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, NotImplementedError):  # no pyc file, or a Python without a cache tag
        return False
    try:
        header = os.read(descriptor, HEADER_SIZE)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return header == TIMESTAMP_HEADER + pack("<II", int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
