"""`make` lists every target, and the documents name only existing targets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
TARGETS = set(re.findall(r"^\.PHONY: (\w+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_plain_make_tells_each_target_with_its_meaning() -> None:
    lines = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    meanings = {line.split()[1]: line.split(maxsplit=2)[2] for line in lines}
    assert set(meanings) == TARGETS
    assert all(meanings.values())


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", *PAGES])
def test_the_documents_name_targets_that_there_are(document: str) -> None:
    named = set(re.findall(r"(?:`| {4})make ([a-z]+)", (ROOT / document).read_text()))
    assert named <= TARGETS
