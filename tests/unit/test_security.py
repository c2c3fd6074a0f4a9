"""Each promise and each fault that a page names has existing tests, and comments cite existing hazards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECURITY, HAZARDS, RELIABILITY = (
    (ROOT / name).read_text() for name in ("SECURITY.md", "docs/hazards.md", "docs/reliability.md")
)
GUARANTEES = SECURITY.split("## What gate guarantees")[1].split("\n## ")[0].split("\n- ")[1:]
SECTIONS = HAZARDS.split("\n## ")[1:]
NAMED = sorted(set(re.findall(r"`(test_\w+(?:\.py)?)`", SECURITY + HAZARDS + RELIABILITY)))
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("name", NAMED)
def test_each_named_test_exists(name: str) -> None:
    assert any(name == path.name or f"def {name}(" in text for path, text in TESTS.items())


@pytest.mark.parametrize("promises", [GUARANTEES, SECTIONS], ids=["guarantees", "hazards"])
def test_each_promise_names_its_tests(promises: list[str]) -> None:
    assert len(promises) >= 5
    assert [each for each in promises if "`test_" not in each] == []


def test_each_hazard_that_a_comment_names_is_told() -> None:
    texts = [*TESTS.values(), *(path.read_text() for path in (ROOT / "gate").rglob("*.py"))]
    cited = {number for text in texts for number in re.findall(r"hazards\.md,? (\d+)", text)}
    assert len(cited) > 5
    assert cited <= {section.partition(".")[0] for section in SECTIONS}
