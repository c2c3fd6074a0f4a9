"""The readiness endpoint under load, compared with an empty endpoint."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.section import Section, Target, times
from benchmarks.workspace import Database, Workspace
from demo.embedded_postgres import free_port

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 8
TTL = 1.0


def measure(workspace: Workspace) -> Section:
    rounds, seconds = (5, 10.0) if workspace.quick else (20, 60.0)
    current, behind = workspace.database(workspace.small.head), workspace.database(*workspace.small.before)
    with _server(workspace, current) as port:
        pairs = [(_load(port, "/ready", 1), _load(port, "/empty", 1)) for _ in range(rounds)]
    with _server(workspace, behind) as port:
        drifted = _load(port, "/ready", seconds)
    checks, limit = len(behind.connections()), seconds / TTL + 1
    ready, empty = (median(column) for column in zip(*pairs, strict=True))
    relative = median(one / other for one, other in pairs)
    return Section(
        "The readiness endpoint",
        f"`gate.asgi.Ready` and an empty endpoint in the same uvicorn ({_http_parser()}), {CONNECTIONS} persistent"
        f" connections, alternating every second; then {seconds:.0f} s of load on a drifted database with a TTL of"
        f" {TTL:g} s (gate checks a current schema six times less often).",
        ["quantity", "value"],
        [
            ["requests per second, ready", f"{ready:,.0f}"],
            ["requests per second, empty", f"{empty:,.0f}"],
            ["ready / empty", times(relative)],
            [f"database checks in {seconds:.0f} s of {drifted:,.0f} requests per second", str(checks)],
        ],
        [
            Target(
                "requests per second, ready / empty endpoint",
                relative,
                0.7,
                is_minimum=True,
                reason="gate encodes an answer and runs a check once per TTL in a thread.",
                remedy="a longer TTL.",
            ),
            Target(
                f"database checks in {seconds:.0f} s of that load, TTL {TTL:g} s",
                checks,
                limit,
                "",
                reason="more than one check ran within one TTL.",
                remedy="one check for all requests of a TTL.",
                floor="one check for each TTL",
            ),
        ],
    )


def _http_parser() -> str:
    return "httptools" if find_spec("httptools") else "h11"


@contextmanager
def _server(workspace: Workspace, database: Database) -> Iterator[int]:
    port = free_port()
    config = str(workspace.small.folder / "alembic.ini")
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "benchmarks.endpoint_app:app", "--port", str(port), *_quiet_options()],
        cwd=ROOT,
        env=workspace.environment(database, ALEMBIC_CONFIG=config, BENCH_TTL=str(TTL)),
    )
    try:
        _await(port)
        _load(port, "/ready", 0.5)
        yield port
    finally:
        process.terminate()
        process.wait()


def _quiet_options() -> list[str]:
    return ["--no-access-log", "--log-level", "warning", "--lifespan", "off"]


def _await(port: int) -> None:
    deadline = time.monotonic() + 30
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline, "uvicorn did not start"
            time.sleep(0.05)


class _Client(asyncio.Protocol):
    """Sends the next request as soon as a response arrives."""

    def __init__(self, path: str) -> None:
        self.responses = 0
        self._request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        count = data.count(b"HTTP/1.1 ")
        self.responses += count
        self.transport.write(self._request * count)


def _load(port: int, path: str, seconds: float) -> float:
    """Return the requests per second."""
    return asyncio.run(_run_load(port, path, seconds))


async def _run_load(port: int, path: str, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    clients = [_Client(path) for _ in range(CONNECTIONS)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    started = time.monotonic()
    before = sum(client.responses for client in clients)
    await asyncio.sleep(seconds)
    responses = sum(client.responses for client in clients) - before
    elapsed = time.monotonic() - started
    for client in clients:
        client.transport.abort()
    return responses / elapsed
