"""`make picture` runs the demo and draws the steps with gate for README.md, as demo/incident.svg."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("incident.svg")
COLUMNS, LINE_HEIGHT, COLUMN_WIDTH, MARGIN = 104, 19, 7.85, 20
BACKGROUND, FOREGROUND = "#1c2128", "#d0d7de"
COLOURS = {
    r"CRITICAL": "#ff7b72",
    r" 503 ": "#ffa657",
    r" 200 |gate\.(migrated|current|starting)": "#7ee787",
    r"\| \$ ": "#79c0ff",
    r"^\d\. ": "#ffffff",
}
"""Maps patterns to the colour of a line. The first match counts."""

ONLY_ON_A_BUSY_MACHINE = "Migrating now: "
"""In a line of log about a migration that usually ends before the next check."""

RESPONSE_DETAILS = re.compile(r'"verdict": .*\}$')


def main() -> None:
    """Run the demo and draw what it printed."""
    output = subprocess.run([sys.executable, "-m", "demo.demo"], stdout=subprocess.PIPE, text=True, check=True).stdout
    PICTURE.write_text(svg(excerpt(output)), encoding="utf-8")


def excerpt(output: str) -> list[str]:
    """Return the output from the second heading to the fifth, wrapped to COLUMNS."""
    steps = output[output.index("2. WITH GATE") : output.index("5. STAMPED")]
    lines = (line for line in steps.rstrip().splitlines() if ONLY_ON_A_BUSY_MACHINE not in line)
    return [piece for line in lines for piece in _wrapped(RESPONSE_DETAILS.sub("…}", line))]


def _wrapped(line: str) -> list[str]:
    indent = " " * 12 if "|" in line else ""
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]


def svg(lines: list[str]) -> str:
    """Return the lines as SVG, in the fixed-width font of the reader."""
    width, height = round(COLUMNS * COLUMN_WIDTH + 2 * MARGIN), len(lines) * LINE_HEIGHT + 2 * MARGIN
    colour, texts = FOREGROUND, []
    for number, line in enumerate(lines):
        colour = colour if line.startswith(" " * 12) else _colour(line)
        attributes = f'x="{MARGIN}" y="{MARGIN + (number + 0.8) * LINE_HEIGHT:g}" fill="{colour}"'
        texts.append(f'<text {attributes} xml:space="preserve">{escape(line, quote=False)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="13"'
        ' font-family="ui-monospace, Menlo, Consolas, monospace">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>\n' + "\n".join(texts) + "\n</svg>\n"
    )


def _colour(line: str) -> str:
    return next((colour for pattern, colour in COLOURS.items() if re.search(pattern, line)), FOREGROUND)


if __name__ == "__main__":
    main()
