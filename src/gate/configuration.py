"""The Alembic configuration: `alembic.ini`, `[tool.alembic]` in `pyproject.toml`, or both together.

Read as Alembic reads it (its `config.py`): the ini file first, then the TOML table; `%(here)s` and `%%` are
interpolated; relative paths start at the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gate.configuration_files import Options
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
