"""The recipes of docs/real-applications.md, each run as it is there, against the application from the registry.

Each application gets a virtual environment below build/applications, which is kept; gate runs from that of the tests.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.nightly.debian_postgres import PROGRAMS, DebianPostgres
from tests.support.docs import PAGES, ROOT, blocks, sections, table
from tests.support.mariadb import MariaDb
from tests.support.programs import ProgramResult, kill_seed, start

pytestmark = pytest.mark.timeout(3600)

PAGE = PAGES["real-applications"]
VENVS = ROOT / "build" / "applications"
GATE = Path(sys.executable).with_name("gate")
UPGRADE_TIMEOUT = 900.0
ANSWERS = ROOT / "tests" / "nightly" / "alembic_answers.py"
PACKAGES_OF_THE_PAGE = "/opt/app/lib/python3.11/site-packages"
PYTHON_OF_THE_PAGE = "/opt/app/bin/python"
NOT_SERVED = ("No matching distribution found", "Could not find a version", "Max retries exceeded")

INSTALLS = {
    re.sub(r"\[(.+?)\].*", r"\1", application): (scheme.strip("`"), installs.strip("`").split())
    for application, scheme, installs in table("application", "URL", "installs", text=PAGE)
}
"""Application -> the scheme of its URL, and what is installed."""

OWN_CONFIGURATION = {
    "Optuna": """
from optuna.storages import RDBStorage
config = RDBStorage("sqlite://")._version_manager._create_alembic_config()
""",
    "Keystone": """
from keystone.common import sql
from keystone.common.sql import upgrades
sql.initialize()
config = upgrades.get_alembic_config()
""",
    "Neutron": """
import sys
from neutron.common import config as common
from neutron.db.migration import cli
common.register_common_config_options()
cli.CONF(["current"], project="neutron")
config = cli.get_neutron_config()
""",
    "Prefect": """
from alembic.config import Config
from pathlib import Path
from prefect.server.database.alembic_commands import alembic_config
config = alembic_config()
versions = Path(config.config_file_name).parent / "_migrations" / "versions" / "postgresql"
config.set_main_option("version_locations", str(versions))
""",
    "Airflow": """
from airflow.utils.db import _get_alembic_config
config = _get_alembic_config()
""",
    "Airflow accounts": """
from airflow.settings import Session
from airflow.providers.fab.auth_manager.models.db import FABDBManager
config = FABDBManager(Session()).get_alembic_config()
""",
    "Superset": """
from flask import current_app
config = current_app.extensions["migrate"].migrate.get_config()
""",
    "ZenML": """
from zenml.zen_stores.migrations import alembic
config = alembic.Config()
config.set_main_option("script_location", alembic.__file__.rpartition("/")[0])
""",
    "MLflow": """
from mlflow.store.db.utils import _get_alembic_config
config = _get_alembic_config("")
""",
    "MLflow accounts": """
from mlflow.server.auth.db.utils import _get_alembic_config
config = _get_alembic_config("")
""",
    "Dagster": """
from dagster_postgres.run_storage import run_storage
config = run_storage.pg_alembic_config(run_storage.__file__)
""",
}
"""Application -> code that binds the Alembic configuration of the application itself, not that of its recipe."""

PREPARATION = {
    "Superset": """
import os
os.environ["DATABASE_URL"] = "sqlite://"  # the application creates tables when it starts
from superset.app import create_app
create_app().app_context().push()
"""
}
"""Application -> what must run before Alembic can import its scripts."""

VERSION_TABLES = {"MLflow accounts": "alembic_version_auth", "Airflow accounts": "alembic_version_fab"}
"""Application -> its version table, if that is not Alembic's."""

RECORDED = [name for name in INSTALLS if "RUN gate expect" in sections(PAGE)[name]]
"""The applications whose recipe records what their models need."""

DRAWS = 6
"""Columns, and tables, that are dropped from the database of each of them."""

NEEDS = {"Neutron": "mariadb", "ZenML": "mariadb", "Prefect": "debian_postgres"}
"""Application -> the fixture of its server, if that is not the embedded PostgreSQL; Prefect needs pg_trgm."""

USER = "application:secret"
"""User and password on MariaDB: ZenML refuses a URL without them."""


