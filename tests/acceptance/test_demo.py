"""`make demo` tells its story to the end, and clears the stage."""

import subprocess
import sys
from pathlib import Path

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
