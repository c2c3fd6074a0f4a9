"""Whatever a client sends to the placeholder or to `gate serve`: the next request is answered, nothing is logged."""

from __future__ import annotations

import os
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import RunningProgram, await_true

drawn = settings(
    max_examples=int(os.environ.get("GATE_TEST_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = st.sampled_from(
    [b"GET", b"POST", b"\xff", b" ", b"/", b"/health", b"/health/ready", b"/metrics", b"?", b"%00", b"%", b" HTTP/1.1",
     b" HTTP/9.9", b"\r\n", b"\r\n\r\n", b"Host: x", b"Host:", b"Accept: text/html", b"Content-Length: 9", b":",
     b"Content-Length: -1", b"Transfer-Encoding: chunked", b"Upgrade: websocket", b"Connection: Upgrade", b"\0",
     b"Expect: 100-continue", b"x" * 20000, b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\n"]
)  # fmt: skip
REQUESTS = st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join)


@pytest.fixture(params=["GATE_PLACEHOLDER", "gate serve"])
def listening(request: pytest.FixtureRequest, gate: GateRunner, database: TestDatabase) -> tuple[RunningProgram, int]:
    database.stamp("a1")
    port = free_port()
    if request.param == "GATE_PLACEHOLDER":
        running = gate.start("run", "--", *SERVER, GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    else:
        running = gate.start("serve", "--listen", f"127.0.0.1:{port}")
    await_true(lambda: alive(port), lambda: "".join(running.err), running.process)
    return running, port


def alive(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def test_any_bytes_leave_the_port_answering_and_the_log_silent(listening: tuple[RunningProgram, int]) -> None:
    running, port = listening

    @drawn
    @given(REQUESTS)
    def send(content: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(12)
        assert not answer or answer.startswith(b"HTTP/1.1 ")
        assert b" 500" not in answer

    send()
    assert alive(port)
    assert [line for line in running.err if not line.startswith("{")] == []
