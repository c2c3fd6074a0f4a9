"""What a check cannot cost less than: Python, the import of psycopg, the connection, the commit, the new process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.measure import Costs, median_of, memory, wall
from benchmarks.section import Section
from benchmarks.workspace import COLD, WARM, Database, Workspace

CHECK = "`gate check`"
PROCESSES = {
    "a process that does nothing: `true`": ("/bin/true",),
    "Python without `site`: `python -I -S -c pass`": (sys.executable, "-I", "-S", "-c", "pass"),
    "Python: `python -c pass`": (sys.executable, "-c", "pass"),
    "Python and the import of psycopg": (sys.executable, "-c", "import psycopg"),
    "the same, and one row of the version table": (sys.executable, str(Path(__file__).with_name("baseline.py"))),
}
IMPORT = "Python and the import of psycopg"
OPERATIONS = 50
"""Connections and commits of which the median is taken."""


@dataclass(frozen=True)
class Floors:
    """The costs of whole processes by state of the bytecode caches, and seconds of single operations."""

    costs: dict[str, Costs]
    operations: dict[str, float]

    def seconds(self, caches: str) -> float:
        """Return the time in which Python starts and imports psycopg."""
        return median_of(self.costs[caches][IMPORT], wall)

    @property
    def memory(self) -> float:
        """The peak memory in MB of a process that has imported psycopg."""
        return median_of(self.costs[WARM][IMPORT], memory)

    def section(self) -> Section:
        return Section(
            "Floors",
            "What a check with 100 revisions contains in any case. Processes: medians over whole processes that"
            f" alternate. Operations: the median of {OPERATIONS} in one process, over loopback, with `fsync=off`: on a"
            " server whose commits wait for its disk, a commit takes as long as the disk does.",
            ["floor", WARM, f"share of {CHECK}", COLD, f"share of {CHECK}"],
            [*(self._process_row(name) for name in (*PROCESSES, CHECK)), *map(self._operation_row, self.operations)],
        )

    def _process_row(self, name: str) -> list[str]:
        return [
            name,
            *(
                cell
                for caches in (WARM, COLD)
                for cell in self._cells(median_of(self.costs[caches][name], wall), caches)
            ),
        ]

    def _operation_row(self, name: str) -> list[str]:
        return [name, *(cell for caches in (WARM, COLD) for cell in self._cells(self.operations[name], caches))]

    def _cells(self, seconds: float, caches: str) -> list[str]:
        return [f"{1000 * seconds:.1f} ms", f"{seconds / median_of(self.costs[caches][CHECK], wall):.0%}"]


def measure(workspace: Workspace) -> Floors:
    project = workspace.small
    database = workspace.database(project.head)
    rounds = 3 if workspace.quick else 15
    words = {**PROCESSES, CHECK: workspace.gate("check")}
    costs = {
        caches: workspace.timer.alternate(
            {
                name: workspace.command(project, workspace.environment(database, caches), *each)
                for name, each in words.items()
            },
            rounds,
        )
        for caches in (WARM, COLD)
    }
    return Floors(costs, _operations(database))


def _operations(database: Database) -> dict[str, float]:
    def connect() -> None:
        with psycopg.connect(database.url) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchall()

    with psycopg.connect(database.url) as connection:

        def commit() -> None:
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.commit()

        return {"connect and read one row": _median(connect), "change one row and commit": _median(commit)}


def _median(operation: Callable[[], None]) -> float:
    return median(_timed(operation) for _ in range(OPERATIONS))


def _timed(operation: Callable[[], None]) -> float:
    began = time.perf_counter()
    operation()
    return time.perf_counter() - began
