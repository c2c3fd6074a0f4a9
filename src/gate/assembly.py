"""What every command needs, put together from arguments, environment and files."""

from __future__ import annotations

import os
from contextlib import suppress
from types import SimpleNamespace
from typing import NamedTuple

from gate import configuration, database, redaction, script_directory
from gate.catalog import TableName
from gate.configuration import Configuration
from gate.database import Database
from gate.errors import BadSettings
from gate.look import Looker
from gate.script_directory import Image
from gate.settings import Settings
from gate.urls import UrlSource

DEFAULT_TABLE = "alembic_version"


class Assembly(NamedTuple):
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
        return self.has_migration_url and bool(self.settings.database_url or database.named_by_libpq(os.environ))

    def looker(self, *, migrating: bool = False) -> Looker:
        """Look as the server connects, or as a migration does; raises `BadSettings` if no database is named."""
        source = self.settings.migration_database_url if migrating else None
        place = self._database(source or self.settings.database_url)
        place.load_driver()
        return Looker(self.image.graph, self.table, place)

    def _database(self, source: UrlSource | None) -> Database:
        limits = (self.settings.connect_timeout, self.settings.query_timeout)
        try:
            return database.locate(source, os.environ, self.configuration.url, limits)
        except BadSettings as error:
            raise BadSettings(*filter(None, (str(error), self.configuration.url_mistake))) from None

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


def assemble(arguments: SimpleNamespace, settings: Settings, *, whole: bool = False) -> Assembly:
    """Read the configuration and the image (`whole`: every line of it); raises `BadSettings` and `BadScripts`."""
    _learn_passwords(settings)
    found = configuration.read(arguments.config, settings.alembic_config, arguments.name)
    return Assembly(settings, found, script_directory.read(found, whole=whole))


def _learn_passwords(told: Settings) -> None:
    """Know them before any script can show them; what is wrong with a URL is told when it is needed."""
    redaction.remember(redaction.spellings(os.environ.get("PGPASSWORD", "")))
    for source in (told.database_url, told.migration_database_url):
        with suppress(BadSettings):
            if source:
                Database(source, None, 0, 0).url()
