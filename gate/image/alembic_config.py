"""The Alembic configuration: `alembic.ini`, `[tool.alembic]` in `pyproject.toml`, or both.

The rules are those of `alembic.config`: an option in the ini file overrides the TOML table, `%(here)s` and `%%` are
interpolated, and a relative path starts at the current directory.
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from configparser import ConfigParser, Error
from pathlib import Path
from typing import Any, NamedTuple

from gate.errors import BadSettings, ResourceShortage
from gate.files import FileTooLarge, NotRegularFile, read_regular_file
from gate.text import printable

MAX_FILE_SIZE = 1 << 19
"""Bytes of a configuration file; a longer one is something else, and parsing it could exceed the memory limit."""

MAX_VALUE_LENGTH = 1 << 18
"""Characters of one option after interpolation: many thousand paths."""

MAX_INTERPOLATION_DEPTH = 10
"""Options that refer to each other in a chain (`configparser.MAX_INTERPOLATION_DEPTH`)."""

MAX_SIZE_OF_KEYS = 5_000_000
"""References of `_size_of_keys`, of 8 bytes each; a pyproject.toml of 5,000 lines has fewer than 100,000."""

_ONLY_HERE = re.compile(r"(?:[^%]|%%|%\(here\)s)*+", re.DOTALL)
"""Text that `%` expands without a width, a precision or a conversion, each of which may ask for terabytes."""

_REFERENCE = re.compile(r"%\(([^)]+)\)s")
"""A reference of `configparser.BasicInterpolation`."""

MAX_SECTIONS_SHOWN = 10
"""Sections of an ini file that a message lists."""


class Configuration(NamedTuple):
    """Where the migration scripts are, and how Alembic loads them.

    `ini`, `toml` and `section`: the arguments for `alembic.config.Config`, whether the files exist or not; `url`:
    `sqlalchemy.url`; `url_error`: why `sqlalchemy.url` cannot be read, "" if it can; `databases`: the option that
    only Alembic's multidb template has.
    """

    ini: str
    toml: str
    section: str
    script_location: Path
    version_locations: tuple[Path, ...]
    recursive: bool = False
    sourceless: bool = False
    url: str | None = None
    url_error: str = ""
    databases: str | None = None

    def __repr__(self) -> str:
        """Leave out the URL, which may contain a password."""
        return f"Configuration({self.ini!r}, {self.toml!r}, {self.section!r})"


def read(config: Sequence[str], variable: str | None, section: str | None) -> Configuration:
    """Find and read the configuration.

    `config`: the files of `-c`; `variable`: ALEMBIC_CONFIG; `section`: `-n`, None = `alembic`. Raises `BadSettings`
    with the file, the error and the remedy.
    """
    try:
        return _read(config, variable, section)
    except OSError as error:  # only the working directory is used without a check of its own
        raise ResourceShortage.of(error) or BadSettings(
            f"The working directory cannot be used: {error.strerror}. It may have been deleted, or this user may not "
            "enter it; start gate in the project's folder."
        ) from None


def _read(config: Sequence[str], variable: str | None, section: str | None) -> Configuration:
    ini, toml = _paths(config, variable)
    options = _Options(ini, toml, section or "alembic")
    script_location = _script_location(options, [*config, variable], section)
    locations = [options.path(location).absolute() for location in options.version_locations()]
    url, url_error = _url(options)
    return Configuration(
        ini=ini,
        toml=toml,
        section=options.section,
        script_location=script_location,
        version_locations=tuple(locations) or ((script_location / "versions").absolute(),),
        recursive=options.flag("recursive_version_locations"),
        sourceless=options.flag("sourceless"),
        url=url,
        url_error=url_error,
        databases=options.ini_text("databases"),
    )


def prepended_paths(configuration: Configuration) -> list[str]:
    """Return the folders of `prepend_sys_path`; raises `BadSettings` if the option cannot be read."""
    options = _Options(configuration.ini, configuration.toml, configuration.section)
    return options.prepended_paths()


def _paths(config: Sequence[str], variable: str | None) -> tuple[str, str]:
    """Return the ini file and the TOML file; a file is TOML if it is called pyproject.toml, as in Alembic."""
    ini, toml = "alembic.ini", "pyproject.toml"
    paths: dict[str, str] = {}
    for path in config:
        kind = "toml" if os.path.basename(path) == toml else "ini"
        if kind in paths:
            raise BadSettings(f"-c names two {kind} files, {paths[kind]} and {path}; Alembic takes one of each.")
        paths[kind] = path
    if variable and os.path.basename(variable) == toml:
        paths.setdefault("toml", variable)
    elif variable:
        paths.setdefault("ini", variable)
    return paths.get("ini", ini), paths.get("toml", toml)


def _script_location(options: _Options, files: Sequence[str | None], section: str | None) -> Path:
    location = options.text("script_location")
    if not location:
        # Alembic, too, reports a missing file only if the other one does not name the scripts.
        missing = [file for file in files if file and file_status(file) is None]
        if missing:
            raise BadSettings(
                f"The Alembic configuration {missing[0]} is not a file{_link_target(missing[0])}; correct -c or "
                "ALEMBIC_CONFIG."
            )
        raise BadSettings(_no_script_location(options, section))
    folder = options.path(location)
    status = file_status(folder)
    if status is None or not stat.S_ISDIR(status.st_mode):
        reason = f"does not exist{_link_target(folder)}" if status is None else "is not a folder"
        raise BadSettings(
            f"{options.source('script_location')}: script_location names the folder {folder}, which {reason}; "
            "correct it, or copy the folder into the image."
        )
    return folder


def _no_script_location(options: _Options, section: str | None) -> str:
    if options.has_ini:
        names = [f"[{printable(name)}]" for name in options.sections[:MAX_SECTIONS_SHOWN]]
        missing = options.section not in options.sections
        sections = f" It has {', '.join(names) or 'no section'}." if missing else ""
        if section and missing:
            return f"{options.ini} has no section [{section}] with a script_location; correct -n/--name.{sections}"
        return (
            f"{options.ini} has no script_location in [{options.section}]; set it to the migrations folder.{sections}"
        )
    link = _link_target(options.ini)
    place = f"{os.getcwd()}: {options.ini} is no file{link}. There is" if link else f"{os.getcwd()}:"
    return (
        f"No Alembic configuration in {place} neither alembic.ini nor [tool.alembic] with a script_location in "
        "pyproject.toml; run gate in the project's folder, or set ALEMBIC_CONFIG or -c."
    )


def _url(options: _Options) -> tuple[str | None, str]:
    """Return `sqlalchemy.url` and why it cannot be read; this is an error only if no other URL is set."""
    try:
        return options.ini_text("sqlalchemy.url"), ""
    except BadSettings as error:
        return None, str(error)


class _Options:
    """The options of both files."""

    def __init__(self, ini: str, toml: str, section: str) -> None:
        self.ini, self.toml, self.section = ini, toml, section
        self.has_ini = file_status(ini) is not None
        self._parser = _parse_ini(ini)
        self._table = _parse_toml(toml)

    @property
    def sections(self) -> list[str]:
        """The sections of the ini file."""
        return self._parser.sections()

    def source(self, name: str) -> str:
        """Return the file that sets an option."""
        return self.ini if self._parser.has_option(self.section, name) else self.toml

    def text(self, name: str) -> str | None:
        """Return an option of either file."""
        text = self.ini_text(name)
        if text is not None or name not in self._table:
            return text
        return self._interpolate(name, self._table[name])

    def ini_text(self, name: str) -> str | None:
        """Return an option of the ini file; raises `BadSettings` if its `%` cannot be interpolated."""
        if not self._parser.has_option(self.section, name):
            return None
        if self._expanded_length(name) > MAX_VALUE_LENGTH:
            raise BadSettings(
                f"{self.ini}: {name} of [{self.section}] is longer than {MAX_VALUE_LENGTH >> 10} KB where its %(...)s "
                "are replaced; shorten it."
            )
        try:
            return self._parser.get(self.section, name)
        except Error:
            raise BadSettings(
                f"{self.ini}: the % in {name} of [{self.section}] cannot be interpolated; write %% for a plain %."
            ) from None

    def _expanded_length(self, name: str) -> int:
        """Return an upper bound of the length of an option, without building its text.

        Options that refer to each other multiply: ten of them with ten references each give 10^10 characters.
        """
        text = self._parser.get(self.section, name, raw=True)
        if "%(" not in text:
            return len(text)
        values = dict(self._parser.items(self.section, raw=True))
        references = {key: Counter(map(self._parser.optionxform, _REFERENCE.findall(values[key]))) for key in values}
        lengths = dict.fromkeys(values, 0)
        for _ in range(MAX_INTERPOLATION_DEPTH):
            lengths = {
                key: len(values[key]) + sum(count * lengths.get(each, 0) for each, count in references[key].items())
                for key in values
            }
        return lengths[self._parser.optionxform(name)]

    def flag(self, name: str) -> bool:
        """Return an option that is true or false."""
        if self._parser.has_option(self.section, name):
            return self.ini_text(name) == "true"
        value = self._table.get(name, False)
        if not isinstance(value, bool):
            raise BadSettings(f"{self.toml}: {name} in [tool.alembic] must be true or false.")
        return value

    def version_locations(self) -> list[str]:
        """Return the folders as they are written."""
        text = self.ini_text("version_locations")
        if text:
            return _split(text, self._separator("path_separator", "version_path_separator"), ", *|(?: +)")
        values = self._table.get("version_locations") or []
        if not isinstance(values, list):
            raise BadSettings(f"{self.toml}: version_locations in [tool.alembic] must be a list of folders.")
        return [self._interpolate("version_locations", value) for value in values]

    def path(self, location: str) -> Path:
        """Resolve a folder, or `package:folder` without importing the package."""
        if os.path.isabs(location) or ":" not in location:
            return Path(location)
        package, *folders = location.split(":")
        return _package_folder(package, self._search_path()).joinpath(*folders)

    def _search_path(self) -> list[str]:
        return self.prepended_paths() + sys.path

    def prepended_paths(self) -> list[str]:
        """Return the folders that Alembic puts in front of `sys.path`."""
        text = self.ini_text("prepend_sys_path")
        if text:
            return _split(text, self._separator("path_separator"), r", *|(?: +)|\:")
        values = self._table.get("prepend_sys_path") or []
        return [self._interpolate("prepend_sys_path", value) for value in values]

    def _separator(self, *names: str) -> str | None:
        """Return the separator that the first of these options names; None means Alembic's legacy pattern."""
        for name in names:
            word = self.ini_text(name)
            if word is not None and word not in SEPARATORS:
                raise BadSettings(f"{self.ini}: {name} must be one of space, newline, os, : or ;, not {word!r}.")
            if word is not None:
                return SEPARATORS[word]
        return None

    def _interpolate(self, name: str, value: object) -> str:
        here = Path(self.toml).absolute().parent.as_posix()
        if isinstance(value, str) and _ONLY_HERE.fullmatch(value):
            text = value.replace("%(here)s", "")
            if len(text) + len(here) * value.count("%(here)s") <= MAX_VALUE_LENGTH:
                return value % {"here": here}
        raise BadSettings(f"{self.toml}: {name} in [tool.alembic] must be text in which only %(here)s and %% use a %.")


SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}
"""Values of `path_separator` and `version_path_separator` in alembic.ini."""


def _split(text: str, separator: str | None, legacy: str) -> list[str]:
    if separator is None:
        return re.split(legacy, text)
    return [part.strip() for part in text.split(separator) if part]


def file_status(path: str | Path) -> os.stat_result | None:
    """Return the status of what a path leads to, None if there is nothing.

    Raises `BadSettings` that names the folder which this user may not enter.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the path
        return None
    except OSError as error:
        barrier = _barrier(path) if isinstance(error, PermissionError) else ""
        raise ResourceShortage.of(error) or BadSettings(
            f"{path} cannot be reached: {error.strerror}{barrier or '; correct the path'}."
        ) from None


def _barrier(path: str | Path) -> str:
    """Name the first folder on the way that this user may not enter."""
    for folder in reversed(Path(path).absolute().parents):
        if not os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            mode = stat.S_IMODE(os.stat(folder).st_mode)
            return (
                f": user {os.geteuid()} may not enter the folder {folder} (mode {mode:04o}); make it executable for "
                "this user"
            )
    return ""


def _link_target(path: str | Path) -> str:
    """Name the target of a symbolic link that leads to nothing, "" for anything else."""
    return f", but a symbolic link to {os.readlink(path)}, which does not exist" if os.path.islink(path) else ""


def _read_text(path: str, encoding: str) -> str | None:
    """Return the text of a configuration file, None if there is none; raises `BadSettings` if it cannot be read."""
    status = file_status(path)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise BadSettings(
            f"{path} is not a file but a folder (a container runtime creates one for a mount whose source is missing); "
            "put the file there."
        )
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev:
        return ""  # a mount of /dev/null hides the file below it
    try:
        content = read_regular_file(path, MAX_FILE_SIZE)
        return io.TextIOWrapper(io.BytesIO(content), encoding=encoding).read()
    except NotRegularFile:
        raise BadSettings(f"{path} is not a regular file; put the file there.") from None
    except FileTooLarge as error:
        raise BadSettings(f"{path} cannot be a configuration: {error.strerror}; correct the path.") from None
    except OSError as error:
        raise ResourceShortage.of(error) or BadSettings(
            f"{path} cannot be read: {error.strerror}; make it readable for this user ({os.geteuid()}; its mode is "
            f"{stat.S_IMODE(status.st_mode):04o})."
        ) from None


def _parse_ini(path: str) -> ConfigParser:
    parser = ConfigParser({"here": Path(path).absolute().parent.as_posix()})
    try:
        parser.read_string(_read_text(path, "locale") or "", source=path)
    except (Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise BadSettings(f"{path} is not a valid ini file: {reason}") from None
    return parser


def _parse_toml(path: str) -> dict[str, Any]:
    if file_status(path) is None:
        return {}
    import tomllib  # noqa: PLC0415 - most images have an alembic.ini and no pyproject.toml

    try:
        text = _read_text(path, "utf-8") or ""
        if _size_of_keys(text) > MAX_SIZE_OF_KEYS:
            raise BadSettings(f"{path} has dotted keys of too many parts; shorten them.")
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSettings(f"{path} is not a valid TOML file: {error}") from None
    tool = tables.get("tool", {})
    table = tool.get("alembic", {}) if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise BadSettings(f"{path}: [tool.alembic] must be a table.")
    return table


def _size_of_keys(text: str) -> int:
    """Return an upper bound of the parts of keys that `tomllib` stores: each key with all keys above it, as tuples.

    A key of n parts takes n * n / 2 references, so that one line of 20 KB took 400 MB.
    """
    lines = text.split("\n")
    table = max((line.count(".") for line in lines if line.lstrip().startswith("[")), default=0)
    return sum(dots * (dots + table) for dots in (line.count(".") for line in lines))


def _package_folder(package: str, search_path: list[str]) -> Path:
    from importlib.machinery import PathFinder  # noqa: PLC0415 - only `package:folder` needs it

    path: list[str] | None = search_path
    for name in package.split("."):  # one name each: with its parents', a namespace package asks sys.modules for them
        spec = PathFinder.find_spec(name, path)
        if spec is None or not spec.submodule_search_locations:
            raise BadSettings(
                f"script_location or version_locations names the package {package!r}, which cannot be imported; "
                "install it, or correct prepend_sys_path."
            )
        path = list(spec.submodule_search_locations)
    assert path
    return Path(path[0])
