"""Shared fixtures: one PostgreSQL per session, one database per test, and the `gate` command."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from demo.embedded_postgres import OWN_SESSION, EmbeddedPostgres
from tests.support.mariadb import MariaDb
from tests.support.programs import GATE_COMMAND, ProgramResult, RunningProgram, kill_seed, start
from tests.support.projects import Project, make_project

REQUIRE_ALL = os.environ.get("GATE_TEST_REQUIRE_ALL") == "1"
_numbers = count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn every skip into a failure if GATE_TEST_REQUIRE_ALL=1: CI installs everything that the tests need.

    Record how many examples Hypothesis has drawn, for `make nightly`.
    """
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although GATE_TEST_REQUIRE_ALL=1: {report.longrepr}"
    if call.when == "call" and hasattr(item, "hypothesis_statistics"):
        passed = re.findall(r"(\d+) passing", item.hypothesis_statistics)
        item.user_properties.append(("examples", sum(map(int, passed))))


def pytest_configure() -> None:
    """Choose the seed of the kill rounds before xdist starts its workers, which inherit it."""
    kill_seed()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the kill rounds have hit, and write it to build/kills.md."""
    from tests.support.failover_rounds import ALL_VICTIMS  # these use this module
    from tests.support.kill_rounds import KillTable

    table = KillTable(ALL_VICTIMS)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "kill" and report.when == "call":
                    table.add(*value)
    if table.hits:
        lines = table.lines()
        terminalreporter.section("kill rounds")
        terminalreporter.write_line("\n".join(lines))
        build = config.rootpath / "build"
        build.mkdir(exist_ok=True)
        (build / "kills.md").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """One server for all tests of a worker."""
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed")
    server = MariaDb().start()
    yield server
    server.remove()


@dataclass
class TestDatabase:
    """The database of one test."""

    __test__ = False
    server: EmbeddedPostgres
    name: str

    @property
    def url(self) -> str:
        """The URL with the superuser as its user."""
        return self.server.url(self.name)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement as superuser and return its rows."""
        return self.server.execute(statement, self.name)

    def stamp(self, *revisions: str, table: str = "alembic_version") -> None:
        """Create the version table, if it is missing, and replace its rows."""
        self.execute(f"CREATE TABLE IF NOT EXISTS {table} (version_num varchar(32) PRIMARY KEY)")
        self.execute(f"DELETE FROM {table}")
        for revision in revisions:
            self.execute(f"INSERT INTO {table} VALUES ('{revision}')")

    def stamped(self, table: str = "alembic_version") -> set[object]:
        """Return the rows of the version table."""
        return {row[0] for row in self.execute(f"SELECT version_num FROM {table}")}

    def tables(self) -> set[object]:
        """Return the names of the tables in schema public."""
        return {row[0] for row in self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}

    def backends(self) -> list[tuple[object, ...]]:
        """Return the sessions of others in this database: pid, application_name, state and query.

        The session of an earlier `execute` may take a moment to end.
        """
        return self.server.execute(
            "SELECT pid, application_name, state, query FROM pg_stat_activity"
            f" WHERE datname = '{self.name}' AND application_name <> '{OWN_SESSION}'"
        )

    def create_role(self, password: str, *grants: str) -> str:
        """Create a login role, run `grants` with its name for {role}, and return the URL with this role."""
        role = f"role_{next(_numbers)}_{os.getpid()}"
        secret = password.replace("'", "''")
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{secret}'")
        for grant in grants:
            self.execute(grant.format(role=role))
        return self.server.url(self.name, user=role, password=quote(password, safe=""))


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL server of the session."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@contextmanager
def new_database(server: EmbeddedPostgres) -> Iterator[TestDatabase]:
    """Create an empty database and drop it after the block."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    yield TestDatabase(server, name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[TestDatabase]:
    """A new, empty database."""
    with new_database(postgres) as empty:
        yield empty


@pytest.fixture
def another_database(postgres: EmbeddedPostgres) -> Iterator[TestDatabase]:
    """A second empty database on the same server."""
    with new_database(postgres) as empty:
        yield empty


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with three linear revisions: a1, a2, a3."""
    return make_project(tmp_path / "project").chain("a1", "a2", "a3")


@dataclass
class GateRunner:
    """Runs `gate` in a project folder against a database."""

    folder: Path
    url: str
    running: ExitStack = field(default_factory=ExitStack)

    def start(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> RunningProgram:
        """Start `gate` without waiting for it. `prefix` is a command that runs gate, such as `unshare`."""
        variables = {"DATABASE_URL": self.url, **environment}
        program = start([*prefix, *GATE_COMMAND, *arguments], variables, self.folder)
        self.running.callback(program.end)
        return program

    def __call__(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> ProgramResult:
        """Run `gate` and return its result."""
        return self.start(*arguments, prefix=prefix, **environment).wait()


@pytest.fixture
def gate(project: Project, database: TestDatabase) -> Iterator[GateRunner]:
    """The `gate` command in `project` against `database`."""
    runner = GateRunner(project.folder, database.url)
    with runner.running:
        yield runner


SERVER = [sys.executable, "-c", "print('server started', flush=True)"]
"""A server that prints a line and exits."""
