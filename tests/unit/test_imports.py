"""What a command loads and reads: a look that stands before every start pays for nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.metadata import packages_distributions
from importlib.util import cache_from_source

import pytest

from demo.embedded_postgres import environment_without_settings
from tests.conftest import GateRunner, TestDatabase
from tests.support.projects import Project

MODULES = {
    "gate",
    *(
        f"gate.{module}"
        for module in (
            "__main__ cli cli.arguments cli.check cli.main database database.engine database.location database.lock "
            "database.missing database.postgresql database.postgresql.connection database.postgresql.engine "
            "database.postgresql.sql database.postgresql.stamp database.stamp drift drift.comparison "
            "drift.inspector "
            "drift.messages drift.project errors files image image.alembic_config image.env_py image.plain_script "
            "image.revision_graph image.script_directory image.script_parser process process.gc_tuning process.stdio "
            "process.threads redaction settings settings.arguments settings.database_url settings.reader "
            "settings.settings settings.variables text"
        ).split()
    ),
}
"""All that a `gate check` of a current database may load of gate."""

LIBRARIES = {"psycopg", "psycopg_binary", "typing_extensions"}
"""And of others: psycopg and what it loads itself."""

FOR_LATER = {
    "tenacity": "waiting",
    **dict.fromkeys(
        ("gate.migration.migrate", "gate.migration.process", "gate.database.postgresql.lock", "gate.migration.monitor"),
        "migrating",
    ),
    **dict.fromkeys(("sqlalchemy", "alembic"), "upgrading"),
}
"""What a start before which nothing is to be done has no use for, and what it would be for."""

BESIDE_PSYCOPG = ("configparser", "gc", "symtable")
"""And of the standard library beyond what psycopg and a connection load."""

MEASURED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""The same as `python -X importtime`."""


def imported(report: str) -> set[str]:
    """The modules in what `-X importtime` wrote."""
    lines = (line.split("|") for line in report.splitlines() if line.startswith("import time:"))
    return {fields[-1].strip() for fields in lines}


def of_others(modules: set[str]) -> set[str]:
    """The packages that some installed distribution brought, gate's own left out."""
    return {module.split(".")[0] for module in modules} & packages_distributions().keys() - {"gate"}


def run(*words: str, database: TestDatabase, project: Project | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with these words."""
    environment = {**environment_without_settings(), "DATABASE_URL": database.url}
    folder = project.folder if project else None
    command = [sys.executable, "-P", *words]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=60)


@pytest.fixture
def at_every_start() -> set[str]:
    """What this installation loads before any program."""
    nothing = [sys.executable, "-X", "importtime", "-P", "-c", ""]
    done = subprocess.run(nothing, capture_output=True, text=True, check=True, timeout=60)
    return imported(done.stderr)


def test_a_current_check_loads_only_what_it_needs(
    gate: GateRunner, database: TestDatabase, at_every_start: set[str]
) -> None:
    database.stamp("a3")
    ended = gate("check", **MEASURED)
    assert (ended.code, ended.out.split()[0]) == (0, "CURRENT")
    loaded = imported(ended.err) - at_every_start
    assert {m for m in loaded if m.split(".")[0] == "gate"} - MODULES == set(), "is it worth its cost at every start?"
    assert "gate.drift.inspector" in loaded
    assert {"psycopg"} <= of_others(loaded) <= LIBRARIES


def test_a_start_that_waits_for_nothing_loads_neither_waiting_nor_migrating(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a3")
    ended = gate("run", "--", "true", RUN_MIGRATIONS="1", **MEASURED)
    loaded = imported(ended.err)
    assert ended.code == 0
    assert {"gate.waiting.loop", "psycopg", "structlog"} <= loaded
    assert {module: use for module, use in FOR_LATER.items() if module in loaded} == {}


def test_of_the_standard_library_it_loads_hardly_more_than_psycopg(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    floor = (
        f"import os, runpy, {', '.join(BESIDE_PSYCOPG)}, psycopg; psycopg.connect(os.environ['DATABASE_URL']).close()"
    )
    done = run("-X", "importtime", "-c", floor, database=database)
    ended = gate("check", **MEASURED)
    more = imported(ended.err) - imported(done.stderr)
    assert {module for module in more if module.split(".")[0] != "gate"} == set(), "is it worth its cost?"


READING = """
import sys
def told(event, arguments):
    if event in {"open", "os.scandir", "os.listdir"}:
        print("READS", arguments[0], file=sys.stderr)
sys.addaudithook(told)
from gate.cli.main import main
main()
"""


def test_each_file_is_read_once_and_each_folder_listed_once(project: Project, database: TestDatabase) -> None:
    database.stamp("a3")
    done = run("-c", READING, "check", database=database, project=project)
    assert done.stdout.startswith("CURRENT")
    ours = (str(project.folder), "alembic.ini")
    read = Counter(
        line.removeprefix("READS ") for line in done.stderr.splitlines() if any(name in line for name in ours)
    )
    migrations = project.folder / "migrations"
    scripts = [str(migrations / "versions" / f"{name}.py") for name in ("a1", "a2", "a3")]
    caches = [cache_from_source(script) for script in scripts]
    folders = [str(migrations / "env.py"), str(migrations / "versions")]
    assert read == dict.fromkeys(["alembic.ini", *folders, *scripts, *caches], 1)


def test_telling_the_heads_loads_no_library_at_all(gate: GateRunner, at_every_start: set[str]) -> None:
    ended = gate("heads", **MEASURED)
    assert (ended.code, ended.out) == (0, "a3\n")
    loaded = imported(ended.err) - at_every_start
    assert "gate.image.script_directory" in loaded
    assert of_others(loaded) == set()
    assert "tomllib" not in loaded
