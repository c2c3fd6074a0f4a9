"""An import path without some of the installed packages."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import gate


def path_without(folder: Path, *packages: str) -> dict[str, str]:
    """Link gate and the installed packages into `folder`, except `packages`; return variables for `python -S`."""
    folder.mkdir()
    installed = Path(sysconfig.get_paths()["purelib"])
    for entry in installed.iterdir():
        if entry.name.split("-")[0].split(".")[0] not in {*packages, "gate"} and not entry.name.endswith(".pth"):
            (folder / entry.name).symlink_to(entry)
    assert gate.__file__
    (folder / "gate").symlink_to(Path(gate.__file__).parent)
    return {"PYTHONPATH": str(folder)}
