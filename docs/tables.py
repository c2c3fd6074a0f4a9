"""Writes the tables of the pages that the code holds: `python docs/tables.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gate.cli.parser import OPERANDS
from gate.cli.serve import Metrics
from gate.readiness.cache import VerdictCache
from gate.settings.arguments import COMMANDS
from gate.settings.variables import SETTINGS

PAGES = Path(__file__).parent


def settings() -> Iterator[Sequence[str]]:
    """One row for each variable."""
    for setting in SETTINGS:
        yield f"`{setting.variable}`", _code(setting.flag), setting.default, setting.meaning


def commands() -> Iterator[Sequence[str]]:
    """One row for each command."""
    for name, meaning in COMMANDS.items():
        yield _code(f"gate {name} [options]{OPERANDS.get(name, '')}"), meaning


def metrics() -> Iterator[Sequence[str]]:
    """One row for each metric of `gate serve`."""
    for metric in Metrics({"": VerdictCache(ttl=1, timeout=1)}).collect():
        labels = ",".join(f'{name}="…"' for name in metric.samples[0].labels)
        yield _code(metric.name + (f"{{{labels}}}" if labels else "")), metric.documentation


TABLES = {
    "settings": ("settings.md", ("variable", "flag", "default", "meaning"), settings),
    "commands": ("commands.md", ("command", "what it does"), commands),
    "metrics": ("readiness.md", ("metric of `gate serve`", "meaning"), metrics),
}
"""Name in the page's mark -> page, heading, rows."""


def written(page: str, name: str) -> str:
    """The page's text with this table as the code has it."""
    _, heading, rows = TABLES[name]
    lines = "\n".join(_row(cells) for cells in (heading, ["---"] * len(heading), *rows()))
    begin, end = f"<!-- table: {name} -->\n\n", "\n\n<!-- end of table -->"
    return re.sub(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}{lines}{end}", page, count=1, flags=re.DOTALL
    )


def _row(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def main() -> None:
    """Write all of them."""
    for name, (page, *_) in TABLES.items():
        path = PAGES / page
        path.write_text(written(path.read_text(encoding="utf-8"), name), encoding="utf-8")


if __name__ == "__main__":
    main()
