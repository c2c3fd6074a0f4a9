"""The template of upgrade processes: `python -m gate.migration.child.template GATE CONTROL`.

It has imported all that an upgrade imports, and is forked for each schema, which takes milliseconds. It never opens a
connection. Before it is forked for the first time, it reports whether that is safe: a process with a second thread, a
socket or an event loop is not forked (fork(2): only the calling thread exists in the child, and both share what is
open), and neither is one whose modules remember the schema that was theirs when they were imported (hazards.md 20).

GATE is gate's process id. CONTROL is the descriptor of a socket: each message on it brings the descriptors of one
upgrade, and its end ends this process. Standard input holds a `TemplateRequest` in JSON.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from alembic.config import Config
from alembic.script import ScriptDirectory

from gate.migration.child import upgrade
from gate.migration.child.reporter import Reporter
from gate.migration.child.supervisor import COMMAND_SIGNALS, supervise, wake_up_on_signals
from gate.migration.upgrade_request import TENANT_VARIABLE, TemplateRequest, UpgradeRequest
from gate.process.descendants import die_with

MAX_DESCRIPTORS = 16
"""The descriptors of one message: of the channel, the lifeline, the reports, the clock and the lock."""

SHARED_BY_FORKS = ("socket:", "anon_inode:[eventpoll]", "anon_inode:[io_uring]")
"""What the link of a descriptor in /proc begins with, if two processes must not use it (proc(5))."""


def main() -> NoReturn:
    """Import, report whether this process may be forked, and fork an upgrade for each message."""
    die_with(int(sys.argv[1]))
    control = socket.socket(fileno=int(sys.argv[2]))
    request = TemplateRequest(**json.loads(sys.stdin.buffer.read()))
    os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
    sys.argv[:] = ["alembic", "upgrade", *request.targets]  # as in `gate.migration.child.upgrade`
    directory = _preload(request)
    gc.collect()
    danger = _danger(control.fileno())
    gc.freeze()
    gc.disable()  # a collection would touch, and so copy, the memory that the forks share
    control.send(json.dumps({"danger": danger}).encode())
    if not danger:
        _Server(control, directory).serve()
    os._exit(0)


def _preload(request: TemplateRequest) -> ScriptDirectory | None:
    """Import the modules that an upgrade had imported, and load the revisions; what fails is left to the upgrades."""
    if not request.modules:
        return None
    sys.path[:] = request.path
    for name in request.modules:
        with suppress(BaseException):  # an application's module may raise anything
            importlib.import_module(name)
    with suppress(BaseException):
        config = Config(request.ini, toml_file=request.toml, ini_section=request.section)
        directory = ScriptDirectory.from_config(config)
        assert directory.get_heads()
        return directory
    return None


def _danger(control: int) -> str:
    """Say why this process must not be forked, "" if it may be."""
    if len(os.listdir("/proc/self/task")) > 1:
        return "a module that env.py imports has started a thread"
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if int(number) != control and os.readlink(f"/proc/self/fd/{number}").startswith(SHARED_BY_FORKS):
                return "a module that env.py imports has opened a connection or an event loop"
    if _is_remembered(os.environ[TENANT_VARIABLE]):
        return f"a module that env.py imports reads {TENANT_VARIABLE} when it is imported"
    return ""


def _is_remembered(text: str) -> bool:
    """Whether any object refers to a string that contains the text: the name that stands for each schema here."""
    unseen, seen = list(gc.get_objects()), set[int]()
    for container in unseen:
        for each in gc.get_referents(container):
            if isinstance(each, str):
                if each is not text and text in each:
                    return True
            elif not gc.is_tracked(each) and type(each) in {dict, tuple} and id(each) not in seen:
                seen.add(id(each))
                unseen.append(each)
    return False


class _Server:
    """Forks supervisors, and tells gate how each has ended."""

    def __init__(self, control: socket.socket, directory: ScriptDirectory | None) -> None:
        self._control, self._directory = control, directory
        self._channels: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Return when gate has closed the control socket, and all that was forked has ended."""
        wakeups = wake_up_on_signals()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        poll = select.poll()
        for descriptor in (wakeups, self._control.fileno()):
            poll.register(descriptor, select.POLLIN)
        is_open = True
        while is_open or self._channels:
            ready = dict(poll.poll())
            if wakeups in ready:
                with suppress(BlockingIOError):
                    os.read(wakeups, 512)
                self._reap()
            if self._control.fileno() in ready and not self._fork_next():
                is_open = False
                poll.unregister(self._control.fileno())

    def _fork_next(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, MAX_DESCRIPTORS)
        except ConnectionResetError:  # gate has closed its end before it had read all
            return False
        if not data:
            return False
        channel = socket.socket(fileno=descriptors[0])
        try:
            pid = os.fork()
        except OSError as error:
            _send(channel, {"errno": error.errno})
            channel.close()
            pid = -1
        if pid == 0:
            self._supervise(channel, descriptors[1:])
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        if pid > 0:
            self._channels[pid] = channel
            _send(channel, {"pid": pid})
        return True

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if channel := self._channels.pop(pid, None):
                    _send(channel, {"exit_code": os.waitstatus_to_exitcode(status)})
                    channel.close()

    def _supervise(self, channel: socket.socket, descriptors: list[int]) -> NoReturn:
        """Become the supervisor of one upgrade."""
        os.setsid()
        with channel, channel.makefile("rb") as stream:
            order = json.loads(stream.read())
        for each in (self._control, *self._channels.values()):
            each.close()
        lifeline, reports, *others = descriptors
        os.environ.update(order["environment"])
        for name in order["removed"]:
            os.environ.pop(name, None)
        request = UpgradeRequest(**order["request"])
        request = request._replace(clock=others[: len(request.clock)])
        supervise(lambda: _ForkedUpgrade(lambda: self._upgrade(request, reports)), lifeline, reports)

    def _upgrade(self, request: UpgradeRequest, reports: int) -> int:
        return 0 if upgrade.run(request, Reporter(reports), self._directory) else 1


class _ForkedUpgrade:
    """A forked process that runs `work` and exits with what it returns."""

    def __init__(self, work: Callable[[], int]) -> None:
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            die_with(supervisor)
            _run(work)

    def poll(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None


def _run(work: Callable[[], int]) -> NoReturn:
    """Run `work` as a process that was just started would, and end as the interpreter does."""
    signal.set_wakeup_fd(-1)
    for number in (*COMMAND_SIGNALS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.enable()
    code = 1
    try:
        code = work()
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - as multiprocessing ends a forked process
        atexit._run_exitfuncs()  # noqa: SLF001 - likewise
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # gate has ended, or has given up this upgrade
        channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
