"""GATE_PLACEHOLDER: answering on the server's port while gate waits, from a child that is gone before the server comes.

This is the parent's side: it binds the port, so that a taken one is told at the start, and tells the child what to say.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec

from gate import log
from gate.errors import BadSettings, ResourceShortage, starting_process
from gate.readiness.answer import Readiness, fields

BACKLOG = 128

RESTART_INTERVAL = 10.0
"""Seconds between two starts of the child."""


class Placeholder:
    """The holding child; until it is started, and without an address, all of this does nothing."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._place: tuple[tuple[str, int], str] | None = None
        self._began = float("-inf")
        self._told = b""
        self._rest = b""

    def start(self, address: tuple[str, int] | None, health_path: str) -> None:
        """Begin to answer, once; raises `BadSettings` if the port is taken or the extra for HTTP is missing."""
        if address and self._place is None:
            self._child = _start(address, health_path)
            self._place, self._began = (address, health_path), time.monotonic()

    def _mend(self) -> None:
        """Start another if the child has ended: else the port is refused, and whoever probes it kills gate."""
        is_dead = self._child is None or self._child.poll() is not None
        if self._place is None or not is_dead or time.monotonic() < self._began + RESTART_INTERVAL:
            return
        how = f" (exit code {self._child.returncode})" if self._child else ""
        place = self._place
        self.stop()
        self._place, self._began, self._told, self._rest = place, time.monotonic(), b"", b""
        try:
            self._child, outcome = _start(*place), "started another"
        except (BadSettings, ResourceShortage, OSError) as error:
            outcome = f"could not start another and tries again ({error})"
        text = f"What answers on the port of GATE_PLACEHOLDER has ended{how}; gate {outcome}, and waits on."
        log.emit("warning", "gate.placeholder_restarted", text)

    def tell(self, readiness: Readiness) -> None:
        """Let it answer with this; a child that is slow or gone never holds up the waiting."""
        self._mend()
        line = json.dumps(fields(readiness)).encode() + b"\n"
        if self._child is None or self._child.stdin is None:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            self._write(self._child.stdin.fileno())
            if line != self._told:
                self._rest = self._told = line
                self._write(self._child.stdin.fileno())

    def _write(self, descriptor: int) -> None:
        """As much as the pipe takes; the rest comes before the next line, since half a line would be none."""
        while self._rest:
            self._rest = self._rest[os.write(descriptor, self._rest) :]

    def stop(self) -> None:
        """End the child and reap it: the port is free when this returns."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdin:
                with suppress(OSError):
                    self._child.stdin.close()
            self._child = None
        self._place = None


def _start(address: tuple[str, int], health_path: str) -> subprocess.Popen[bytes]:
    require_http("GATE_PLACEHOLDER")
    with listen(address, "GATE_PLACEHOLDER") as listening:
        command = [
            sys.executable,
            "-P",
            "-m",
            "gate.readiness.placeholder_server",
            str(listening.fileno()),
            str(os.getpid()),
            health_path,
        ]
        with starting_process("the process that answers on the port of GATE_PLACEHOLDER"):
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )
    assert child.stdin
    os.set_blocking(child.stdin.fileno(), False)
    return child


def listen(address: tuple[str, int], what: str) -> socket.socket:
    """Listen there, on every address of IPv4 and IPv6 if no host is named; raises `BadSettings`."""
    host, port = address
    try:
        return _dual(port) if not host and socket.has_dualstack_ipv6() else _single(host, port)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadSettings(
            f"{what}: gate cannot listen on {host or '*'}:{port}: {why}. Free the port or name another."
        ) from None


def _single(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _dual(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:  # the kernel knows IPv6, and this network has none of it
            raise
    return _single("", port)


def require_http(what: str) -> None:
    """Raise `BadSettings` if the extra for HTTP is not installed."""
    missing = [name for name in ("uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise BadSettings(f"{what} needs {' and '.join(missing)}: install schema-gate[http].")
