"""What the machine does not give is a shortage, with its limit and the exit code 69, and never a bug in gate."""

from __future__ import annotations

import _thread
import errno
import subprocess
import sys

import pytest

from gate.errors import DatabaseUnavailable, ResourceShortage, starting_process

NO_THREAD = RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (NO_THREAD, "pids"),
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
        (OSError(errno.ENFILE, "x"), "fs.file-max"),
        (OSError(errno.ENOMEM, "x"), "memory limit"),
        (MemoryError(), "memory limit"),
    ],
    ids=repr,
)
def test_each_shortage_names_the_limit_that_ends_it(error: Exception, limit: str) -> None:
    shortage = ResourceShortage.of(error)
    assert isinstance(shortage, DatabaseUnavailable)
    assert shortage.exit_code == 69
    assert limit in str(shortage)
    assert "bug" not in str(shortage)


@pytest.mark.parametrize("error", [RuntimeError("x"), OSError(errno.EAGAIN, "x"), ValueError(), FileNotFoundError()])
def test_any_other_error_is_no_shortage(error: Exception) -> None:
    assert ResourceShortage.of(error) is None


NO_DESCRIPTOR = """
import resource
import subprocess
import sys
from gate.errors import ResourceShortage, starting_process
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    with starting_process("the upgrade process"):
        subprocess.run([sys.executable, "-c", ""], capture_output=True, check=False)
except ResourceShortage as shortage:
    assert "ulimit -n" in str(shortage)
else:
    raise AssertionError
"""


def test_a_process_that_cannot_be_started_for_lack_of_descriptors_is_a_shortage() -> None:
    """In a process of its own: a codec that cannot be loaded meanwhile would be missing here from then on."""
    child = subprocess.run([sys.executable, "-c", NO_DESCRIPTOR], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")


def test_a_command_that_is_missing_is_no_shortage() -> None:
    with pytest.raises(FileNotFoundError), starting_process("x"):
        subprocess.run(["/no/such/command"], check=False)


REFUSE_THREADS = """
import _thread
def refuse(*args, **kwargs):
    raise RuntimeError("can't start new thread")
_thread.start_new_thread = _thread.start_joinable_thread = refuse
import time
from gate.errors import ResourceShortage
from gate.process.threads import BackgroundCall, PeriodicCall, try_for
call = BackgroundCall(lambda: 1)
assert call.done() and not call.running()
try:
    call.result(1)
except ResourceShortage as shortage:
    assert "pids" in str(shortage)
else:
    raise AssertionError
assert try_for(1, lambda: 1) is None
periodic = PeriodicCall(lambda: 1, 0)
periodic.attend()
periodic.attend()
"""


def test_a_background_call_without_a_thread_ends_at_once_and_is_made_again_later() -> None:
    """In a process of its own, before `threading` is loaded: the kernel refuses root no thread."""
    assert hasattr(_thread, "start_new_thread")
    child = subprocess.run([sys.executable, "-c", REFUSE_THREADS], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")
