"""Linux namespaces for tests: PID 1, and a name server that never answers. They need root and `unshare`."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import RunningProgram, await_true, children

PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""A command prefix that runs a program as PID 1. A signal to `unshare` does not reach the program."""

NAME_SERVER = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 254 | 1}"
"""A loopback address that depends on the process id, because two test workers run at the same time."""


def require_namespaces() -> None:
    """Skip the test if no namespace can be created."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and util-linux's unshare")


def pid_inside(unshare: RunningProgram) -> int:
    """Return the id, in this namespace, of the process that `unshare` runs as PID 1."""
    await_true(lambda: bool(children(unshare.pid)), lambda: "unshare started nothing", unshare.process)
    return children(unshare.pid)[0]


@contextmanager
def silent_name_server(folder: Path) -> Iterator[tuple[socket.socket, tuple[str, ...]]]:
    """Yield a name server that never answers, and a command prefix for a program that uses only this name server."""
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {NAME_SERVER}\noptions timeout:30 attempts:5\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAME_SERVER, 53))
        server.settimeout(60)
        mount = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
        yield server, ("unshare", "--mount", "sh", "-c", mount, "sh")


@contextmanager
def silent_host() -> Iterator[socket.socket]:
    """Yield a listening socket: clients connect, and never receive an answer."""
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen()
        host.settimeout(60)
        yield host
