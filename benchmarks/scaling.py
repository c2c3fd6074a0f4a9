"""How the costs of reading, graph and comparison grow with the number of revisions."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from statistics import median

from benchmarks.project import Project
from benchmarks.section import Section, Target
from benchmarks.workspace import Workspace
from gate.drift import comparison
from gate.image import alembic_config, script_directory
from gate.image.revision_graph import RevisionGraph

SIZES = (1_000, 2_000, 5_000, 10_000)
MAX_GROWTH = 1.5
"""Limit for the cost per revision with 10,000 revisions relative to 1,000; more than 1, because CPU caches overflow."""

PARTS = (
    "read the image (files and graph)",
    "build the graph",
    "compare, current",
    "compare, all pending",
)


def measure(workspace: Workspace) -> Section:
    sizes = SIZES[:2] if workspace.quick else SIZES
    images = {size: _Image(workspace.project(size)) for size in sizes}
    rounds = [{size: image.parts() for size, image in images.items()} for _ in range(3 if workspace.quick else 11)]
    seconds = {size: [median(each) for each in zip(*(one[size] for one in rounds), strict=True)] for size in sizes}
    first, last = (seconds[size] for size in (sizes[0], sizes[-1]))
    growth = [(b / sizes[-1]) / (a / sizes[0]) for a, b in zip(first, last, strict=True)]
    return Section(
        "Scaling",
        "CPU time in one process; medians; the sizes alternate. Python's garbage collector is off, as in `timeit`, and"
        " rarely runs in gate. Every fifty revisions contain a branch and its merge. The last column is the cost per"
        " revision in the largest project divided by that in the smallest: 1 is linear.",
        ["part", *(f"{size:,}" for size in sizes), "growth per revision"],
        [
            [part, *(f"{1000 * seconds[size][n]:,.1f} ms" for size in sizes), f"{growth[n]:.2f} ×"]
            for n, part in enumerate(PARTS)
        ],
        [
            Target(
                f"{part}: cost per revision, {sizes[-1]:,} / {sizes[0]:,} revisions",
                ratio,
                MAX_GROWTH,
                reason="more revisions than the CPU's caches hold.",
                remedy="squashing old revisions.",
            )
            for part, ratio in zip(PARTS, growth, strict=True)
        ],
    )


class _Image:
    """One project, whose parts are measured repeatedly."""

    def __init__(self, project: Project) -> None:
        os.chdir(project.folder)
        self._configuration = alembic_config.read([], None, None)
        self._revisions = script_directory.read(self._configuration).graph.revisions.values()
        self._head = project.head

    def parts(self) -> list[float]:
        """Return the CPU seconds of each of PARTS. Each part gets a new graph, because a graph caches results."""
        parts: list[Callable[[RevisionGraph], object]] = [
            lambda _: script_directory.read(self._configuration),
            lambda _: RevisionGraph(self._revisions).heads,
            lambda graph: comparison.compare(graph, [self._head]),
            lambda graph: comparison.compare(graph, []),
        ]
        return [_cpu(part, RevisionGraph(self._revisions)) for part in parts]


def _cpu(part: Callable[[RevisionGraph], object], graph: RevisionGraph) -> float:
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        part(graph)
        return time.process_time() - started
    finally:
        gc.enable()
