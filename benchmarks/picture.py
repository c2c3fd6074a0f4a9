"""results.png: a look beside what is used today, one panel for each number of revisions."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.measure import middle, wall
from benchmarks.stage import COLD, WARM
from benchmarks.start import ALEMBIC, CHECK, FLOOR, LOADED, RUN, Starts

NAMES = {
    FLOOR: "bare script\n(psycopg, one query)",
    CHECK: "gate check",
    RUN: "gate run -- true",
    ALEMBIC: "alembic current\n--check-heads",
    LOADED: "the same, env.py\nimports an application",
}
GATE, OTHERS = ("#1f6f4a", "#9bcbb3"), ("#5b6470", "#c3c8cf")
"""Dark: with bytecode caches; light: without."""

BAR = 0.38


def draw(starts: Starts, path: Path) -> None:
    rows = (len(starts.sizes) + 1) // 2
    figure, panels = plt.subplots(rows, 2, figsize=(12, 3.7 * rows + 0.6), squeeze=False)
    for panel in panels.flat[len(starts.sizes) :]:
        panel.set_visible(False)
    for panel, size in zip(panels.flat, starts.sizes, strict=False):
        _panel(panel, starts, size)
    figure.suptitle("One look at a current database, whole process, seconds (shorter is better)", fontsize=13)
    figure.text(0.5, 0.005, f"dark: {WARM};  light: {COLD};  medians", ha="center", fontsize=10)
    figure.tight_layout(rect=(0, 0.025, 1, 0.985))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(panel: Axes, starts: Starts, size: int) -> None:
    panel.set_title(f"{size:,} revision{'s' if size > 1 else ''}", fontsize=11)
    for shift, caches in enumerate((WARM, COLD)):
        costs = starts.costs[size, caches]
        seconds = [middle(costs[name], wall) for name in NAMES if name in costs]
        colours = [(GATE if name in {CHECK, RUN} else OTHERS)[shift] for name in NAMES if name in costs]
        places = [n + (shift - 0.5) * BAR for n, name in enumerate(NAMES) if name in costs]
        bars = panel.barh(places, seconds, BAR, color=colours)
        panel.bar_label(bars, [f"{each:.2f}" for each in seconds], padding=3, fontsize=9)
    panel.set_yticks(range(len(NAMES)), list(NAMES.values()), fontsize=9)
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.spines[["top", "right"]].set_visible(False)
