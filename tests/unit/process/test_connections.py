"""A process that has forbidden connections opens none, whatever opens it, and works on otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORBID = "from gate.process.connections import *; forbid_connections(); import socket, subprocess, sys, threading\n"
IN_A_CHILD = """
child = "import socket; socket.create_connection(('127.0.0.1', 1))"
status = subprocess.run([sys.executable, "-c", child], capture_output=True).returncode
raise OSError(REFUSED_CONNECTION if status else 0, "in a child")
"""
CONNECT = "socket.socket({family}).connect({address!r})"


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that has forbidden connections."""
    return subprocess.run(
        [sys.executable, "-c", FORBID + code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "code",
    [
        CONNECT.format(family="socket.AF_INET", address=("127.0.0.1", 1)),
        CONNECT.format(family="socket.AF_INET6", address=("::1", 1)),
        CONNECT.format(family="socket.AF_UNIX", address="/run/no such socket"),
        CONNECT.format(family="socket.AF_INET, socket.SOCK_DGRAM", address=("127.0.0.1", 1)),
        f"socket.socket().sendto(b'x', MSG_FASTOPEN, {('127.0.0.1', 1)!r})",
        f"socket.socket().sendmsg([b'x'], [], MSG_FASTOPEN, {('127.0.0.1', 1)!r})",
        IN_A_CHILD,
    ],
)
def test_each_way_to_connect_fails_with_the_same_errno(code: str) -> None:
    ended = run("try:\n    " + code.replace("\n", "\n    ") + "\nexcept OSError as error:\n    print(error.errno)\n")
    assert ended.stdout.split() == ["64"], ended.stderr


def test_all_else_works() -> None:
    ended = run(
        "import asyncio\none, other = socket.socketpair()\none.send(b'x')\nassert other.recv(1) == b'x'\n"
        "asyncio.run(asyncio.sleep(0))\nthread = threading.Thread(target=print, args=('thread',))\nthread.start()\n"
        "thread.join()\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "print(subprocess.run(['echo', 'child'], capture_output=True, text=True, check=True).stdout)"
    )
    assert ended.stdout.split() == ["thread", "child"], ended.stderr
