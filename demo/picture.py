"""The chapters with gate as a picture for README.md: `make picture` runs the demo and writes demo/incident.svg."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("incident.svg")
COLUMNS, LINE_HEIGHT, COLUMN_WIDTH, MARGIN = 104, 19, 7.85, 20
PAPER, INK = "#1c2128", "#d0d7de"
COLOURS = {
    r"CRITICAL": "#ff7b72",
    r" 503 ": "#ffa657",
    r" 200 |gate\.(migrated|current|starting)": "#7ee787",
    r"\| \$ ": "#79c0ff",
    r"^\d\. ": "#ffffff",
}
"""What stands in a line -> its colour; the first that fits."""

LONG_ANSWER = re.compile(r'"verdict": .*\}$')


def main() -> None:
    """Run the demo and draw what it printed."""
    printed = subprocess.run([sys.executable, "-m", "demo.demo"], stdout=subprocess.PIPE, text=True, check=True).stdout
    PICTURE.write_text(drawn(told(printed)), encoding="utf-8")


def told(printed: str) -> list[str]:
    """From the second chapter to the server's last answer, in lines that fit."""
    story = printed[printed.index("2. WITH GATE") : printed.index("That is gate.")]
    return [piece for line in story.rstrip().splitlines() for piece in _wrapped(LONG_ANSWER.sub("…}", line))]


def _wrapped(line: str) -> list[str]:
    indent = " " * 12 if "|" in line else ""
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]


def drawn(lines: list[str]) -> str:
    """As SVG, in the reader's own fixed-width font."""
    width, height = round(COLUMNS * COLUMN_WIDTH + 2 * MARGIN), len(lines) * LINE_HEIGHT + 2 * MARGIN
    colour, texts = INK, []
    for number, line in enumerate(lines):
        colour = colour if line.startswith(" " * 12) else _colour(line)
        place = f'x="{MARGIN}" y="{MARGIN + (number + 0.8) * LINE_HEIGHT:g}" fill="{colour}"'
        texts.append(f'<text {place} xml:space="preserve">{escape(line, quote=False)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="13"'
        ' font-family="ui-monospace, Menlo, Consolas, monospace">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>\n' + "\n".join(texts) + "\n</svg>\n"
    )


def _colour(line: str) -> str:
    return next((colour for pattern, colour in COLOURS.items() if re.search(pattern, line)), INK)


if __name__ == "__main__":
    main()
