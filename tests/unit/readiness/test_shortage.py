"""A probe is answered although no thread can be started for the check."""

from __future__ import annotations

import subprocess
import sys

REFUSE_THREADS = """
import _thread
def refuse(*args, **kwargs):
    raise RuntimeError("can't start new thread")
_thread.start_new_thread = _thread.start_joinable_thread = refuse
from gate.errors import ResourceShortage
from gate.readiness.cache import VerdictCache
cache = VerdictCache(ttl=1000, timeout=1000)
assert not cache.refresh(lambda: None).ready
assert isinstance(cache.failure, ResourceShortage)
"""


def test_a_probe_is_answered_at_once_although_no_thread_can_be_started() -> None:
    """In a process of its own, before `threading` is loaded: the kernel refuses root no thread."""
    command = [sys.executable, "-c", REFUSE_THREADS]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (child.returncode, child.stderr) == (0, "")
