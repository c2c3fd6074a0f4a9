"""The settings, the Alembic configuration and the image, from which every command starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import quote

from gate import redaction
from gate.database import location
from gate.database.engine import engine_of
from gate.database.location import Database
from gate.database.missing import Needs
from gate.database.stamp import TableName
from gate.drift import messages
from gate.drift.inspector import Inspector
from gate.errors import BadScripts, BadSettings
from gate.image import alembic_config, script_directory
from gate.image.alembic_config import Configuration
from gate.image.env_py import VersionTable
from gate.image.revision_graph import ALL_HEADS, RevisionGraph
from gate.image.script_directory import Image
from gate.settings.database_url import UrlSource
from gate.settings.settings import Settings
from gate.text import join_ids

if TYPE_CHECKING:
    from gate.drift.siblings import Sibling
    from gate.image.expectations import Expectations

DEFAULT_TABLE = "alembic_version"

EXPECTED_FILE = "gate-expected.json"
"""The default file of `gate expect`, beside the Alembic configuration."""


class Project(NamedTuple):
    """An image with the settings and the Alembic configuration that apply to it.

    `expectations`: what `gate expect` has recorded, None if there is no such file. `siblings`: the other histories of
    this image, by their names, where gate guards several.
    """

    settings: Settings
    configuration: Configuration
    image: Image
    expectations: Expectations | None = None
    siblings: Mapping[str, Sibling] = {}

    @property
    def table(self) -> TableName:
        """The version table: the setting, else what `gate expect` recorded, else env.py's literal, else the default."""
        settings, in_env_py = self.settings, self.image.version_table
        if self.expectations and self.expectations.version_table:
            in_env_py = VersionTable(*self.expectations.version_table)
        return TableName(
            settings.version_table or in_env_py.table or DEFAULT_TABLE,
            settings.version_table_schema or in_env_py.schema,
            table_is_set=settings.version_table is not None,
            schema_is_set=settings.version_table_schema is not None or settings.schemas is not None,
            env_py=in_env_py,
        )

    @property
    def has_migration_url(self) -> bool:
        """Whether MIGRATION_DATABASE_URL is set, so that a migration connects by another URL than the server."""
        return self.settings.migration_database_url is not None

    @property
    def has_separate_server_url(self) -> bool:
        """Whether the server connects by another URL than a migration does, and gate knows that URL.

        `sqlalchemy.url` does not count: it is for migrations, and often names a developer's database.
        """
        return self.has_migration_url and bool(self.settings.database_url or location.named_by_libpq(os.environ))

    def inspector(self, *, migrating: bool = False) -> Inspector:
        """Create an inspector that connects as the server does or, if `migrating`, as a migration does.

        Raises `BadSettings` if nothing names a database, if its URL cannot be read, or if its driver is missing.
        """
        database = self.database(migrating=migrating)
        engine_of(database).load_driver()
        needs = self.needs(migrating=migrating)
        if self.settings.schemas is None:
            return Inspector(self.image.graph, self.table, database, needs, migrating=migrating, siblings=self.siblings)
        from gate.drift.schemas import SchemasInspector  # noqa: PLC0415 - most images have one version table

        return SchemasInspector(
            self.image.graph,
            self.table._replace(schema=None),
            database,
            needs,
            migrating=migrating,
            siblings=self.siblings,
            source=self.settings.schemas,
            may_be_empty=self.settings.schemas_may_be_empty,
        )

    def database(self, *, migrating: bool = False) -> Database:
        """Return the database of the server or, if `migrating`, the one of a migration; raises `BadSettings`."""
        source = self.settings.migration_database_url if migrating else None
        return self._locate(source or self.settings.database_url)

    def needs(self, *, migrating: bool = False) -> Needs | None:
        """Return what to search for, None without expectations.

        The right to SELECT counts only for the role of the server, which a migration by another URL does not have.
        """
        if self.expectations is None:
            return None
        return Needs(self.expectations.tables, rights=not (migrating and self.has_migration_url))

    def _locate(self, source: UrlSource | None) -> Database:
        timeouts = (self.settings.connect_timeout, self.settings.query_timeout)
        try:
            return location.locate(source, os.environ, self.configuration.url, timeouts)
        except BadSettings as error:
            raise BadSettings(*filter(None, (str(error), self.configuration.url_error))) from None

    def warnings(self) -> dict[str, str]:
        """Warnings to log once before the first inspection, by event name."""
        warnings = {}
        if self.image.asked_alembic:
            warnings["gate.asked_alembic"] = (
                f"{self.image.asked_alembic}; gate loaded the scripts through Alembic, which runs them."
            )
        if self.image.version_table.several and self.settings.schemas is None:
            warnings["gate.several_version_tables"] = (
                f"env.py configures several version tables, or several databases, in one run "
                f"({self.image.version_table.several}). gate checks only {self.table.table}"
                f"{f' in schema {self.table.schema}' if self.table.schema else ''}, since a setting names it, and "
                "nothing of the others."
            )
        if self.table.is_computed:
            env_py = self.table.env_py
            places = "; ".join(str(place) for place in (env_py.computed_table, env_py.computed_schema) if place)
            warnings["gate.computed_version_table"] = (
                f"env.py computes the name or the schema of the version table ({places}); gate reads "
                f"{self.table.table} if it exists. If that is not the version table, set "
                "GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
            )
        return warnings


