"""Draws docs/architecture.svg: `python docs/picture.py`. tests/unit/test_docs.py holds the picture to the package."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

PICTURE = Path(__file__).with_name("architecture.svg")
WIDTH, HEIGHT = 900, 775
PAPER, INK, FAINT, BOX, EDGE = "#1c2128", "#e6edf3", "#9da7b3", "#2d333b", "#79c0ff"

FLOW = "settings -> image (expected) + database (stamped) -> drift -> migration | waiting | process (exec)"


class Box(NamedTuple):
    """A folder or a module at the top of the package: what for, and where its middle is."""

    purpose: str
    x: int
    y: int
    width: int = 230


BOXES = {
    "cli": Box("arguments in, exit code out", 290, 110),
    "waiting": Box("check, decide, act, repeat", 290, 195),
    "expect": Box("records at build time", 520, 195, 170),
    "asgi": Box("any ASGI app", 690, 195, 120),
    "wsgi": Box("any WSGI app", 830, 195, 120),
    "tenants": Box("many schemas at a time", 160, 280),
    "readiness": Box("the verdict over HTTP", 430, 365),
    "migration": Box("upgrade under the lock", 160, 365),
    "drift": Box("compare, decide, explain", 375, 450),
    "database": Box("what is stamped, the lock", 375, 535),
    "settings": Box("environment, flags -> one value", 150, 625, 250),
    "process": Box("signals, threads, exec", 440, 625),
    "image": Box("what this image expects", 710, 625),
    "descriptors errors files log redaction text": Box("used by every folder", 430, 715, 320),
}
"""From the top down; imports run down only."""

ARROWS = (
    ("cli", "waiting"),
    ("cli", "asgi"),
    ("cli", "expect"),
    ("waiting", "tenants"),
    ("tenants", "migration"),
    ("waiting", "readiness"),
    ("asgi", "readiness"),
    ("wsgi", "readiness"),
    ("migration", "drift"),
    ("expect", "image"),
    ("readiness", "drift"),
    ("drift", "database"),
    ("database", "settings"),
    ("database", "process"),
    ("database", "image"),
    ("settings", "descriptors errors files log redaction text"),
    ("process", "descriptors errors files log redaction text"),
    ("image", "descriptors errors files log redaction text"),
)
"""Who imports whom. What an import reaches through another arrow has no arrow of its own."""

TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0,0 L8,4 L0,8 z" fill="{EDGE}"/></marker>'
)

HALF = 28
"""Half a box's height."""


def drawn() -> str:
    """As SVG; each arrow carries its ends, each box its name, so that a test can read them."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
            "<title>The folders of the package, their imports, and the flow</title>",
            f"<defs>{TIP}</defs>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{PAPER}"/>',
            _text(WIDTH // 2, 38, FLOW, 15, INK, "flow"),
            _text(WIDTH // 2, 60, "After every act gate checks again. An arrow is an import.", 13, FAINT),
            *(_arrow(start, end) for start, end in ARROWS),
            *(_box(name, box) for name, box in BOXES.items()),
            "</svg>\n",
        )
    )


def _arrow(start: str, end: str) -> str:
    one, other = BOXES[start], BOXES[end]
    shift = 0.25 * other.width * _towards(one.x - other.x)
    line = f"M{one.x + 0.25 * one.width * _towards(other.x - one.x):g},{one.y + HALF}"
    line += f" L{other.x + shift:g},{other.y - HALF}"
    return (
        f'<path data-from="{start}" data-to="{end}" d="{line}" stroke="{EDGE}" stroke-width="1.5"'
        ' fill="none" marker-end="url(#tip)"/>'
    )


def _towards(distance: int) -> float:
    """-1 .. 1: arrows to the side leave a box at its side."""
    return max(-1.0, min(1.0, distance / 200))


def _box(name: str, box: Box) -> str:
    left, top = box.x - box.width // 2, box.y - HALF
    return (
        f'<rect x="{left}" y="{top}" width="{box.width}" height="{2 * HALF}" rx="6" fill="{BOX}" stroke="{FAINT}"/>\n'
        + _text(box.x, box.y - 4, name, 15, INK, "box")
        + "\n"
        + _text(box.x, box.y + 16, box.purpose, 12, FAINT)
    )


def _text(x: int, y: int, words: str, size: int, colour: str, kind: str = "note") -> str:
    place = f'x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="middle"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
