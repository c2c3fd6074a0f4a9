"""gate's side of the template: a process that has imported what an upgrade needs, and is forked for each schema."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from gate import log
from gate.errors import starting_process
from gate.migration.upgrade_request import TENANT_VARIABLE, TemplateRequest, UpgradeRequest
from gate.process.descendants import is_running

FORK_TIMEOUT = 10.0
"""Seconds for the template to fork; it takes milliseconds."""

EXIT_TIMEOUT = 0.3
"""Seconds for the template to exit before it is killed."""

POLL_INTERVAL = 0.05
"""Seconds between two looks at a supervisor whose template is gone, so that nothing reports its end."""

KILLED = -9
"""The exit code of a supervisor that has ended without one."""

SENTINEL_BYTES = 16


class Template:
    """A running template. It ends with this process, and never later than `close`."""

    def __init__(self, request: TemplateRequest, environment: Mapping[str, str]) -> None:
        """Start it; call from the main thread, since the kernel kills it when the thread that started it ends.

        Raises `ResourceShortage`.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.modules = request.modules
        self.is_ready = self.is_gone = False
        # A name that no schema has, by which the template recognises modules that remember theirs.
        environment = {**environment, TENANT_VARIABLE: f"gate-template-{os.urandom(SENTINEL_BYTES).hex()}"}
        command = [sys.executable, "-P", "-m", "gate.migration.child.template", str(os.getpid()), str(theirs.fileno())]
        with theirs, starting_process("the template of the upgrade processes"), _as_file(request.to_json()) as stdin:
            self._process = subprocess.Popen(
                command, stdin=stdin, env=environment, pass_fds=(theirs.fileno(),), start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self, timeout: float = 0) -> bool:
        """Wait up to `timeout` seconds until it can be forked, or is gone; return whether one of these is so."""
        if not (self.is_ready or self.is_gone):
            self._control.settimeout(timeout)
            try:
                answer = self._control.recv(1 << 16)
            except (BlockingIOError, TimeoutError):
                return False
            except OSError:
                answer = b""
            self._receive(answer)
        return True

    def _receive(self, answer: bytes) -> None:
        """Take what the template says when it has imported all."""
        danger = json.loads(answer)["danger"] if answer else "it ended while it imported"
        self.is_ready = not danger
        if danger:
            what = "the modules that env.py imports" if self.modules else "Alembic"
            self._give_up(f"gate imports {what} for each schema anew, which takes longer: {danger}.")

    def fork(
        self, request: UpgradeRequest, environment: Mapping[str, str], descriptors: Sequence[int]
    ) -> ForkedSupervisor | None:
        """Start a supervisor with an upgrade; None if the template is gone, or does not answer.

        `descriptors`: of the lifeline and the reports, of the clock, and what the upgrade inherits besides. Raises
        `OSError` if the machine has no further process.
        """
        if not self.is_ready or self.is_gone:
            return None
        channel, theirs = socket.socketpair()
        channel.settimeout(FORK_TIMEOUT)
        try:
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno(), *descriptors])
            channel.sendall(_order(request, environment))
            channel.shutdown(socket.SHUT_WR)
            supervisor = ForkedSupervisor(channel)
        except (EOFError, ConnectionError, TimeoutError):
            channel.close()
            self._give_up("The template of the upgrade processes has ended; gate starts each of them anew.")
            return None
        except BaseException:
            channel.close()
            raise
        return supervisor

    def _give_up(self, message: str) -> None:
        if not self.is_gone:
            self.is_gone = True
            log.emit("warning", "gate.template_lost", message)
        self.close()

    def retire(self) -> None:
        """Let the template end when all that was forked from it has ended."""
        self.is_gone = True
        self._control.close()

    def close(self) -> None:
        """End the template; what was forked from it goes on."""
        self.retire()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_TIMEOUT)
        self._process.kill()
        self._process.wait()


class ForkedSupervisor:
    """A supervisor that the template has forked, as far as `SupervisedProcess` needs `subprocess.Popen`."""

    def __init__(self, channel: socket.socket) -> None:
        """Wait for the process id; raises `EOFError` if the template is gone, and `OSError` if it could not fork."""
        self._channel, self._stream = channel, b""
        self.returncode: int | None = None
        self._is_orphaned = False
        while (message := self._next()) is None:
            self._stream += self._received()
        if "errno" in message:
            raise OSError(message["errno"], os.strerror(message["errno"]))
        self.pid: int = message["pid"]

    def _next(self) -> dict[str, Any] | None:
        line, end, rest = self._stream.partition(b"\n")
        if not end:
            return None
        self._stream = rest
        message: dict[str, Any] = json.loads(line)
        return message

    def _received(self) -> bytes:
        data = self._channel.recv(1 << 12)
        if not data:
            raise EOFError
        return data

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.returncode) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._attend(left) and left == 0:
                raise subprocess.TimeoutExpired("the supervisor", timeout or 0)
        return code

    def _attend(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds for its exit code, or for its end if the template can no longer report that."""
        if self._is_orphaned:
            time.sleep(POLL_INTERVAL if timeout is None else min(timeout, POLL_INTERVAL))
            self.returncode = None if is_running(self.pid) else KILLED
            return self.returncode is not None
        self._channel.settimeout(timeout)
        try:
            self._stream += self._received()
        except (BlockingIOError, TimeoutError):
            return False
        except (EOFError, OSError):
            self._is_orphaned = True
        if message := self._next():
            self.returncode = message["exit_code"]
            self._channel.close()
        return self.returncode is not None


@contextmanager
def _as_file(text: str) -> Iterator[BinaryIO]:
    """Put the text into memory that another process reads as its standard input."""
    with open(os.memfd_create("gate-template-request"), "w+b") as file:
        file.write(text.encode())
        file.flush()
        file.seek(0)
        yield file


def _order(request: UpgradeRequest, environment: Mapping[str, str]) -> bytes:
    """Encode the request with the variables that differ from those of the template."""
    changed = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    removed = [name for name in os.environ if name not in environment]
    return json.dumps({"request": request._asdict(), "environment": changed, "removed": removed}).encode()
