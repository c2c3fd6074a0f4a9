"""The placeholder (GATE_PLACEHOLDER): a child process that answers on the server's port while gate waits or migrates.

The parent binds the port, so that an address in use is reported at the start, and sends the child each new state. The
child has exited, and the port is free, before the server starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

from gate import log
from gate.errors import BadSettings, ResourceShortage, starting_process
from gate.process.memory import OomWatch
from gate.readiness.answer import Readiness, fields
from gate.readiness.listener import listen, require_http_extra

RESTART_INTERVAL = 10.0
"""Seconds between two starts of the child."""


class Placeholder:
    """The parent's side of the placeholder; all its methods do nothing until `start` was called with an address."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._options: tuple[tuple[str, int], str, str | None] | None = None
        self._started_at = float("-inf")
        self._published = b""
        self._unsent = b""
        self._oom_watch: OomWatch | None = None

    def start(self, address: tuple[str, int] | None, health_path: str, page: str | None = None) -> None:
        """Start to answer on a host and port, unless it does already.

        `health_path` is the path of the liveness probe, `page` the file with the page for visitors, None for gate's
        own. Raises `BadSettings` if the port is in use, the page is unusable, or the extra `http` is not installed.
        """
        if address and page:
            _check_page(page)
        if address and self._options is None:
            self._oom_watch = OomWatch()
            self._child = _start(address, health_path, page)
            self._options, self._started_at = (address, health_path, page), time.monotonic()

    def publish(self, readiness: Readiness) -> None:
        """Answer with this from now on; never blocks, even if the child is slow or has exited."""
        self._restart_if_exited()
        line = json.dumps(fields(readiness)).encode() + b"\n"
        if self._child is None or self._child.stdin is None:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            self._send(self._child.stdin.fileno())
            if line != self._published:
                self._unsent = self._published = line
                self._send(self._child.stdin.fileno())

    def stop(self) -> None:
        """Kill the child and reap it: when this returns, the port is free."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdin:
                with suppress(OSError):
                    self._child.stdin.close()
            self._child = None
        self._options = None

    def _restart_if_exited(self) -> None:
        """Replace a child that has exited: without an answer, a liveness probe would end in the death of gate."""
        has_exited = self._child is None or self._child.poll() is not None
        if self._options is None or not has_exited or time.monotonic() < self._started_at + RESTART_INTERVAL:
            return
        code = f" (exit code {self._child.returncode})" if self._child else ""
        cause = self._oom_watch.explain() if self._oom_watch else ""
        self._oom_watch = OomWatch()
        options = self._options
        self.stop()
        self._options, self._started_at, self._published, self._unsent = options, time.monotonic(), b"", b""
        try:
            self._child = _start(*options)
            text = f"The placeholder server exited{code}; gate restarted it. {cause}".rstrip()
        except (BadSettings, ResourceShortage, OSError) as error:
            text = (
                f"The placeholder server exited{code} and cannot be restarted ({error}). "
                f"gate goes on without it and tries again in {RESTART_INTERVAL:.0f} s. {cause}".rstrip()
            )
        log.emit("warning", "gate.placeholder_restarted", text)

    def _send(self, descriptor: int) -> None:
        """Write what the pipe takes. The rest of a line is sent before the next line, since half a line is not JSON."""
        while self._unsent:
            self._unsent = self._unsent[os.write(descriptor, self._unsent) :]


def _check_page(path: str) -> None:
    from gate.readiness.page import read_page  # noqa: PLC0415 - few deployments have a page of their own

    read_page(path)


def _start(address: tuple[str, int], health_path: str, page: str | None) -> subprocess.Popen[bytes]:
    require_http_extra("GATE_PLACEHOLDER")
    with listen(address, "GATE_PLACEHOLDER") as listening:
        module, descriptor = "gate.readiness.placeholder_server", listening.fileno()
        with starting_process("the process that answers on the port of GATE_PLACEHOLDER"):
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(descriptor), str(os.getpid()), health_path, page or ""],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[descriptor],
                start_new_session=True,
            )
    assert child.stdin
    os.set_blocking(child.stdin.fileno(), False)
    return child
