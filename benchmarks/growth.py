"""How the reader, the graph and the drift grow with the number of revisions."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from statistics import median

from benchmarks.chapter import Chapter, Target
from benchmarks.project import Project
from benchmarks.stage import Stage
from gate.drift import comparison
from gate.image import alembic_config, script_directory
from gate.image.revision_graph import RevisionGraph

SIZES = (1_000, 2_000, 5_000, 10_000)
LINEAR = 1.5
"""What a revision among ten thousand may cost more than one among a thousand: caches of the processor run full."""

PARTS = (
    "read the image (files and graph)",
    "the graph alone",
    "drift, current",
    "drift, behind by all",
)


def measure(stage: Stage) -> Chapter:
    sizes = SIZES[:2] if stage.quick else SIZES
    images = {size: _Image(stage.project(size)) for size in sizes}
    rounds = [{size: image.parts() for size, image in images.items()} for _ in range(3 if stage.quick else 11)]
    seconds = {size: [median(each) for each in zip(*(one[size] for one in rounds), strict=True)] for size in sizes}
    first, last = (seconds[size] for size in (sizes[0], sizes[-1]))
    growth = [(b / sizes[-1]) / (a / sizes[0]) for a, b in zip(first, last, strict=True)]
    return Chapter(
        "Growth",
        "CPU time inside one process, the sizes in turn, medians, without Python's collection of garbage (like"
        " `timeit`; gate itself hardly has any). Every fifty revisions hold a branch and its merge. The last column is"
        " the cost of one revision in the largest project as a ratio to the smallest: 1 is linear.",
        ["part", *(f"{size:,}" for size in sizes), "growth per revision"],
        [
            [part, *(f"{1000 * seconds[size][n]:,.1f} ms" for size in sizes), f"{growth[n]:.2f} ×"]
            for n, part in enumerate(PARTS)
        ],
        [
            Target(f"{part}: a revision among {sizes[-1]:,} / among {sizes[0]:,}", each, LINEAR)
            for part, each in zip(PARTS, growth, strict=True)
        ],
    )


class _Image:
    """The scripts of one project, read once, to be measured again and again."""

    def __init__(self, project: Project) -> None:
        os.chdir(project.folder)
        self._found = alembic_config.read([], None, None)
        self._revisions = script_directory.read(self._found).graph.revisions.values()
        self._head = project.head

    def parts(self) -> list[float]:
        """Seconds for each of PARTS; the graph is a new one each time, which remembers nothing yet."""
        parts: list[Callable[[RevisionGraph], object]] = [
            lambda _: script_directory.read(self._found),
            lambda _: RevisionGraph(self._revisions).heads,
            lambda graph: comparison.compare(graph, [self._head]),
            lambda graph: comparison.compare(graph, []),
        ]
        return [_cpu(part, RevisionGraph(self._revisions)) for part in parts]


def _cpu(part: Callable[[RevisionGraph], object], graph: RevisionGraph) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        part(graph)
        return time.process_time() - began
    finally:
        gc.enable()
