"""Many waiters that begin at the same moment: imported once, forked, each does what `gate wait` does."""

from __future__ import annotations

import os
import sys

import psycopg  # noqa: F401 - loaded once, so that the first looks come together
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
