"""Writes RESULTS.md: the targets, then each table with its method."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from benchmarks.section import Section

PREFACE = """\
The costs of gate
=================

Written by `{command}`. The values are medians over whole processes that alternate, and ratios within one run. Other
programs may have used the machine at the same time, so the ratios are more reliable than the milliseconds.
"""


def document(command: str, system_info: Sequence[Sequence[str]], sections: Sequence[Section], chart: str) -> str:
    targets = [target for section in sections for target in section.targets]
    parts = [
        PREFACE.format(command=command),
        table(["", ""], system_info),
        f"![Bars: gate check beside a bare script and alembic current]({chart})\n" if chart else "",
        "\nTargets\n-------\n",
        table(["quantity", "measured", "target", "met"], [target.row() for target in targets]),
        *(
            _wrapped(f"{target.name}: {target.explanation}")
            for target in targets
            if target.explanation and not target.met
        ),
        *(part for section in sections for part in _section(section)),
    ]
    return "\n".join(part for part in parts if part)


def _section(section: Section) -> Iterator[str]:
    yield f"\n{section.title}\n{'-' * len(section.title)}\n"
    yield _wrapped(section.method)
    if section.rows:
        yield table(section.header, section.rows)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
