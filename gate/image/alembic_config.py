"""The Alembic configuration: `alembic.ini`, `[tool.alembic]` in `pyproject.toml`, or both together.

Read as Alembic reads it (its `config.py`): the ini file first, then the TOML table; `%(here)s` and `%%` are
interpolated; relative paths start at the current folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from configparser import ConfigParser, Error
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gate.errors import BadSettings


class Configuration(NamedTuple):
    """Where the migration scripts are.

    `ini` and `toml` are what Alembic itself is to be given; `databases` is what only its multidb template has.
    """

    ini: str
    toml: str
    section: str
    script_location: Path
    version_locations: tuple[Path, ...]
    recursive: bool = False
    sourceless: bool = False
    url: str | None = None
    url_mistake: str = ""
    databases: str | None = None

    def __repr__(self) -> str:
        """Without the URL, which may hold a password."""
        return f"Configuration({self.ini!r}, {self.toml!r}, {self.section!r})"


def read(config: Sequence[str], variable: str | None, section: str | None) -> Configuration:
    """Find and read the configuration; `config` are the `-c` flags, `variable` is ALEMBIC_CONFIG.

    Raises `BadSettings` with the file, what is wrong in it, and the cure.
    """
    ini, toml = _paths(config, variable)
    options = Options(ini, toml, section or "alembic")
    location = options.text("script_location")
    if not location:
        missing = [name for name in (*config, variable) if name and not Path(name).is_file()]
        if missing:  # Alembic itself minds a missing file only if nothing else says where the scripts are
            raise BadSettings(f"The Alembic configuration {missing[0]} is not a file; correct -c or ALEMBIC_CONFIG.")
        raise BadSettings(_nothing_found(options, section))
    script_location = options.path(location)
    if not script_location.is_dir():
        raise BadSettings(
            f"{options.source('script_location')}: script_location names the folder {script_location}, which does "
            "not exist; correct it, or copy the folder into the image."
        )
    versions = [options.path(each).absolute() for each in options.version_locations()]
    return Configuration(
        ini,
        toml,
        options.section,
        script_location,
        tuple(versions) or ((script_location / "versions").absolute(),),
        options.flag("recursive_version_locations"),
        options.flag("sourceless"),
        *options.url(),
        options.ini_text("databases"),
    )


def _paths(config: Sequence[str], variable: str | None) -> tuple[str, str]:
    ini, toml = "alembic.ini", "pyproject.toml"
    chosen: dict[str, str] = {}
    for name in config:
        kind = "toml" if os.path.basename(name) == toml else "ini"
        if kind in chosen:
            raise BadSettings(f"-c names two {kind} files, {chosen[kind]} and {name}; Alembic takes one of each.")
        chosen[kind] = name
    if variable and os.path.basename(variable) == toml:
        chosen.setdefault("toml", variable)
    elif variable:
        chosen.setdefault("ini", variable)
    return chosen.get("ini", ini), chosen.get("toml", toml)


def _nothing_found(options: Options, section: str | None) -> str:
    if section and options.has_file:
        return f"{options.ini} has no section [{section}] with a script_location; correct -n/--name."
    if options.has_file:
        return f"{options.ini} has no script_location in [{options.section}]; point it to the migrations folder."
    return (
        f"No Alembic configuration in {os.getcwd()}: neither alembic.ini nor [tool.alembic] with a script_location in "
        "pyproject.toml; run gate in the project's folder, or set ALEMBIC_CONFIG or -c."
    )


SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}


class Options:
    """What both files say."""

    def __init__(self, ini: str, toml: str, section: str) -> None:
        self.ini, self.toml, self.section = ini, toml, section
        self.has_file = Path(ini).exists()
        self._parser = _parse_ini(ini)
        self._table = _parse_toml(toml)

    def source(self, name: str) -> str:
        """The file that says it."""
        return self.ini if self._parser.has_option(self.section, name) else self.toml

    def ini_text(self, name: str) -> str | None:
        """What the ini file says; raises `BadSettings` if its % cannot be interpolated."""
        if not self._parser.has_option(self.section, name):
            return None
        try:
            return self._parser.get(self.section, name)
        except Error:
            raise BadSettings(
                f"{self.ini}: the % in {name} of [{self.section}] cannot be interpolated; write %% for a plain %."
            ) from None

    def url(self) -> tuple[str | None, str]:
        """And why it cannot be read although one is written: that stops nobody who does not need it."""
        try:
            return self.ini_text("sqlalchemy.url"), ""
        except BadSettings as error:
            return None, str(error)

    def text(self, name: str) -> str | None:
        """What either file says."""
        found = self.ini_text(name)
        if found is not None or name not in self._table:
            return found
        return self._substituted(name, self._table[name])

    def flag(self, name: str) -> bool:
        """Whether it is true."""
        if self._parser.has_option(self.section, name):
            return self.ini_text(name) == "true"
        value = self._table.get(name, False)
        if not isinstance(value, bool):
            raise BadSettings(f"{self.toml}: {name} in [tool.alembic] must be true or false.")
        return value

    def version_locations(self) -> list[str]:
        """The folders as they are written."""
        text = self.ini_text("version_locations")
        if text:
            return _split(text, self._separator("path_separator", "version_path_separator"), ", *|(?: +)")
        values = self._table.get("version_locations") or []
        if not isinstance(values, list):
            raise BadSettings(f"{self.toml}: version_locations in [tool.alembic] must be a list of folders.")
        return [self._substituted("version_locations", value) for value in values]

    def path(self, location: str) -> Path:
        """A folder, or `package:folder`, which is found without importing the package."""
        if os.path.isabs(location) or ":" not in location:
            return Path(location)
        package, *folders = location.split(":")
        return _package_folder(package, self._search_path()).joinpath(*folders)

    def _search_path(self) -> list[str]:
        text = self.ini_text("prepend_sys_path")
        if text:
            return _split(text, self._separator("path_separator"), r", *|(?: +)|\:") + sys.path
        values = self._table.get("prepend_sys_path") or []
        return [self._substituted("prepend_sys_path", value) for value in values] + sys.path

    def _separator(self, *names: str) -> str | None:
        for name in names:
            word = self.ini_text(name)
            if word is not None and word not in SEPARATORS:
                raise BadSettings(f"{self.ini}: {name} must be one of space, newline, os, : or ; and is {word!r}.")
            if word is not None:
                return SEPARATORS[word]
        return None

    def _substituted(self, name: str, value: object) -> str:
        here = Path(self.toml).absolute().parent.as_posix()
        with suppress(KeyError, TypeError, ValueError, MemoryError):
            if isinstance(value, str):
                return value % {"here": here}
        raise BadSettings(f"{self.toml}: {name} in [tool.alembic] must be text in which only %(here)s and %% use a %.")


def _split(text: str, separator: str | None, legacy: str) -> list[str]:
    if separator is None:
        return re.split(legacy, text)
    return [part.strip() for part in text.split(separator) if part]


def _parse_ini(path: str) -> ConfigParser:
    parser = ConfigParser({"here": Path(path).absolute().parent.as_posix()})
    try:
        parser.read([path], encoding="locale")
    except (Error, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, Error) else _why(error)
        raise BadSettings(f"{path} is no readable ini file: {reason}") from None
    return parser


def _parse_toml(path: str) -> dict[str, Any]:
    if not Path(path).exists():
        return {}
    import tomllib  # noqa: PLC0415 - most images have an alembic.ini and no pyproject.toml

    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise BadSettings(f"{path} is no readable TOML file: {_why(error)}") from None
    tool = tables.get("tool", {})
    table = tool.get("alembic", {}) if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise BadSettings(f"{path}: [tool.alembic] must be a table.")
    return table


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _package_folder(package: str, search_path: list[str]) -> Path:
    from importlib.machinery import PathFinder  # noqa: PLC0415 - only for package:folder

    places: list[str] | None = search_path
    for n, _ in enumerate(package.split("."), start=1):
        spec = PathFinder.find_spec(".".join(package.split(".")[:n]), places)
        if spec is None or not spec.submodule_search_locations:
            raise BadSettings(
                f"script_location or version_locations name the package {package!r}, which is not importable here; "
                "install it, or correct prepend_sys_path."
            )
        places = list(spec.submodule_search_locations)
    assert places
    return Path(places[0])
