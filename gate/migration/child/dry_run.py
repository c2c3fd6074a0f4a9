"""Run env.py in a forked process first, so that nothing of that run stays in the process that upgrades.

A second run in one process would fail for many an env.py: a pooled asynchronous engine belongs to the first event loop,
and a table of SQLAlchemy's metadata can be defined once only.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from gate.descriptors import InheritedDescriptor, identity
from gate.migration.child.reporter import Reporter
from gate.process.descendants import adopt_orphans, kill_descendants

SUCCEEDED, FAILED = 1, 2
"""Outcomes of the forked process; 0 means that it has ended otherwise."""


class Output:
    """Standard output and standard error, which can be set aside: what env.py prints should appear once, not twice.

    env.py may close descriptors and open others, of a connection for example, which then get their numbers.
    """

    def __init__(self) -> None:
        self._streams = {number: identity(number) for number in (1, 2)}
        self._saved: dict[int, InheritedDescriptor] = {}
        self._held = -1
        self._held_identity: tuple[int, int] | None = None

    def set_aside(self) -> None:
        """Keep in memory what is printed from now on. Does nothing where a stream is closed."""
        if self._saved or any(identity(number) != stream for number, stream in self._streams.items()):
            return
        _flush()
        with suppress(OSError, AttributeError):  # memfd_create exists on Linux only
            self._held = os.memfd_create("gate-output")
            self._held_identity = identity(self._held)
            self._saved = {number: InheritedDescriptor(number, os.dup(number)) for number in self._streams}
            for number in self._saved:
                os.dup2(self._held, number)

    def restore(self, *, show: bool = False) -> None:
        """Print to the streams again. `show`: also what was set aside, on standard error."""
        if not self._saved:
            return
        _flush()
        for number, saved in self._saved.items():
            if identity(number) == self._held_identity:
                with suppress(OSError):
                    os.dup2(saved.get(), number)
                    os.close(saved.get())
        self._saved = {}
        if identity(self._held) != self._held_identity:
            return
        with suppress(OSError), open(self._held, "rb") as held:
            held.seek(0)
            text = held.read() if show else b""
            while text:
                text = text[os.write(2, text) :]


def run_forked(work: Callable[[Output], None], reporter: Reporter) -> bool:
    """Run `work` in a forked process; return whether it succeeded, after it has reported its failure otherwise.

    If that process ends in any other way (`os._exit`, a signal), this one ends in the same way.
    """
    outcome = mmap.mmap(-1, 1)
    _flush()
    child = os.fork()
    if child == 0:
        _run(work, reporter, outcome)
    status = 0
    with suppress(ChildProcessError):  # SIGCHLD is ignored, so the kernel has already reaped it
        status = os.waitpid(child, 0)[1]
    if not outcome[0]:
        _end_like(status)
    return outcome[0] == SUCCEEDED


def _run(work: Callable[[Output], None], reporter: Reporter, outcome: mmap.mmap) -> NoReturn:
    process, output = os.getpid(), Output()
    try:
        adopt_orphans()
        work(output)
        result = SUCCEEDED
    except BaseException as error:  # noqa: BLE001 - env.py can raise anything, SystemExit too; all is reported
        if os.getpid() == process:
            output.restore(show=True)
            reporter.report_failure(error)
        result = FAILED
    _flush()
    if os.getpid() == process:  # not in a process that env.py has forked
        outcome[0] = result
        kill_descendants()
    os._exit(0)


def _end_like(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a script may have replaced, closed or removed it
            stream.flush()
