"""`make demo` tells its story to the end, and clears the stage."""

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
    told = subprocess.run(
        [sys.executable, "-m", "demo.demo"],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "drift: db=0002 expected=0003" in told.stdout
    assert told.stdout.index("gate.waiting") < told.stdout.index("gate.migrating") < told.stdout.index("gate.starting")
    assert list(tmp_path.glob("gate-pg-*")) == []
    assert events(picture.drawn(picture.told(told.stdout))) == events(picture.PICTURE.read_text()), "run `make picture`"


def events(drawn: str) -> list[str]:
    """What gate said in the picture, without what differs from run to run."""
    text = unescape(" ".join(" ".join(re.findall(r">(.*)</text>", drawn)).split()))
    said = re.findall(r"(?:INFO|CRITICAL) (gate\.[a-z_]+: .*?)(?= (?:web|migrate|you) \||$| \d\. [A-Z]| It says)", text)
    return [*dict.fromkeys(re.sub(r"\d+\.\d s", "… s", sentence) for sentence in said)]
