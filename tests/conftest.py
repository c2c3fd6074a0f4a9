"""One real PostgreSQL for the session, a database of its own for each test, and the real `gate`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.support.programs import GATE, Ended, Running, start
from tests.support.projects import Project, make_project

REQUIRE_ALL = os.environ.get("GATE_TEST_REQUIRE_ALL") == "1"
_numbers = count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """GATE_TEST_REQUIRE_ALL=1 turns every skip into a failure: CI installs what a test needs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although GATE_TEST_REQUIRE_ALL=1: {report.longrepr}"


@dataclass
class TestDatabase:
    """A database of one test."""

    __test__ = False
    server: EmbeddedPostgres
    name: str

    @property
    def url(self) -> str:
        """Its URL as superuser."""
        return self.server.url(self.name)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement in it."""
        return self.server.execute(statement, self.name)

    def stamp(self, *revisions: str, table: str = "alembic_version") -> None:
        """Make a version table with these rows."""
        self.execute(f"CREATE TABLE IF NOT EXISTS {table} (version_num varchar(32) PRIMARY KEY)")
        self.execute(f"DELETE FROM {table}")
        for revision in revisions:
            self.execute(f"INSERT INTO {table} VALUES ('{revision}')")

    def stamped(self, table: str = "alembic_version") -> set[object]:
        """The rows of its version table."""
        return {row[0] for row in self.execute(f"SELECT version_num FROM {table}")}

    def tables(self) -> set[object]:
        """The names of its tables in schema public."""
        return {row[0] for row in self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}

    def backends(self) -> list[tuple[object, ...]]:
        """Who is connected to it, and what they run."""
        return self.server.execute(
            "SELECT pid, application_name, state, query FROM pg_stat_activity"
            f" WHERE datname = '{self.name}' AND pid <> pg_backend_pid()"
        )

    def role(self, password: str, *grants: str) -> str:
        """Make a role that may connect, with these statements after ({role} stands for it), and give its URL."""
        role = f"role_{next(_numbers)}_{os.getpid()}"
        secret = password.replace("'", "''")
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{secret}'")
        for grant in grants:
            self.execute(grant.format(role=role))
        return self.server.url(self.name, user=role, password=quote(password, safe=""))


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


@contextmanager
def new_database(server: EmbeddedPostgres) -> Iterator[TestDatabase]:
    """Make an empty database and drop it again."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    yield TestDatabase(server, name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[TestDatabase]:
    """A new and empty database."""
    with new_database(postgres) as made:
        yield made


@pytest.fixture
def another_database(postgres: EmbeddedPostgres) -> Iterator[TestDatabase]:
    """A second one on the same server."""
    with new_database(postgres) as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with three revisions in a row: a1, a2, a3."""
    return make_project(tmp_path / "project").chain("a1", "a2", "a3")


@dataclass
class GateRunner:
    """Runs the real `gate` in a project against a database."""

    folder: Path
    url: str
    running: ExitStack = field(default_factory=ExitStack)

    def start(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> Running:
        """Start it and go on; a variable given as "" is unset, `prefix` is what starts it in its turn."""
        told = {"DATABASE_URL": self.url, **environment}
        watched = start([*prefix, *GATE, *arguments], told, self.folder)
        self.running.callback(watched.end)
        return watched

    def __call__(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> Ended:
        """Run it to its end."""
        return self.start(*arguments, prefix=prefix, **environment).wait()


@pytest.fixture
def gate(project: Project, database: TestDatabase) -> Iterator[GateRunner]:
    """The real `gate` in `project` against `database`."""
    runner = GateRunner(project.folder, database.url)
    with runner.running:
        yield runner


SERVER = [sys.executable, "-c", "print('server started', flush=True)"]
"""A server that says so and ends."""
