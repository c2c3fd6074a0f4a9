"""Rooms of their own for a program: a name server that says nothing, process id 1. They need root and `unshare`."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import Running, await_true, children

PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""What makes the program behind it PID 1; signals to `unshare` do not reach it."""

NAME_SERVER = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 254 | 1}"
"""On loopback, and surely nobody else's: two test workers ask at once."""


def need_namespaces() -> None:
    """Skip where no namespace can be made."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and util-linux's unshare")


def inside(unshare: Running) -> int:
    """The process that `unshare` made PID 1, by its id out here."""
    await_true(lambda: bool(children(unshare.pid)), lambda: "unshare started nothing", unshare.process)
    return children(unshare.pid)[0]


@contextmanager
def silent_name_server(folder: Path) -> Iterator[tuple[socket.socket, tuple[str, ...]]]:
    """Give a name server that answers nothing, and what starts a program that asks it and nobody else."""
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {NAME_SERVER}\noptions timeout:30 attempts:5\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAME_SERVER, 53))
        server.settimeout(60)
        mount = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
        yield server, ("unshare", "--mount", "sh", "-c", mount, "sh")


@contextmanager
def silent_host() -> Iterator[socket.socket]:
    """Give a host that lets everybody connect and swallows whatever they send."""
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen()
        host.settimeout(60)
        yield host
