"""Dockerfile recipes and log excerpts from the README, for tests that compare them with real output."""

from __future__ import annotations

import re

from tests.support.containers import ROOT

README = (ROOT / "README.md").read_text()


def dockerfile_recipes() -> list[str]:
    """Return the Dockerfile snippets: first for most images, then for an image with conflicting pins."""
    return re.findall(r"^```dockerfile\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def log_excerpts(heading: str) -> list[tuple[str, str]]:
    """Return each log line under a heading as (container name or "", pattern); `...` matches any text."""
    section = README.split(f"\n### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    lines = [line.split("...") for block in blocks for line in block.splitlines() if "..." in line]
    assert lines
    return [(who.strip(), ".*".join(re.escape(part.strip()) for part in parts)) for who, *parts in lines]
