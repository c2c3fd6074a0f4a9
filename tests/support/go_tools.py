"""Programs that are built from their Go modules, each once for the session, in a pinned version."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

OLDEST = (1, 22)


@cache
def go_tool(module: str, version: str) -> str:
    """Build the program of one module; give its path. Skips where Go is lacking.

    Built in the module's own folder, with the versions that its go.sum names.
    """
    go = _go(module)
    folder = Path(tempfile.mkdtemp(prefix="gate-go-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    described = _run(go, "mod", "download", "-json", f"{module}@{version}", cwd=folder)
    program = folder / "program"
    _run(go, "build", "-buildvcs=false", "-o", str(program), ".", cwd=Path(json.loads(described)["Dir"]))
    return str(program)


def _go(module: str) -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"needs Go, to build {module}")
    version = re.match(r"go(\d+)\.(\d+)", _run(go, "env", "GOVERSION"))
    if version is None or tuple(map(int, version.groups())) < OLDEST:
        pytest.skip(f"needs Go {OLDEST[0]}.{OLDEST[1]} or newer, to build {module}")
    return go


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
