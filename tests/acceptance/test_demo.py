"""`make demo` runs all steps and removes its files."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

from demo import picture
from demo.embedded_postgres import environment_without_settings

ROOT = Path(__file__).resolve().parents[2]


def test_demo_goes_as_told_and_leaves_no_files(tmp_path: Path) -> None:
    environment = {**environment_without_settings(), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "demo.demo"],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "drift: db=0002 expected=0003" in result.stdout
    assert (
        result.stdout.index("gate.waiting")
        < result.stdout.index("gate.migrating")
        < result.stdout.index("gate.starting")
    )
    assert list(tmp_path.glob("gate-pg-*")) == []
    # On a busy machine the demo logs more: for example who is migrating.
    drawn = picture.svg(picture.excerpt(result.stdout))
    assert events(picture.PICTURE.read_text()) <= events(drawn), "run `make picture`"


def events(svg: str) -> set[str]:
    """Return the events in the picture without durations and order, which differ in each run."""
    text = unescape(" ".join(" ".join(re.findall(r">(.*)</text>", svg)).split()))
    logged = re.findall(
        r"(?:INFO|CRITICAL) (gate\.[a-z_]+: .*?)(?= (?:web|migrate|you) \||$| \d\. [A-Z]| gate reports)", text
    )
    return {re.sub(r"\d+\.\d s", "… s", message) for message in logged}
