"""Relays Docker's API from Watchtower to podman's Docker-compatible socket.

The relay corrects three differences between podman 4.3 and Docker, and nothing else:

- podman reports a container's limits as RLIMIT_NOFILE, but accepts only `nofile` when it creates a container;
- Watchtower creates containers with a slash before the name, which podman rejects;
- Watchtower both attaches to a command in a container and starts it. podman refuses to start a command without an
  attached stream, and to start one that is attached. The relay attaches, reads to the end of the output, and answers
  both requests with success.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from tests.support.programs import await_true


class _Podman(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("podman", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    podman: Path


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def relay(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if re.search(r"/containers/create$", path):
            self.path = self.path.replace("name=%2F", "name=")
            body = json.dumps(_with_docker_limits(json.loads(body))).encode()
        elif re.search(r"/containers/[^/]+/exec$", path):
            body = json.dumps({**json.loads(body), "Tty": False, "AttachStdout": True, "AttachStderr": True}).encode()
        elif re.search(r"/exec/[^/]+/start$", path):
            self._start()
            return
        self._respond(*self._forward(body))

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = relay  # noqa: N815 - http.server requires these names

    def _start(self) -> None:
        if "Upgrade" in self.headers:
            self._attach()
        self._respond(200, [], b"")

    def _attach(self) -> None:
        body = b'{"Detach": false, "Tty": false}'
        with socket.socket(socket.AF_UNIX) as podman:
            podman.connect(str(self.server.podman))
            head = f"POST {self.path} HTTP/1.1\r\nHost: podman\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            sized = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            podman.sendall(head.encode() + sized.encode() + body)
            while podman.recv(65536):
                pass

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        podman = _Podman(self.server.podman)
        headers = {"Content-Type": self.headers.get("Content-Type") or "application/json", "Connection": "close"}
        podman.request(self.command, self.path, body or None, headers)
        response = podman.getresponse()
        result = response.status, response.getheaders(), response.read()
        podman.close()
        return result

    def _respond(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _with_docker_limits(container: dict[str, Any]) -> dict[str, Any]:
    for limit in container.get("HostConfig", {}).get("Ulimits") or []:
        limit["Name"] = limit["Name"].removeprefix("RLIMIT_").lower()
    return container


@contextmanager
def docker_socket(folder: Path) -> Iterator[str]:
    """Yield the address of a socket that answers as Docker's does."""
    own, relayed = folder / "podman.sock", folder / "docker.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{own}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await_true(lambda: _listens(own), lambda: "podman's socket does not answer")
        with _Server(str(relayed), _Relay) as relay:
            relay.podman = own
            threading.Thread(target=relay.serve_forever, daemon=True).start()
            yield f"unix://{relayed}"
            relay.shutdown()
    finally:
        service.terminate()
        service.wait()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
