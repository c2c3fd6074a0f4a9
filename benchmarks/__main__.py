"""`python -m benchmarks`: all measurements, then the report; with names of measurements only those, printed.

A whole run writes RESULTS.md, results.png and the figures of docs/costs.md and README.md; a quick one writes the same
into build/.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import airflow, endpoint, growth, handing_over, pages, picture, report, start, surroundings, waiting
from benchmarks.chapter import Chapter
from benchmarks.stage import Stage, stage
from benchmarks.start import Starts

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
QUICK_HERE = HERE.parent / "build"
"""A short run is no result to be shown."""


class Bench:
    """All measurements in their order: short ones first, those that fill the machine last."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.starts: Starts | None = None

    @property
    def measurements(self) -> dict[str, Callable[[], Iterable[Chapter]]]:
        return {
            "start": self._start,
            "airflow": lambda: [airflow.measure(self._stage)],
            "growth": lambda: [growth.measure(self._stage)],
            "endpoint": lambda: [endpoint.measure(self._stage)],
            "waiting": lambda: [waiting.measure(self._stage)],
            "handing-over": lambda: [handing_over.after_the_migration(self._stage)],
            "replicas": lambda: [handing_over.replicas(self._stage)],
        }

    def _start(self) -> Iterable[Chapter]:
        self.starts = start.measure(self._stage)
        return start.chapters(self.starts)

    def chapters(self, names: Iterable[str]) -> list[Chapter]:
        found: list[Chapter] = []
        for name in names:
            began = time.monotonic()
            found += self.measurements[name]()
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return found


def main() -> None:
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    with stage(quick=quick) as made:
        bench = Bench(made)
        chapters = bench.chapters(sys.argv[1:] or bench.measurements)
        where = surroundings.rows(made)
    name = "results.png" if bench.starts and not sys.argv[1:] else ""
    text = report.document("make bench QUICK=1" if quick else "make bench", where, chapters, name)
    print(text)
    if not sys.argv[1:] and bench.starts:
        _write(QUICK_HERE if quick else HERE, text, bench.starts)
        _write_pages(*((QUICK_HERE, QUICK_HERE) if quick else (HERE.parent, DOCS)), bench.starts, chapters)


def _write(folder: Path, text: str, starts: Starts) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "RESULTS.md").write_text(text)
    picture.draw(starts, folder / "results.png")


def _write_pages(front: Path, docs: Path, starts: Starts, chapters: Sequence[Chapter]) -> None:
    (front / "README.md").write_text(pages.readme((HERE.parent / "README.md").read_text(), starts))
    (docs / "costs.md").write_text(pages.costs((DOCS / "costs.md").read_text(), starts, chapters))


main()
