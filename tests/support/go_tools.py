"""Builds programs from Go modules in pinned versions, each once per session."""

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

MIN_GO_VERSION = (1, 22)


BUILD_TIMEOUT = 1800.0
"""Seconds. A program may take minutes of CPU on a busy machine."""


@cache
def go_tool(module: str, version: str, package: str = ".") -> str:
    """Build a program of one module and return its path. Skip the test if Go is missing or too old.

    The build runs in the module's own folder, so the dependencies have the versions of its go.sum.
    """
    go = _go(module)
    folder = Path(tempfile.mkdtemp(prefix="gate-go-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    download = _run(go, "mod", "download", "-json", f"{module}@{version}", cwd=folder)
    program = folder / "program"
    _run(go, "build", "-buildvcs=false", "-o", str(program), package, cwd=Path(json.loads(download)["Dir"]))
    return str(program)


def _go(module: str) -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"needs Go, to build {module}")
    version = re.match(r"go(\d+)\.(\d+)", _run(go, "env", "GOVERSION"))
    if version is None or tuple(map(int, version.groups())) < MIN_GO_VERSION:
        pytest.skip(f"needs Go {MIN_GO_VERSION[0]}.{MIN_GO_VERSION[1]} or newer, to build {module}")
    return go


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
