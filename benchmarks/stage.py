"""Where the measuring happens: one PostgreSQL on loopback, projects and databases made for it, and the stopwatch."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

from benchmarks.measure import Command, Stopwatch
from benchmarks.project import Project, make_project
from demo.embedded_postgres import EmbeddedPostgres, environment_without_settings

PROGRAMS = Path(sys.executable).parent
OPTIONS = (
    "max_connections=400",
    "log_connections=on",
    "log_line_prefix=%n %d ",
    "track_commit_timestamp=on",
)
WARM, COLD = "with bytecode caches", "without bytecode caches"


@dataclass(frozen=True)
class Database:
    """A database of one measurement."""

    server: EmbeddedPostgres
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def stamp(self, *rows: str) -> None:
        self.server.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num varchar(32))", self.name)
        self.server.execute("DELETE FROM alembic_version", self.name)
        for row in rows:
            self.server.execute(f"INSERT INTO alembic_version VALUES ('{row}')", self.name)

    def committed_at(self) -> float:
        """When the stamp was committed, by the server's clock."""
        statement = "SELECT max(extract(epoch FROM pg_xact_commit_timestamp(xmin)))::float8 FROM alembic_version"
        [(moment,)] = self.server.execute(statement, self.name)
        assert isinstance(moment, float)
        return moment

    def connections(self) -> list[float]:
        """When gate connected, by the server's log: each look is one connection."""
        log = (self.server.folder / "log").read_text(errors="replace").splitlines()
        marks = (f"database={self.name} ", "application_name=gate", "connection authorized")
        return [float(line.split()[0]) for line in log if all(mark in line for mark in marks)]


@dataclass
class Stage:
    """Everything that a measurement needs. `quick`: fewer rounds and shorter waits."""

    quick: bool
    server: EmbeddedPostgres
    folder: Path
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @cached_property
    def small(self) -> Project:
        """A project of a hundred revisions."""
        return self.project(100)

    def project(self, revisions: int, last: str = "") -> Project:
        return make_project(self.folder / f"project-{next(self._numbers)}", revisions, last)

    def database(self, *rows: str) -> Database:
        """Make a database with a table and this stamp."""
        database = Database(self.server, f"bench_{next(self._numbers)}")
        self.server.execute(f"CREATE DATABASE {database.name}")
        self.server.execute("CREATE TABLE owner (id int PRIMARY KEY)", database.name)
        database.stamp(*rows)
        return database

    def environment(self, database: Database, caches: str = WARM, **more: str) -> dict[str, str]:
        cache = {"PYTHONPYCACHEPREFIX": str(self.folder / caches.split(maxsplit=1)[0])}
        if caches == COLD:
            cache["PYTHONDONTWRITEBYTECODE"] = "1"
        given = environment_without_settings().items()
        plain = {name: value for name, value in given if not name.startswith("PYTHON")}  # DONTWRITEBYTECODE, say
        return {**plain, "DATABASE_URL": database.url, **cache, **more}

    def gate(self, *arguments: str) -> list[str]:
        return [str(PROGRAMS / "gate"), *arguments]

    def command(self, project: Project, environment: dict[str, str], *words: str, expected: int = 0) -> Command:
        return Command(words, environment, project.folder, expected)


@contextmanager
def stage(*, quick: bool) -> Iterator[Stage]:
    """Set everything up and leave nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="gate-bench-"))
    server = EmbeddedPostgres(options=OPTIONS)
    made = Stage(quick, server, folder)
    try:
        server.start()
        yield made
    finally:
        made.stopwatch.close()
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
