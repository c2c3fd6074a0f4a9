"""Writes RESULTS.md: the missed targets, all targets, then each table with its method."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from benchmarks.section import Section, Target
from tests.support.docs import format_table

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
        *_missed([target for target in targets if not target.met]),
        "\nTargets\n-------\n",
        _wrapped("The last column is filled where a value is near its limit: what gate cannot avoid (see Floors)."),
        format_table(["quantity", "measured", "target", "met", "floor"], [target.row() for target in targets]),
        "\nThe machine\n-----------\n",
        format_table(["", ""], system_info),
        f"![Bars: gate check beside a bare script and alembic current]({chart})\n" if chart else "",
        *(part for section in sections for part in _section(section)),
    ]
    return "\n".join(part for part in parts if part)


def _missed(targets: Sequence[Target]) -> Iterator[str]:
    yield "\nMissed\n------\n"
    if not targets:
        yield "All targets are met.\n"
    for target in targets:
        parts = [f"**{target.name}**: {target.value}, the target is {target.bound}."]
        parts += [f"Reason: {target.reason}"] if target.reason else []
        parts += [f"What would change it: {target.remedy}"] if target.remedy else []
        yield _wrapped(" ".join(parts))


def _section(section: Section) -> Iterator[str]:
    yield f"\n{section.title}\n{'-' * len(section.title)}\n"
    yield _wrapped(section.method)
    if section.rows:
        yield format_table(section.header, section.rows)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"
