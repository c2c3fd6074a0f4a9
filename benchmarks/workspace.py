"""The PostgreSQL, projects and databases that the measurements use, and the timer."""

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

from benchmarks.measure import Command, ProcessTimer
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
    """The database of one measurement."""

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
        """Return the time of the commit of the stamp, by the clock of the database."""
        statement = "SELECT max(extract(epoch FROM pg_xact_commit_timestamp(xmin)))::float8 FROM alembic_version"
        [(moment,)] = self.server.execute(statement, self.name)
        assert isinstance(moment, float)
        return moment

    def connections(self) -> list[float]:
        """Return the times at which gate connected, from the log of the database: each check is one connection."""
        return self._logged(f"database={self.name} ", "application_name=gate", "connection authorized")

    def statements(self) -> int:
        """Return the number of logged statements, where `log_statement` is set; one line has all of one message."""
        return len(self._logged(f" {self.name} LOG:  statement: "))

    def _logged(self, *markers: str) -> list[float]:
        """Return the times of the lines with these markers."""
        log = (self.server.folder / "log").read_text(errors="replace").splitlines()
        return [float(line.split()[0]) for line in log if all(marker in line for marker in markers)]


@dataclass
class Workspace:
    """Creates what a measurement needs. `quick` asks for fewer rounds and shorter waits."""

    quick: bool
    server: EmbeddedPostgres
    folder: Path
    timer: ProcessTimer = field(default_factory=ProcessTimer)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @cached_property
    def small(self) -> Project:
        """A project of a hundred revisions."""
        return self.project(100)

    def project(self, revisions: int, last: str = "") -> Project:
        return make_project(self.folder / f"project-{next(self._numbers)}", revisions, last)

    def database(self, *rows: str) -> Database:
        """Create a database with a table and a version table with these rows."""
        database = Database(self.server, f"bench_{next(self._numbers)}")
        self.server.execute(f"CREATE DATABASE {database.name}")
        self.server.execute("CREATE TABLE owner (id int PRIMARY KEY)", database.name)
        database.stamp(*rows)
        return database

    def environment(self, database: Database, caches: str = WARM, **variables: str) -> dict[str, str]:
        cache = {"PYTHONPYCACHEPREFIX": str(self.folder / caches.split(maxsplit=1)[0])}
        if caches == COLD:
            cache["PYTHONDONTWRITEBYTECODE"] = "1"
        inherited = environment_without_settings().items()
        plain = {name: value for name, value in inherited if not name.startswith("PYTHON")}
        return {**plain, "DATABASE_URL": database.url, **cache, **variables}

    def gate(self, *arguments: str) -> list[str]:
        return [str(PROGRAMS / "gate"), *arguments]

    def command(self, project: Project, environment: dict[str, str], *words: str, expected: int = 0) -> Command:
        return Command(words, environment, project.folder, expected)


@contextmanager
def workspace(*, quick: bool) -> Iterator[Workspace]:
    """Start PostgreSQL, and remove everything after the block."""
    folder = Path(tempfile.mkdtemp(prefix="gate-bench-"))
    server = EmbeddedPostgres(options=OPTIONS)
    created = Workspace(quick, server, folder)
    try:
        server.start()
        yield created
    finally:
        created.timer.close()
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
