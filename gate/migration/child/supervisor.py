"""The supervisor of an upgrade: `python -m gate.migration.child.supervisor LIFELINE REPORTS COMMAND...`.

It runs COMMAND and kills all of its descendants (a shell, `psql`, a forked worker) when COMMAND exits or gate dies.
LIFELINE is the descriptor of a pipe's reading end. Only gate holds the writing end, which the kernel closes when gate
dies. REPORTS is the descriptor to which the exit code is reported, as a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import NoReturn

from gate.process.descendants import adopt_orphans, die_with, kill_descendants

COMMAND_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals to the process group that are for the command: the supervisor ignores them and exits after the command."""


def main() -> NoReturn:
    """Run the command until it exits, and kill what it has left."""
    lifeline, reports, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    adopt_orphans()
    for number in COMMAND_SIGNALS:
        # A handler instead of SIG_IGN: exec resets a handler to the default, but passes SIG_IGN on (POSIX, exec).
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(
            command,
            close_fds=False,  # the command inherits REPORTS and the descriptors that hold the lock
            preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - no other thread has been started yet
        )
    except OSError as error:
        _report(reports, type="not_executable", reason=error.strerror)
        os._exit(1)
    threading.Thread(target=_exit_with_gate, args=(lifeline,), daemon=True).start()
    code = child.wait()
    _report(reports, type="exited", exit_code=code, killed=len(kill_descendants()))
    os._exit(0)


def _exit_with_gate(lifeline: int) -> None:
    os.read(lifeline, 1)
    kill_descendants()
    os._exit(1)


def _report(reports: int, **fields: object) -> None:
    with suppress(OSError):  # gate is dead, so nobody reads the report
        os.write(reports, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    main()
