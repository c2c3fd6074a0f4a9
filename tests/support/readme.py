"""The log lines that the README shows, as patterns for what really is logged."""

from __future__ import annotations

import re

from tests.support.containers import ROOT

README = (ROOT / "README.md").read_text()


def recipes() -> list[str]:
    """The lines for a Dockerfile: first those for most images, then those for an image with pins of its own."""
    return re.findall(r"^```dockerfile\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def shown(heading: str) -> list[tuple[str, str]]:
    """Of each line under a heading who logs it ("" where it does not say) and what; `...` stands for anything."""
    section = README.split(f"\n### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    lines = [line.split("...") for block in blocks for line in block.splitlines() if "..." in line]
    assert lines
    return [(who.strip(), ".*".join(re.escape(part.strip()) for part in parts)) for who, *parts in lines]