@dataclass
class Database:
    """A database of one application."""

    server: EmbeddedPostgres | MariaDb
    name: str
    scheme: str

    @property
    def url(self) -> str:
        """Its URL, with the driver of the application."""
        where = self.server.url(self.name).partition("@")[2]
        return f"{self.scheme}://{USER if isinstance(self.server, MariaDb) else 'postgres'}@{where}"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement in it."""
        return self.server.execute(statement, self.name)


@dataclass
class Recipe:
    """One application with its recipe, in a folder and a database of its own."""

    name: str
    venv: Path
    folder: Path
    database: Database

    def __post_init__(self) -> None:
        section = sections(PAGE)[self.name]
        [packages] = self.venv.glob("lib/python3*/site-packages")
        [ini], [self.settings] = blocks(section, "ini"), blocks(section, "sh")
        (self.folder / "alembic.ini").write_text(ini.replace(PACKAGES_OF_THE_PAGE, str(packages)))

    def gate(self, *arguments: str) -> ProgramResult:
        """Run gate after the recipe's own lines, as a container's shell does."""
        return self._run([str(GATE), *arguments])

    def expect(self) -> dict[str, list[str]]:
        """Run the line of the Dockerfile; return each recorded table with its columns."""
        section = sections(PAGE)[self.name]
        for module in blocks(section, "python"):
            (self.folder / module.split()[1]).write_text(module)
        [lines] = blocks(section, "dockerfile")
        words = shlex.split(lines.partition("RUN gate ")[2].replace("\\\n", " "))
        python = str(self.venv / "bin" / "python")
        done = self.gate(*(python if word == PYTHON_OF_THE_PAGE else word for word in words))
        assert (done.code, done.err) == (0, ""), done.err
        recorded = json.loads((self.folder / "gate-expected.json").read_text())
        assert {table["schema"] for table in recorded["tables"]} == {None}
        return {table["name"]: table["columns"] for table in recorded["tables"]}

    @contextmanager
    def copy(self) -> Iterator[Recipe]:
        """Yield the recipe with a copy of its database."""
        name = f"{self.database.name}_copy"
        self.database.server.execute(f"CREATE DATABASE {name} TEMPLATE {self.database.name}")
        yield replace(self, database=replace(self.database, name=name))
        self.database.server.execute(f"DROP DATABASE {name}")

    def alembic(self, code: str = "") -> dict[str, Any]:
        """What the application's Alembic says of the scripts, by the recipe's ini or by what `code` binds."""
        code = PREPARATION.get(self.name, "") + code
        done = self._run([str(self.venv / "bin" / "python"), str(ANSWERS), "alembic.ini", code])
        assert done.code == 0, done.err
        answer: dict[str, Any] = json.loads(done.out.splitlines()[-1])
        return answer

    def check(self) -> dict[str, Any]:
        """Run `gate check --json`; the exit code is 0 for CURRENT only."""
        done = self.gate("check", "--json")
        assert done.out, done.err
        answer: dict[str, Any] = json.loads(done.out)
        assert done.code == int(answer["verdict"] != "CURRENT")
        return answer

    def stamp(self, rows: Sequence[str]) -> None:
        """Put these rows into the version table that the application made."""
        self.database.execute(f"DELETE FROM {self.version_table}")
        for row in rows:
            self.database.execute(f"INSERT INTO {self.version_table} VALUES ('{row}')")

    @property
    def stamped(self) -> list[str]:
        """The rows of the version table."""
        return sorted(str(row) for [row] in self.database.execute(f"SELECT version_num FROM {self.version_table}"))

    @property
    def version_table(self) -> str:
        return VERSION_TABLES.get(self.name, "alembic_version")

    def _run(self, command: Sequence[str]) -> ProgramResult:
        script = ["/bin/sh", "-ec", f'{self.settings}\nexec "$@"', "sh", *command]
        environment = {
            "DATABASE_URL": self.database.url,
            "HOME": str(self.folder),
            "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}",
        }
        return start(script, environment, self.folder).wait(UPGRADE_TIMEOUT)


@pytest.fixture(params=INSTALLS)
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recipe]:
    """An application, installed as the page says, with an empty database of its own."""
    name = str(request.param)
    scheme, packages = INSTALLS[name]
    venv = installed(VENVS / re.split("[^a-z-]", packages[0])[0], packages)
    server = request.getfixturevalue(NEEDS.get(name, "postgres"))
    database = f"application_{os.getpid()}_{list(INSTALLS).index(name)}"
    server.execute(f"CREATE DATABASE {database}")
    yield Recipe(name, venv, tmp_path, Database(server, database, scheme))
    server.execute(f"DROP DATABASE {database}")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A MariaDB."""
    if not shutil.which("mariadbd"):
        pytest.skip("needs MariaDB: apt-get install mariadb-server")
    server = MariaDb().start()
    name, _, password = USER.partition(":")
    server.execute(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{password}'")
    server.execute(f"GRANT ALL ON *.* TO {name}@'127.0.0.1'")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[DebianPostgres]:
    """A PostgreSQL that has the extensions of contrib."""
    if not PROGRAMS:
        pytest.skip("needs PostgreSQL with its contrib: apt-get install postgresql")
    server = DebianPostgres().start()
    yield server
    server.remove()


def installed(venv: Path, packages: list[str]) -> Path:
    """Make the environment, or take the one that is there; it holds exactly what the page says."""
    stamp = venv / "installed.txt"
    if stamp.exists() and stamp.read_text().split() == packages:
        return venv
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if any(sentence in done.stderr for sentence in NOT_SERVED):
        pytest.skip(f"the package registry does not serve {' '.join(packages)}: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    stamp.write_text(" ".join(packages))
    return venv


@pytest.mark.parametrize("recipe", RECORDED, indirect=True)
def test_what_its_models_need_is_there_and_exactly_what_is_dropped_is_missing(recipe: Recipe) -> None:
    tables = recipe.expect()
    migrated = recipe.gate("migrate")
    assert migrated.code == 0, migrated.err
    found = recipe.check()
    assert (found["verdict"], found["missing"]) == ("CURRENT", [])

    seed = kill_seed()
    chosen = random.Random(seed)
    every = [(table, column) for table, columns in tables.items() for column in columns]
    drawn: list[tuple[str, str | None]] = [*chosen.sample(every, DRAWS)]
    drawn += [(table, None) for table in chosen.sample([*tables], min(DRAWS, len(tables)))]
    for name, column in drawn:
        with recipe.copy() as damaged:
            dropped = f'ALTER TABLE "{name}" DROP COLUMN "{column}"' if column else f'DROP TABLE "{name}"'
            damaged.database.execute(f"{dropped} CASCADE")
            item = {"kind": "column" if column else "table", "schema": None, "table": name, "column": column}
            found = damaged.check()
            assert (found["verdict"], found["missing"]) == ("INCOMPLETE", [item]), f"GATE_TEST_SEED={seed}"
    assert recipe.gate("run", "--", "echo", "served").out.endswith("served\n")


TWO_HISTORIES = """\
[tracking]
script_location = {packages}/mlflow/store/db_migrations

[accounts]
script_location = {packages}/mlflow/server/auth/db/migrations
"""


def test_two_histories_in_one_database_need_both_their_gates(tmp_path: Path, postgres: EmbeddedPostgres) -> None:
    scheme, packages = INSTALLS["MLflow"]
    name = f"histories_{os.getpid()}"
    postgres.execute(f"CREATE DATABASE {name}")
    mlflow = Recipe("MLflow", installed(VENVS / "mlflow", packages), tmp_path, Database(postgres, name, scheme))
    accounts = Recipe("MLflow accounts", mlflow.venv, tmp_path, mlflow.database)
    [site] = mlflow.venv.glob("lib/python3*/site-packages")
    (tmp_path / "alembic.ini").write_text(TWO_HISTORIES.format(packages=site))

    both = ["--on-unstamped", "wait", "--timeout", "2"]
    nested = ["run", "-n", "tracking", *both, "--", str(GATE), "run", "-n", "accounts", *both, "--", "echo", "served"]
    assert mlflow.gate(*nested).code == 124
    assert mlflow.gate("migrate", "-n", "tracking").code == 0
    assert mlflow.gate(*nested).code == 124
    assert accounts.gate("migrate", "-n", "accounts").code == 0
    assert mlflow.gate(*nested).out.endswith("served\n")
    mlflow.stamp([])
    assert mlflow.gate(*nested).code == 124
    postgres.execute(f"DROP DATABASE {name}")


def test_recipe_finds_the_scripts_that_the_application_finds(recipe: Recipe) -> None:
    if recipe.name in OWN_CONFIGURATION:
        own, alembic = recipe.alembic(OWN_CONFIGURATION[recipe.name]), recipe.alembic()
        assert own["heads"] == alembic["heads"]
        # Alembic orders independent branches by the order in which the folders are named.
        assert sorted(own["all"]) == sorted(alembic["all"])


def test_gate_agrees_with_alembic_before_and_after_it_has_migrated(recipe: Recipe) -> None:
    alembic = recipe.alembic()
    assert sorted(recipe.gate("heads").out.split()) == alembic["heads"]
    empty = recipe.check()
    assert (empty["verdict"], empty["pending"]) == ("EMPTY", alembic["all"])

    migrated = recipe.gate("migrate")
    assert migrated.code == 0, migrated.err
    assert migrated.event("gate.migrated")
    assert recipe.stamped == alembic["at_head"]
    assert recipe.check()["verdict"] == "CURRENT"
    assert recipe.gate("run", "--", "echo", "served").out.endswith("served\n")

    for behind in alembic["behind"]:
        recipe.stamp(behind["rows"])
        found = recipe.check()
        assert (found["verdict"], found["pending"]) == ("BEHIND", behind["pending"])
