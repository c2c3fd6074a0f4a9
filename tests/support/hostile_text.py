"""Texts from a database or an image that try to forge output of gate, and a check that finds forged lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import ProgramResult

PAGE = Path(__file__).parents[2] / "docs" / "log-events.md"
EVENTS = frozenset(re.findall(r"^\| `(gate\.[a-z_]+)` \|", PAGE.read_text(), re.MULTILINE))
CONSOLE = re.compile(r"\d\d:\d\d:\d\d (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) +(gate\.[a-z_]+): ")

FORGED = '{"event": "gate.forged", "level": "info", "message": "All is well."}'
HOSTILE = {
    "line feeds and a line of log": f"x\n{FORGED}\n",
    "a carriage return and a line for people": "x\r12:00:00 INFO     gate.forged: All is well.\r",
    "escape sequences": "\x1b[2J\x1b[H\x1b]0;pwned\x07\x1b[31mx\x9b2J",
    "quotes and braces": '"}, {\'event\': "gate.forged"} \\" \\',
    "other line separators": "x\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029gate.forged",
    "bidirectional controls": "\u202egate.forged\u2066\u200f",
    "noncharacters": "\ufffe\uffff\U000e0001\ufeff",
    "markup": "<script>alert(1)</script><!-- &lt;",
    "format strings": "%s %(x)s {0} {x} $(id) `id` ${HOME}",
}
"""Texts with a meaning for a line-based log reader, a terminal, a JSON parser or a browser."""


def unexpected_lines(result: ProgramResult) -> Iterator[str]:
    """Yield the lines on standard error that are neither an event (JSON or console) nor a `gate: ` message."""
    for line in result.err.split("\n")[:-1]:
        if not _is_expected(line):
            yield line


def _is_expected(line: str) -> bool:
    if not line.isprintable():
        return False
    if line.startswith("{"):
        return json.loads(line)["event"] in EVENTS
    event = CONSOLE.match(line)
    return event[1] in EVENTS if event else line.startswith("gate: ") and "gate: gate.forged" not in line
