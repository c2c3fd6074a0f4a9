"""The supervisor of an upgrade: `python -m gate.migration.child.supervisor LIFELINE REPORTS COMMAND...`.

It runs COMMAND and kills all of its descendants (a shell, `psql`, a forked worker) when COMMAND exits or gate dies.
LIFELINE is the descriptor of a pipe's reading end. Only gate holds the writing end, which the kernel closes when gate
dies. REPORTS is the descriptor to which the exit code is reported, as a line of JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn, Protocol

from gate.process.descendants import adopt_orphans, die_with, kill_descendants

COMMAND_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals to the process group that are for the command: the supervisor ignores them and exits after the command."""


class Child(Protocol):
    """The child process of a supervisor: a `subprocess.Popen`, for example."""

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""


def main() -> NoReturn:
    """Run the command until it exits, and kill what it has left."""
    lifeline, reports, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    supervise(lambda: _execute(command), lifeline, reports)


def supervise(start: Callable[[], Child], lifeline: int, reports: int) -> NoReturn:
    """Start the child, wait until it exits, and kill what it has left. `lifeline`, `reports`: as in the command."""
    adopt_orphans()
    wakeups = wake_up_on_signals()
    for number in (*COMMAND_SIGNALS, signal.SIGCHLD):
        # A handler instead of SIG_IGN: exec resets a handler to the default, but passes SIG_IGN on (POSIX, exec).
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})  # a blocked one, inherited from gate, wakes nobody up
    try:
        child = start()
    except OSError as error:
        _report(reports, type="not_executable", reason=error.strerror)
        os._exit(1)
    code = _wait(child, lifeline, wakeups)
    _report(reports, type="exited", exit_code=code, killed=len(kill_descendants()))
    os._exit(0)


def _execute(command: Sequence[str]) -> Child:
    return subprocess.Popen(
        command,
        close_fds=False,  # the command inherits REPORTS and the descriptors that hold the lock
        preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - no other thread has been started yet
    )


def wake_up_on_signals() -> int:
    """Return a pipe that becomes readable at each signal, so that no thread is needed: there may be none to be had."""
    wakeups, wakeups_end = os.pipe()
    os.set_blocking(wakeups, False)
    os.set_blocking(wakeups_end, False)
    signal.set_wakeup_fd(wakeups_end, warn_on_full_buffer=False)
    return wakeups


def _wait(child: Child, lifeline: int, wakeups: int) -> int:
    """Return the child's exit code; exit, and kill all descendants, if gate dies before."""
    poll = select.poll()
    poll.register(wakeups, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    while (code := child.poll()) is None:
        if lifeline in dict(poll.poll()):
            kill_descendants()
            os._exit(1)
        with suppress(BlockingIOError):
            os.read(wakeups, 512)
    return code


def _report(reports: int, **fields: object) -> None:
    with suppress(OSError):  # gate is dead, so nobody reads the report
        os.write(reports, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    main()
