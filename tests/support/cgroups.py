"""A cgroup with a memory limit, of version 1 or 2. It needs root."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import await_true


@contextmanager
def memory_limit(megabytes: int) -> Iterator[tuple[str, ...]]:
    """Create a cgroup and yield a command prefix that runs a program in it; skip the test where that is impossible."""
    folder = _parent() / f"gate-test-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be created for a memory limit: {error}")
    try:
        limit = folder / ("memory.max" if (folder / "memory.max").exists() else "memory.limit_in_bytes")
        if not limit.exists():
            pytest.skip(f"{folder.parent} gives its groups no memory controller")
        limit.write_text(str(megabytes << 20))
        if (swap := folder / "memory.swap.max").exists():
            swap.write_text("0")
        yield ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
        await_true(lambda: not (folder / "cgroup.procs").read_text(), lambda: f"processes are left in {folder}")
    finally:
        folder.rmdir()


def _parent() -> Path:
    """The group below which a group may be made: of version 1 this process's own, of version 2 the root."""
    version1 = Path("/sys/fs/cgroup/memory")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            own = version1 / path.lstrip("/")
            return own if own.exists() else version1
    if os.geteuid():
        pytest.skip("needs root to create a cgroup")
    root = Path("/sys/fs/cgroup")
    if "memory" not in (root / "cgroup.subtree_control").read_text():
        pytest.skip("the root cgroup gives its groups no memory controller")
    return root
