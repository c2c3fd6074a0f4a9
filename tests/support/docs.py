"""README.md and the pages in docs/, as the tests read them: tables, code blocks, log lines."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
"""Name of a page -> its text."""

ALL = "\n".join((README, *PAGES.values()))


def table(*heading: str, text: str = "\n".join(PAGES.values())) -> list[list[str]]:
    """The rows of the one table in the pages whose heading begins so."""
    lines = text.splitlines()
    found = [at for at, line in enumerate(lines) if _cells(line)[: len(heading)] == list(heading)]
    assert len(found) == 1, f"{len(found)} tables with the heading {heading}"
    rows = []
    for line in lines[found[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(_cells(line))
    return rows


def tables(heading: str, text: str) -> list[list[str]]:
    """The rows of all tables in this text whose heading begins so."""
    parts = re.split(rf"^(?=\| {re.escape(heading)} \|)", text, flags=re.MULTILINE)[1:]
    return [row for part in parts for row in table(heading, text=part)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def sections(text: str, level: int = 2) -> dict[str, str]:
    """Heading of this level -> what is below it."""
    parts = re.split(rf"^#{{{level}}} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str = "") -> list[str]:
    """What is fenced in this text as code of this language."""
    fenced = re.findall(r"^```(\S*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for named, code in fenced if re.fullmatch(language, named)]


def recipes() -> list[str]:
    """The lines for a Dockerfile: first those for most images, then those for an image with pins of its own."""
    return blocks(PAGES["images"], "dockerfile")


def shown(page: str, section: str) -> list[tuple[str, str]]:
    """Of each line in a section who logs it ("" where it does not say) and what; `...` stands for anything."""
    text = sections(PAGES[page])[section]
    lines = [line.split("...") for block in blocks(text) for line in block.splitlines() if "..." in line]
    assert lines
    return [(who.strip(), ".*".join(re.escape(part.strip()) for part in parts)) for who, *parts in lines]
