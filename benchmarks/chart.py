"""Draws results.png: one check compared with the alternatives, with one panel for each number of revisions."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.check import ALEMBIC, ALEMBIC_WITH_APP, BASELINE, CHECK, RUN, CheckCosts
from benchmarks.measure import median_of, wall
from benchmarks.workspace import COLD, WARM

NAMES = {
    BASELINE: "bare script\n(psycopg, one query)",
    CHECK: "gate check",
    RUN: "gate run -- true",
    ALEMBIC: "alembic current\n--check-heads",
    ALEMBIC_WITH_APP: "the same, env.py\nimports an application",
}
GATE, OTHERS = ("#1f6f4a", "#9bcbb3"), ("#5b6470", "#c3c8cf")
"""Dark and light: with and without bytecode caches."""

BAR = 0.38


def draw(check_costs: CheckCosts, path: Path) -> None:
    rows = (len(check_costs.sizes) + 1) // 2
    figure, panels = plt.subplots(rows, 2, figsize=(12, 3.7 * rows + 0.6), squeeze=False)
    for panel in panels.flat[len(check_costs.sizes) :]:
        panel.set_visible(False)
    for panel, size in zip(panels.flat, check_costs.sizes, strict=False):
        _panel(panel, check_costs, size)
    figure.suptitle("One check of a current database, whole process, seconds (shorter is better)", fontsize=13)
    figure.text(0.5, 0.005, f"dark: {WARM};  light: {COLD};  medians", ha="center", fontsize=10)
    figure.tight_layout(rect=(0, 0.025, 1, 0.985))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(panel: Axes, check_costs: CheckCosts, size: int) -> None:
    panel.set_title(f"{size:,} revision{'s' if size > 1 else ''}", fontsize=11)
    for shift, caches in enumerate((WARM, COLD)):
        costs = check_costs.costs[size, caches]
        seconds = [median_of(costs[name], wall) for name in NAMES if name in costs]
        colours = [(GATE if name in {CHECK, RUN} else OTHERS)[shift] for name in NAMES if name in costs]
        positions = [n + (shift - 0.5) * BAR for n, name in enumerate(NAMES) if name in costs]
        bars = panel.barh(positions, seconds, BAR, color=colours)
        panel.bar_label(bars, [f"{each:.2f}" for each in seconds], padding=3, fontsize=9)
    panel.set_yticks(range(len(NAMES)), list(NAMES.values()), fontsize=9)
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.spines[["top", "right"]].set_visible(False)
