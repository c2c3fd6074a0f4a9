"""An import path with everything that is installed, less some packages."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import gate


def path_without(folder: Path, *packages: str) -> dict[str, str]:
    """Environment variables for `python -S`: the installed packages by links, and gate itself, but not these."""
    folder.mkdir()
    installed = Path(sysconfig.get_paths()["purelib"])
    for entry in installed.iterdir():
        if entry.name.split("-")[0].split(".")[0] not in {*packages, "gate"} and not entry.name.endswith(".pth"):
            (folder / entry.name).symlink_to(entry)
    assert gate.__file__
    (folder / "gate").symlink_to(Path(gate.__file__).parent)
    return {"PYTHONPATH": str(folder)}
