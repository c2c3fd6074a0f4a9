"""What every command needs, put together from arguments, environment and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from gate import redaction
from gate.database import location
from gate.database.engine import engine_of
from gate.database.location import Database
from gate.database.stamp import TableName
from gate.drift.inspector import Inspector
from gate.errors import BadSettings
from gate.image import alembic_config, script_directory
from gate.image.alembic_config import Configuration
from gate.image.script_directory import Image
from gate.settings.database_url import UrlSource
from gate.settings.settings import Settings

DEFAULT_TABLE = "alembic_version"


class Project(NamedTuple):
    """One image in its surroundings."""

    settings: Settings
    configuration: Configuration
    image: Image

    @property
    def table(self) -> TableName:
        """The version table: the setting, else env.py's literal, else Alembic's default."""
        told, found = self.settings, self.image.version_table
        return TableName(
            told.version_table or found.table or DEFAULT_TABLE,
            told.version_table_schema or found.schema,
            computed=found.computed and not (told.version_table or told.version_table_schema),
        )

    @property
    def has_migration_url(self) -> bool:
        """Whether migrating goes another way than the server."""
        return self.settings.migration_database_url is not None

    @property
    def serves_elsewhere(self) -> bool:
        """Whether the server will connect another way than a migration does, and gate knows how.

        `sqlalchemy.url` does not count: it is the migrations' own, and often a developer's.
        """
        return self.has_migration_url and bool(self.settings.database_url or location.named_by_libpq(os.environ))

    def inspector(self, *, migrating: bool = False) -> Inspector:
        """Look as the server connects, or as a migration does; raises `BadSettings` if no database is named."""
        source = self.settings.migration_database_url if migrating else None
        place = self._database(source or self.settings.database_url)
        engine_of(place).load_driver()
        return Inspector(self.image.graph, self.table, place)

    def _database(self, source: UrlSource | None) -> Database:
        limits = (self.settings.connect_timeout, self.settings.query_timeout)
        try:
            return location.locate(source, os.environ, self.configuration.url, limits)
        except BadSettings as error:
            raise BadSettings(*filter(None, (str(error), self.configuration.url_error))) from None

    def remarks(self) -> dict[str, str]:
        """What is worth saying once before the first look, by event name."""
        found = {}
        if self.image.asked_alembic:
            found["gate.asked_alembic"] = f"{self.image.asked_alembic}; gate asked Alembic, which ran the scripts."
        if self.table.computed:
            found["gate.computed_version_table"] = (
                f"env.py computes the version table's name or schema; gate looks for {self.table.table}. Set "
                "GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA if it is another one."
            )
        return found


def load_project(
    settings: Settings, config: Sequence[str] = (), section: str | None = None, *, whole: bool = False
) -> Project:
    """Read the configuration and the image.

    `config` and `section`: as `alembic -c` and `-n`; `whole`: check the syntax of every line of every script.
    Raises `BadSettings` and `BadScripts`.
    """
    _remember_passwords(settings)
    configuration = alembic_config.read(config, settings.alembic_config, section)
    return Project(settings, configuration, script_directory.read(configuration, whole=whole))


def _remember_passwords(settings: Settings) -> None:
    """Register the passwords before a script can print them; a mistake in a URL is reported when it is used."""
    redaction.remember(redaction.spellings(os.environ.get("PGPASSWORD", "")))
    for source in (settings.database_url, settings.migration_database_url):
        with suppress(BadSettings):
            if source:
                location.read_url(source)
