"""SECURITY.md promises nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
GUARANTEES = TEXT.split("## What gate guarantees")[1].split("\n## ")[0]
NAMED = sorted(set(re.findall(r"`(test_\w+(?:\.py)?)`", TEXT)))
FILES = {path.name: path.read_text() for path in (ROOT / "tests").glob("*/test_*.py")}


@pytest.mark.parametrize("name", NAMED)
def test_each_named_test_exists(name: str) -> None:
    assert name in FILES or any(f"def {name}(" in text for text in FILES.values())


def test_each_guarantee_names_its_tests() -> None:
    guarantees = GUARANTEES.split("\n- ")[1:]
    assert len(guarantees) >= 5
    assert [each for each in guarantees if "`test_" not in each] == []
