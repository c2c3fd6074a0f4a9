"""Several histories in one image: their projects, what they must not share, and which verdict is the worst."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gate.database.location import Database
from gate.database.stamp import TableName
from gate.drift.project import Project, expected_file, inspectable, load_project
from gate.drift.siblings import Sibling
from gate.errors import BadSettings, GateError, about
from gate.settings.arguments import History
from gate.settings.settings import Settings
from gate.text import printable

OWN_GATES = "give each history a gate of its own: gate run -n A --version-table A_TABLE -- gate run -n B … -- CMD"


def load_projects(
    settings: Settings,
    histories: Sequence[History],
    *,
    whole: bool = False,
    post_deploy: bool = False,
    migrating: bool = False,
) -> list[Project]:
    """Load the project of each history, as `load_each` does; raises the first error."""
    projects = []
    for each in load_each(settings, histories, whole=whole, post_deploy=post_deploy, migrating=migrating):
        if isinstance(each, GateError):
            raise each
        projects.append(each)
    return projects


def load_each(
    settings: Settings,
    histories: Sequence[History],
    *,
    whole: bool = False,
    post_deploy: bool = False,
    migrating: bool = False,
    inspecting: bool = True,
) -> list[Project | GateError]:
    """Load the project of each history, or return the error that prevented it.

    `whole`, `post_deploy`: as for `load_project`; `migrating`: the database that counts is the one of a migration;
    `inspecting`: false for a command that needs neither a database nor what `gate expect` has recorded.
    """
    claims = Claims(migrating=migrating)
    loaded: list[Project | GateError] = []
    for each in histories:
        try:
            with about(each.label):
                project = load_project(
                    settings, each.config, each.section, whole=whole, post_deploy=post_deploy, with_expectations=False
                )
                loaded.append(claims.complete(project, each.label) if inspecting else project)
        except GateError as error:
            loaded.append(error)
    named = [each.label for each in histories]
    return [
        project._replace(siblings=claims.siblings(label)) if isinstance(project, Project) else project
        for label, project in zip(named, loaded, strict=True)
    ]


class Claims:
    """What belongs to one history of several only: its version table, and its file of `gate expect`."""

    def __init__(self, *, migrating: bool = False) -> None:
        self._migrating = migrating
        self._files: dict[str, str] = {}
        self._tables: dict[str, tuple[object, TableName]] = {}

    def complete(self, project: Project, label: str) -> Project:
        """Read what `gate expect` has recorded; raises `BadSettings` if another history has this file or this table."""
        if not label:
            return inspectable(project)
        if (project.settings.expected or "").lower() != "off":
            path = expected_file(project.settings, project.configuration)
            if project.settings.expected or os.path.lexists(path):
                self.claim_file(project, label)
        project = inspectable(project)
        self._claim_table(project, label)
        return project

    def claim_file(self, project: Project, label: str) -> None:
        """Raise `BadSettings` if another history has the same file of `gate expect`."""
        path = expected_file(project.settings, project.configuration)
        other = self._files.setdefault(os.path.normpath(path), label)
        if other == label:
            return
        if project.settings.expected:
            raise BadSettings(
                f"GATE_EXPECTED names one file ({path}), and each history needs its own. Unset it: each section has a "
                "default file of its own, gate-expected.SECTION.json. Or set it to off."
            )
        raise BadSettings(
            f"[{other}] and [{label}] are in one folder, and would share the file of gate expect, {path}. Make them "
            "sections of one ini file (-n A -n B), put them into folders of their own, or set GATE_EXPECTED=off."
        )

    def _claim_table(self, project: Project, label: str) -> None:
        """Raise `BadSettings` if another history has the same version table: each would read the rows of the other."""
        database = project.database(migrating=self._migrating)
        address, table = _address(database), project.table
        for other, (their_address, theirs) in self._tables.items():
            if their_address == address and (theirs.schema, theirs.table) == (table.schema, table.table):
                raise BadSettings(_shared_table(project, database, other, label))
        self._tables[label] = address, table

    def siblings(self, label: str) -> dict[str, Sibling]:
        """Return the other histories whose version tables are known; `label`: the one that they surround."""
        address, _ = self._tables.get(label, (None, None))
        return {
            other: Sibling(table, their_address == address)
            for other, (their_address, table) in self._tables.items()
            if other != label
        }


def _address(database: Database) -> object:
    """Return what two URLs of the same database have in common, as far as their texts show it."""
    if database.source is not None:
        return database.source
    url = database.url()
    if not url.conninfo:
        return url.verbatim
    return url.engine, *(url.conninfo.get(key) for key in ("service", "host", "hostaddr", "port", "dbname"))


def _shared_table(project: Project, database: Database, other: str, label: str) -> str:
    table, settings = project.table, project.settings
    name = f"{table.schema}.{table.table}" if table.schema else table.table
    text = (
        f"[{other}] and [{label}] would share the version table {printable(name)} ({database.url().display}), and each "
        "history needs its own."
    )
    if settings.version_table:
        return (
            f"{text} GATE_VERSION_TABLE holds for all histories: unset it if each env.py names its table, or "
            f"{OWN_GATES}."
        )
    if table.is_uncertain:
        computed = table.env_py.computed_table or table.env_py.computed_schema or table.env_py.unseen
        return (
            f"{text} gate does not run env.py, which may name another one ({computed}). Record it when the image is "
            f"built (gate expect -n A -n B), or {OWN_GATES}."
        )
    return (
        f"{text} Let env.py pass another version_table or version_table_schema to context.configure for one of them, "
        "or give them different databases (sqlalchemy.url of each section, without DATABASE_URL)."
    )
