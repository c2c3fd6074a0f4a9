"""Whatever a client sends to the placeholder or to `gate serve`: the next request is answered, nothing is logged.

Nor does a log that nobody reads stop the answers.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from demo.embedded_postgres import environment_without_settings, free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import GATE_COMMAND, TIMEOUT, RunningProgram, await_true

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
NOISE = st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join)
HEADS = st.builds(
    b"%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n".__mod__,
    st.tuples(
        st.sampled_from([b"GET", b"HEAD", b"POST"]),
        st.sampled_from([b"/health", b"/health/ready", b"/metrics", b"/other"]),
        st.sampled_from(
            [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Connection: close\r\n",
             b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"X: " + b"x" * 20000 + b"\r\n",
             b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"]
        ),
    ),
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"0\r\n\r\n", b"ZZZ\r\n", b"3\r\nabc\r\n", b"3\r\nabcdef", b"-1\r\n", b"F" * 30 + b"\r\n", b"abc",
     b"5000\r\n" + b"x" * 0x5000 + b"\r\nZZZ\r\n"]
)  # fmt: skip
PIPELINES = st.lists(st.tuples(HEADS, BODIES).map(b"".join), min_size=1, max_size=4).map(b"".join)
TRUNCATED = st.tuples(PIPELINES, st.integers(0, 300)).map(lambda drawn: drawn[0][: -drawn[1] or None])
REQUESTS = st.lists(NOISE | PIPELINES | TRUNCATED, min_size=1, max_size=3)
"""What a client sends on one connection, in one segment or several."""

BROKEN_HEAD = b"HEAD /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n"
"""The answer to HEAD has no body, and neither may that to a malformed one."""

MAX_LINES = 30
"""Lines of a log that does not grow with the requests; a gate that waits repeats why, from time to time."""


@pytest.fixture(params=["GATE_PLACEHOLDER", "gate serve"])
def listening(request: pytest.FixtureRequest, gate: GateRunner, database: TestDatabase) -> tuple[RunningProgram, int]:
    database.stamp("a1")
    port = free_port()
    if request.param == "GATE_PLACEHOLDER":
        running = gate.start("run", "--", *SERVER, GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_TTL="0.1")
    else:
        running = gate.start("serve", "--listen", f"127.0.0.1:{port}", GATE_TTL="0.1")
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
    @given(segments=REQUESTS, waits=st.booleans())
    @example(segments=[BROKEN_HEAD], waits=True)
    @example(segments=[BROKEN_HEAD, b"ZZZ\r\n"], waits=False)
    def send(segments: list[bytes], *, waits: bool) -> None:
        answer = b""
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for segment in segments:
                client.sendall(segment)
            if waits:
                with suppress(OSError):  # ENOTCONN, where the server has closed already
                    client.shutdown(socket.SHUT_WR)
                answer = client.recv(12)
        assert not answer or answer.startswith(b"HTTP/1.1 ")
        assert b" 500" not in answer

    send()
    assert alive(port)
    running.signal(signal.SIGTERM)
    lines = running.wait().err.splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
    assert all(json.loads(line) for line in lines)
    assert len(lines) <= MAX_LINES


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes no further byte, as its two descriptors."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"\n" * 4096)
    os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def serve_into(pipe: tuple[int, int], gate: GateRunner, port: int) -> subprocess.Popen[bytes]:
    environment = {**environment_without_settings(), "DATABASE_URL": gate.url, "GATE_TTL": "0.1"}
    command = [*GATE_COMMAND, "serve", "--listen", f"127.0.0.1:{port}"]
    serving = subprocess.Popen(command, cwd=gate.folder, env=environment, stderr=pipe[1])
    gate.running.callback(serving.wait)
    gate.running.callback(serving.kill)
    await_true(lambda: alive(port), lambda: "it does not answer")
    return serving


def status(port: int) -> int:
    return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code


def test_a_log_that_nobody_reads_stops_neither_the_answers_nor_the_end(
    full_pipe: tuple[int, int], gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a1")
    port = free_port()
    serving = serve_into(full_pipe, gate, port)
    await_true(lambda: status(port) == 503, lambda: "no drift")
    database.stamp("a3")
    await_true(lambda: status(port) == 200, lambda: "not ready")
    serving.terminate()
    assert serving.wait(TIMEOUT) == 143


def test_a_log_that_is_read_again_has_whole_lines(
    full_pipe: tuple[int, int], gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a1")
    port = free_port()
    serving = serve_into(full_pipe, gate, port)
    await_true(lambda: status(port) == 503, lambda: "no drift")
    text = ""
    while "gate.answer_changed" not in text or not text.endswith("\n"):
        text += os.read(full_pipe[0], 4096).decode()
    serving.terminate()
    assert [json.loads(line)["event"] for line in text.splitlines() if line] == [
        "gate.serving",
        "gate.answer_changed",
    ]
