"""Starts many waiters at once: imports gate, then forks processes that each run `gate wait`."""

from __future__ import annotations

import os
import sys

import psycopg  # noqa: F401 - imported before the fork, so that the first checks start together
import tenacity  # noqa: F401 - likewise

from gate.cli import run  # noqa: F401 - likewise
from gate.cli.main import command


def main() -> None:
    pids = [_waiter() for _ in range(int(sys.argv[1]))]
    for pid in pids:
        os.waitpid(pid, 0)


def _waiter() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(command(["wait"]))
    return pid


main()
