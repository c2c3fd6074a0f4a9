"""What a waiting gate tells its holding child arrives in whole lines, however slowly the child listens."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from gate.readiness.answer import Readiness
from gate.readiness.placeholder import Placeholder

LONG = "x" * 20_000


@pytest.fixture
def deaf() -> Iterator[subprocess.Popen[bytes]]:
    """A child that never reads what it is told."""
    child = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE)
    assert child.stdin
    os.set_blocking(child.stdin.fileno(), False)
    yield child
    child.kill()
    child.wait()


def heard(child: subprocess.Popen[bytes]) -> bytes:
    """What stands in its pipe, read in its stead."""
    found = b""
    descriptor = os.open(f"/proc/{child.pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while more := os.read(descriptor, 1 << 20):
            found += more
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    return found


def test_a_child_that_listens_late_hears_whole_lines_and_the_newest_last(deaf: subprocess.Popen[bytes]) -> None:
    hold = Placeholder()
    hold._child = deaf
    for number in range(30):
        hold.publish(Readiness(reason=f"{number} {LONG}"))
    lines = heard(deaf)
    assert not lines.endswith(b"\n"), "the pipe took half a line"
    hold.publish(Readiness(reason="the newest"))
    lines += heard(deaf)
    reasons = [json.loads(line)["detail"].split()[2] for line in lines.splitlines()]
    assert reasons[0] == "0"
    assert reasons[-1] == "the"
    assert lines.endswith(b"\n")


def test_a_child_that_is_gone_stops_nobody(deaf: subprocess.Popen[bytes]) -> None:
    hold = Placeholder()
    hold._child = deaf
    deaf.kill()
    deaf.wait()
    hold.publish(Readiness(reason="one"))
    hold.publish(Readiness(reason="two"))
