"""The Alembic configuration: `alembic.ini`, `[tool.alembic]` in `pyproject.toml`, or both.

The rules are those of `alembic.config`: an option in the ini file overrides the TOML table, `%(here)s` and `%%` are
interpolated, and a relative path starts at the current directory.
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
        missing = [file for file in files if file and not Path(file).is_file()]
        if missing:
            raise BadSettings(f"The Alembic configuration {missing[0]} is not a file; correct -c or ALEMBIC_CONFIG.")
        raise BadSettings(_no_script_location(options, section))
    folder = options.path(location)
    if not folder.is_dir():
        raise BadSettings(
            f"{options.source('script_location')}: script_location names the folder {folder}, which does not exist; "
            "correct it, or copy the folder into the image."
        )
    return folder


def _no_script_location(options: _Options, section: str | None) -> str:
    if section and options.has_ini:
        return f"{options.ini} has no section [{section}] with a script_location; correct -n/--name."
    if options.has_ini:
        return f"{options.ini} has no script_location in [{options.section}]; set it to the migrations folder."
    return (
        f"No Alembic configuration in {os.getcwd()}: neither alembic.ini nor [tool.alembic] with a script_location in "
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
        self.has_ini = Path(ini).exists()
        self._parser = _parse_ini(ini)
        self._table = _parse_toml(toml)

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
        try:
            return self._parser.get(self.section, name)
        except Error:
            raise BadSettings(
                f"{self.ini}: the % in {name} of [{self.section}] cannot be interpolated; write %% for a plain %."
            ) from None

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
        text = self.ini_text("prepend_sys_path")
        if text:
            return _split(text, self._separator("path_separator"), r", *|(?: +)|\:") + sys.path
        values = self._table.get("prepend_sys_path") or []
        return [self._interpolate("prepend_sys_path", value) for value in values] + sys.path

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
        with suppress(KeyError, TypeError, ValueError, MemoryError):
            if isinstance(value, str):
                return value % {"here": here}
        raise BadSettings(f"{self.toml}: {name} in [tool.alembic] must be text in which only %(here)s and %% use a %.")


SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}
"""Values of `path_separator` and `version_path_separator` in alembic.ini."""


def _split(text: str, separator: str | None, legacy: str) -> list[str]:
    if separator is None:
        return re.split(legacy, text)
    return [part.strip() for part in text.split(separator) if part]


def _parse_ini(path: str) -> ConfigParser:
    parser = ConfigParser({"here": Path(path).absolute().parent.as_posix()})
    try:
        parser.read([path], encoding="locale")
    except (Error, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, Error) else _reason(error)
        raise BadSettings(f"{path} is not a valid ini file: {reason}") from None
    return parser


def _parse_toml(path: str) -> dict[str, Any]:
    if not Path(path).exists():
        return {}
    import tomllib  # noqa: PLC0415 - most images have an alembic.ini and no pyproject.toml

    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise BadSettings(f"{path} is not a valid TOML file: {_reason(error)}") from None
    tool = tables.get("tool", {})
    table = tool.get("alembic", {}) if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise BadSettings(f"{path}: [tool.alembic] must be a table.")
    return table


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _package_folder(package: str, search_path: list[str]) -> Path:
    from importlib.machinery import PathFinder  # noqa: PLC0415 - only `package:folder` needs it

    path: list[str] | None = search_path
    for n, _ in enumerate(package.split("."), start=1):
        spec = PathFinder.find_spec(".".join(package.split(".")[:n]), path)
        if spec is None or not spec.submodule_search_locations:
            raise BadSettings(
                f"script_location or version_locations names the package {package!r}, which cannot be imported; "
                "install it, or correct prepend_sys_path."
            )
        path = list(spec.submodule_search_locations)
    assert path
    return Path(path[0])