def load_project(
    settings: Settings,
    config: Sequence[str] = (),
    section: str | None = None,
    *,
    whole: bool = False,
    post_deploy: bool = False,
    with_expectations: bool = True,
) -> Project:
    """Read the Alembic configuration, the scripts of the image, and what `gate expect` has recorded.

    `config`: the configuration files, as for `alembic -c`; `section`: the section, as for `alembic -n`; `whole`: check
    the syntax of every line of every script; `post_deploy`: the revisions that may wait will be applied, too;
    `with_expectations`: read the file of `gate expect`, if there is one. Raises `BadSettings` and `BadScripts`.
    """
    _remember_passwords(settings)
    redaction.learn_from(f"project {[*config]}", partial(_further_passwords, settings, config))
    configuration = alembic_config.read(config, settings.alembic_config, section)
    image = script_directory.read(configuration, whole=whole, target=settings.target)
    if not image.graph.expected and not post_deploy:
        _reject_nothing_required(image.graph)
    project = Project(settings, configuration, image)
    return inspectable(project) if with_expectations else project


def inspectable(project: Project) -> Project:
    """Return the project for a command that inspects a database, with what `gate expect` has recorded.

    Raises `BadSettings` if env.py configures several version tables in one run, and no setting says which one counts.
    """
    settings, several = project.settings, project.image.version_table.several
    if several and not (settings.schemas or settings.version_table or settings.version_table_schema):
        raise BadSettings(
            f"env.py configures several version tables, or several databases, in one run: {several}. None of them can "
            f"stand for the others. {messages.SEVERAL_TABLES_REMEDY} If only one of them counts, name it with "
            "GATE_VERSION_TABLE or GATE_VERSION_TABLE_SCHEMA."
        )
    return project._replace(expectations=_read_expectations(project))


def _reject_nothing_required(graph: RevisionGraph) -> NoReturn:
    """Every database has nothing: an image that requires nothing would pass on all of them, as one without scripts."""
    subject = "All revisions" if graph.target == ALL_HEADS else f"All revisions up to {graph.target} (GATE_TARGET)"
    first = graph.revisions[graph.targets[0]]
    raise BadScripts(
        f"{subject} are post_deploy ({first.path}, for example), so this image would require nothing and every "
        "database would fit. Remove post_deploy from the revisions that the code needs."
    )


def expected_file(settings: Settings, configuration: Configuration) -> str:
    """Return the file of `gate expect`, whether it exists or not.

    The sections of one ini file have a file each, since each is a history of its own.
    """
    has_ini = alembic_config.file_status(configuration.ini) is not None
    beside = configuration.ini if has_ini else configuration.toml
    if settings.expected:
        return settings.expected
    name, extension = os.path.splitext(EXPECTED_FILE)
    section = "" if configuration.section == "alembic" else f".{quote(configuration.section, safe='')}"
    return os.path.join(os.path.dirname(beside), f"{name}{section}{extension}")


def _read_expectations(project: Project) -> Expectations | None:
    """Read the file that the setting names, or the default file if it exists.

    Raises `BadSettings` if it cannot be used, and `BadScripts` if it was recorded for other migration scripts.
    """
    settings, image = project.settings, project.image
    if (settings.expected or "").lower() == "off":
        return None
    path = expected_file(settings, project.configuration)
    if not settings.expected and not os.path.lexists(path):
        return None
    from gate.image.expectations_file import read_expectations  # noqa: PLC0415 - many images have no such file

    expectations = read_expectations(path)
    if {*expectations.heads} != {*image.graph.heads}:
        raise BadScripts(
            f"{path} was recorded for other migration scripts: for {join_ids(expectations.heads)}, while the heads of "
            f"this image are {join_ids(image.graph.heads)}. Run `gate expect` again when the image is built, after the "
            "scripts were copied."
        )
    return expectations


def _remember_passwords(settings: Settings) -> None:
    """Register the passwords before a script can print them; a malformed URL is reported when it is used."""
    redaction.remember(redaction.spellings(os.environ.get("PGPASSWORD", "")))
    for source in (settings.database_url, settings.migration_database_url):
        with suppress(BadSettings):
            if source:
                location.read_url(source)


def _further_passwords(settings: Settings, config: Sequence[str]) -> frozenset[str]:
    """Read the passwords that are neither in a URL of gate nor in PGPASSWORD; called when there is text to redact."""
    from gate.settings.secret_sources import secrets_around  # noqa: PLC0415 - a check that succeeds redacts nothing

    urls = []
    for source in (settings.database_url, settings.migration_database_url):
        with suppress(BadSettings):
            urls += [location.read_url(source).conninfo] if source else []
    files = [*config, settings.alembic_config or "alembic.ini", "pyproject.toml"]
    return secrets_around(files, urls)
