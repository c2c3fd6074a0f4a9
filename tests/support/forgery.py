"""Whether a text from a database or an image could make gate say what gate did not say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import Ended

PAGE = Path(__file__).parents[2] / "docs" / "log-events.md"
EVENTS = frozenset(re.findall(r"^\| `(gate\.[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE))
CONSOLE = re.compile(r"\d\d:\d\d:\d\d (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) +(gate\.[a-z_]+): ")

FORGED = '{"event": "gate.forged", "level": "info", "message": "All is well."}'
HOSTILE = {
    "line feeds and a line of log": f"x\n{FORGED}\n",
    "a carriage return and a line for people": "x\r12:00:00 INFO     gate.forged: All is well.\r",
    "escape sequences": "\x1b[2J\x1b[H\x1b]0;pwned\x07\x1b[31mx\x9b2J",
    "quotes and braces": '"}, {\'event\': "gate.forged"} \\" \\',
    "other ends of a line": "x\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029gate.forged",
    "writing from the right": "\u202egate.forged\u2066\u200f",
    "no characters": "\ufffe\uffff\U000e0001\ufeff",
    "markup": "<script>alert(1)</script><!-- &lt;",
    "format strings": "%s %(x)s {0} {x} $(id) `id` ${HOME}",
}
"""Texts that mean something to whoever reads a log line by line, on a terminal, as JSON or as HTML."""


def lines_not_of_gate(ended: Ended) -> Iterator[str]:
    """Lines on standard error that are none of gate's own: no JSON event, no line for people, no `gate: ` sentence."""
    for line in ended.err.split("\n")[:-1]:
        if not _is_gates(line):
            yield line


def _is_gates(line: str) -> bool:
    if not line.isprintable():
        return False
    if line.startswith("{"):
        return json.loads(line)["event"] in EVENTS
    spoken = CONSOLE.match(line)
    return spoken[1] in EVENTS if spoken else line.startswith("gate: ") and "gate: gate.forged" not in line
