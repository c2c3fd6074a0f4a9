"""The readiness endpoint under load, beside an endpoint that does nothing."""

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

from benchmarks.chapter import Chapter, Target, times
from benchmarks.stage import Database, Stage
from demo.embedded_postgres import free_port

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 8
TTL = 1.0


def measure(stage: Stage) -> Chapter:
    rounds, minute = (5, 10.0) if stage.quick else (20, 60.0)
    current, behind = stage.database(stage.small.head), stage.database(*stage.small.before)
    with _server(stage, current) as port:
        pairs = [(_load(port, "/ready", 1), _load(port, "/empty", 1)) for _ in range(rounds)]
    with _server(stage, behind) as port:
        drifted = _load(port, "/ready", minute)
    looks, allowed = len(behind.connections()), minute / TTL + 1
    ready, empty = (median(column) for column in zip(*pairs, strict=True))
    share = median(one / other for one, other in pairs)
    return Chapter(
        "The readiness endpoint",
        f"`gate.asgi.Ready` and an empty endpoint in the same uvicorn ({_http()}), {CONNECTIONS} connections kept"
        f" alive, in turns of a second; then {minute:.0f} s of load on a drifted database with a ttl of {TTL:g} s"
        " (while the schema is current, gate looks six times less often).",
        ["what", "value"],
        [
            ["requests a second, ready", f"{ready:,.0f}"],
            ["requests a second, empty", f"{empty:,.0f}"],
            ["ready / empty", times(share)],
            [f"looks at the database in {minute:.0f} s of {drifted:,.0f} requests a second", str(looks)],
        ],
        [
            Target("requests a second, ready / empty endpoint", share, 0.7, least=True),
            Target(f"looks in {minute:.0f} s of that load, ttl {TTL:g} s", looks, allowed, ""),
        ],
    )


def _http() -> str:
    return "httptools" if find_spec("httptools") else "h11"


@contextmanager
def _server(stage: Stage, database: Database) -> Iterator[int]:
    port = free_port()
    config = str(stage.small.folder / "alembic.ini")
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "benchmarks.endpoint_app:app", "--port", str(port), *_quiet()],
        cwd=ROOT,
        env=stage.environment(database, ALEMBIC_CONFIG=config, BENCH_TTL=str(TTL)),
    )
    try:
        _await(port)
        _load(port, "/ready", 0.5)
        yield port
    finally:
        process.terminate()
        process.wait()


def _quiet() -> list[str]:
    return ["--no-access-log", "--log-level", "warning", "--lifespan", "off"]


def _await(port: int) -> None:
    deadline = time.monotonic() + 30
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline, "uvicorn did not start"
            time.sleep(0.05)


class _Client(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    def __init__(self, path: str) -> None:
        self.answers = 0
        self._request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        found = data.count(b"HTTP/1.1 ")
        self.answers += found
        self.transport.write(self._request * found)


def _load(port: int, path: str, seconds: float) -> float:
    """Requests a second."""
    return asyncio.run(_loaded(port, path, seconds))


async def _loaded(port: int, path: str, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    clients = [_Client(path) for _ in range(CONNECTIONS)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    began = time.monotonic()
    before = sum(client.answers for client in clients)
    await asyncio.sleep(seconds)
    found = sum(client.answers for client in clients) - before
    took = time.monotonic() - began
    for client in clients:
        client.transport.abort()
    return found / took
