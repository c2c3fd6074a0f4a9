"""Reads tables, code blocks and log lines of README.md and the pages in docs/; formats tables and figures for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
"""Name of a page -> its text."""

FIGURES = re.compile(r"(.*<!-- figures: [^\n]+ -->\n).*(<!-- end of figures -->\n.*)", re.DOTALL)

ALL = "\n".join((README, *PAGES.values()))


def table(*heading: str, text: str = "\n".join(PAGES.values())) -> list[list[str]]:
    """Return the rows of the only table whose header starts with `heading`."""
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if _cells(line)[: len(heading)] == list(heading)]
    assert len(starts) == 1, f"{len(starts)} tables with the heading {heading}"
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(_cells(line))
    return rows


def tables(heading: str, text: str) -> list[list[str]]:
    """Return the rows of all tables in `text` whose first header cell is `heading`."""
    parts = re.split(rf"^(?=\| {re.escape(heading)} \|)", text, flags=re.MULTILINE)[1:]
    return [row for part in parts for row in table(heading, text=part)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, align_right: bool = False) -> str:
    """Return a Markdown table. `align_right`: align all but the first column to the right."""
    rule = ["---", *("---:" if align_right else "---" for _ in header[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *rows))


def sections(text: str, level: int = 2) -> dict[str, str]:
    """Map each heading of a level to the text below it."""
    parts = re.split(rf"^#{{{level}}} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def replace_figures(page: str, figures: str) -> str:
    """Return the page with these figures between the two comments that enclose its own."""
    found = FIGURES.fullmatch(page)
    assert found, "the page has no comments around its figures"
    before, after = found.groups()
    return f"{before}\n{figures.strip()}\n\n{after}"


def blocks(text: str, language: str = "") -> list[str]:
    """Return the fenced code blocks of a language, a regular expression."""
    fenced = re.findall(r"^```(\S*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for name, code in fenced if re.fullmatch(language, name)]


def dockerfile_recipes() -> list[str]:
    """Return the Dockerfile snippets: first for most images, then for an image with conflicting pins."""
    return blocks(PAGES["images"], "dockerfile")


def log_excerpts(page: str, section: str) -> list[tuple[str, str]]:
    """Return each log line of a section as (container name or "", pattern); `...` matches any text."""
    text = sections(PAGES[page])[section]
    lines = [line.split("...") for block in blocks(text) for line in block.splitlines() if "..." in line]
    assert lines
    return [(who.strip(), ".*".join(re.escape(part.strip()) for part in parts)) for who, *parts in lines]
