"""`python -m benchmarks [NAME...]` runs all measurements, or the named ones, and prints the report.

A run of all measurements writes RESULTS.md, results.png and the figures in the documentation. With QUICK=1 it takes
shorter measurements and writes the same files into build/.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from benchmarks import (
    chart,
    check,
    containers,
    endpoint,
    expectations,
    floors,
    pages,
    report,
    scaling,
    schemas,
    server_start,
    system_info,
    table_locks,
    tenants,
    waiting,
)
from benchmarks.check import CheckCosts
from benchmarks.floors import Floors
from benchmarks.section import Section
from benchmarks.workspace import Workspace, workspace

HERE = Path(__file__).resolve().parent
QUICK_FOLDER = HERE.parent / "build"
"""The results of quick runs are not precise enough to publish."""


class Benchmarks:
    """All measurements, in order: those that use all cores run last."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.check_costs: CheckCosts | None = None

    @property
    def measurements(self) -> dict[str, Callable[[], Iterable[Section]]]:
        return {
            "floors": lambda: [self.floors.section()],
            "check": self._check,
            "expectations": lambda: [expectations.measure(self._workspace)],
            "schemas": lambda: [schemas.measure(self._workspace)],
            "scaling": lambda: [scaling.measure(self._workspace)],
            "endpoint": lambda: [endpoint.measure(self._workspace)],
            "waiting": lambda: [waiting.measure(self._workspace, self.floors)],
            "start-after-migration": lambda: [server_start.after_the_migration(self._workspace)],
            "table-locks": lambda: [table_locks.measure(self._workspace)],
            "containers": lambda: [containers.measure(quick=self._workspace.quick)],
            "tenants": lambda: [tenants.measure(self._workspace)],
            "replicas": lambda: [server_start.replicas(self._workspace, self.floors)],
        }

    @cached_property
    def floors(self) -> Floors:
        return floors.measure(self._workspace)

    def _check(self) -> Iterable[Section]:
        self.check_costs = check.measure(self._workspace)
        return check.sections(self.check_costs)

    def sections(self, names: Iterable[str]) -> list[Section]:
        sections: list[Section] = []
        for name in names:
            started = time.monotonic()
            sections += self.measurements[name]()
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        return sections


def main() -> None:
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    with workspace(quick=quick) as created:
        benchmarks = Benchmarks(created)
        sections = benchmarks.sections(sys.argv[1:] or benchmarks.measurements)
        system = system_info.rows(created)
    name = "results.png" if benchmarks.check_costs and not sys.argv[1:] else ""
    text = report.document("make bench QUICK=1" if quick else "make bench", system, sections, name)
    print(text)
    if not sys.argv[1:] and benchmarks.check_costs:
        _write(QUICK_FOLDER if quick else HERE, text, benchmarks.check_costs)
        _write_pages(QUICK_FOLDER if quick else None, benchmarks.check_costs, sections)


def _write(folder: Path, text: str, check_costs: CheckCosts) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "RESULTS.md").write_text(text)
    chart.draw(check_costs, folder / "results.png")


def _write_pages(folder: Path | None, check_costs: CheckCosts, sections: Sequence[Section]) -> None:
    readme, costs = HERE.parent / "README.md", HERE.parent / "docs" / "costs.md"
    updated = {
        readme: pages.with_sentences(readme.read_text(), check_costs, sections),
        costs: pages.with_cost_tables(costs.read_text(), check_costs, sections),
    }
    for path, text in updated.items():
        (folder / path.name if folder else path).write_text(text)


main()
