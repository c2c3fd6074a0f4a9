"""RESULTS.md: the targets first, then every table with how it came about."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from benchmarks.chapter import Chapter

PREFACE = """\
What gate costs
===============

Written by `{command}`; whole processes that ran in turn, medians, and ratios within one run. Others may have used the
machine at the same time: trust the ratios more than the milliseconds.
"""


def document(command: str, surroundings: Sequence[Sequence[str]], chapters: Sequence[Chapter], picture: str) -> str:
    targets = [target for chapter in chapters for target in chapter.targets]
    parts = [
        PREFACE.format(command=command),
        table(["", ""], surroundings),
        f"![Bars: gate check beside a bare script and alembic current]({picture})\n" if picture else "",
        "\nTargets\n-------\n",
        table(["what", "measured", "target", "met"], [target.row() for target in targets]),
        *(_filled(f"{target.what}: {target.why}") for target in targets if target.why and not target.met),
        *(part for chapter in chapters for part in _chapter(chapter)),
    ]
    return "\n".join(part for part in parts if part)


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield f"\n{chapter.title}\n{'-' * len(chapter.title)}\n"
    yield _filled(chapter.how)
    if chapter.rows:
        yield table(chapter.head, chapter.rows)


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown has it."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
