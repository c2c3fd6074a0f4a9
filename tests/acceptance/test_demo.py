"""`make demo` runs all steps and removes its files."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

from demo import picture
from demo.embedded_postgres import environment_without_settings

ROOT = Path(__file__).resolve().parents[2]

STORY = [
    "gate-expected.json: recorded 1 table",
    "GET /items   ->  500",
    "gate.waiting: drift: db=0002 expected=0003 missing=items.stock.",
    "GET /items   ->  503",
    "This service is being updated.",
    "GET /health/ready ->  503",
    "drift: db=0002 expected=0003 missing=items.stock",
    "gate.migrating",
    "gate.starting",
    "GET /items   ->  200",
    "gate.waiting: drift: db=0003 expected=0003 missing=items.stock.",
    "The database lacks what the code of this image needs: column items.stock.",
    "ADD COLUMN stock",
    "gate.starting",
    "GET /items   ->  200",
    "gate.ahead: ",
    "gate.starting",
    "GET /items   ->  200",
    "gate.waiting: drift: db=0004 expected=0002 missing=items.price.",
    "The demo is complete",
]
"""What the demo prints, in this order."""


def test_demo_goes_as_told_and_leaves_no_files(tmp_path: Path) -> None:
    environment = {**environment_without_settings(), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "demo.demo"],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert in_order(result.stdout, STORY) == STORY
    assert list(tmp_path.glob("gate-*")) == []
    # On a busy machine the demo logs more: for example who is migrating.
    drawn = picture.svg(picture.excerpt(result.stdout))
    assert events(picture.PICTURE.read_text()) <= events(drawn), "run `make picture`"


def in_order(text: str, parts: list[str]) -> list[str]:
    """Return the parts that the text contains, each after the one before."""
    found, position = [], 0
    for part in parts:
        if (at := text.find(part, position)) >= 0:
            found.append(part)
            position = at + len(part)
    return found


def events(svg: str) -> set[str]:
    """Return the events in the picture without durations and order, which differ in each run."""
    text = unescape(" ".join(" ".join(re.findall(r">(.*)</text>", svg)).split()))
    logged = re.findall(
        r"(?:INFO|CRITICAL) (gate\.[a-z_]+: .*?)(?= (?:web|migrate|you) \||$| \d\. [A-Z]| gate reports)", text
    )
    return {re.sub(r"\d+\.\d s", "… s", message) for message in logged}
