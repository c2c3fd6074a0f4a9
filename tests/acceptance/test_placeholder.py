"""The placeholder: a container that waits is alive, not ready, and says why; then the server has the port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import EmbeddedPostgres, free_port
from tests.conftest import GateRunner, TestDatabase
from tests.support.import_path import path_without
from tests.support.programs import TIMEOUT, RunningProgram, await_true, children, is_running, start
from tests.support.projects import Project

BIND = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("fds", sorted(int(fd) for fd in os.listdir("/proc/self/fd")), flush=True)
print("server started", flush=True)
"""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def holding(gate: GateRunner, database: TestDatabase, port: int) -> RunningProgram:
    database.stamp("a1")
    waiting = gate.start(
        "run", "--", sys.executable, "-c", BIND, str(port), GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_POLL_MAX="0.5"
    )
    await_true(lambda: answers(port), lambda: "".join(waiting.err), waiting.process)
    await_true(lambda: "drift:" in get(port, "/health/ready").text, lambda: "no drift in the answer", waiting.process)
    return waiting


def answers(port: int) -> bool:
    try:
        return get(port, "/health").status_code == 200
    except httpx.TransportError:
        return False


def get(port: int, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10)


def test_while_the_database_is_away_nobody_is_said_to_migrate(gate: GateRunner, project: Project, port: int) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(300)")')
    server = EmbeddedPostgres().start()
    try:
        gate.url = server.url("postgres")
        migrating = gate.start("migrate")
        migrating.await_event("gate.revision_started", lambda event: event["revision"] == "a4")
        waiting = gate.start("run", "--", "true", GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_POLL_MAX="0.3")
        waiting.await_event("gate.waiting", lambda event: "at revision a4" in event["message"])
        await_true(lambda: answers(port), lambda: "".join(waiting.err), waiting.process)
        assert " at revision a4 (4/4) for " in get(port, "/health/ready").json()["migrating"]
        server.stop(signal.SIGQUIT)
        line = waiting.await_event("gate.waiting", lambda event: event.get("kind") == "DatabaseUnavailable")
        assert "Another migrator was active when last seen, " in line["message"]
        answer = get(port, "/health/ready").json()
        assert answer["migrating"].startswith("when last seen, ")
        age = answer["migrating"].partition(" for ")[2]
        await_true(
            lambda: get(port, "/health/ready").json()["database_away_seconds"] > 2, lambda: "the answer stands still"
        )
        answer = get(port, "/health/ready").json()
        assert answer["migrating"].partition(" for ")[2] == age
        assert answer["verdict"] == "EMPTY"
    finally:
        server.remove()


def test_alive_and_not_ready_and_saying_why(holding: RunningProgram, port: int) -> None:
    assert get(port, "/health").status_code == 200
    ready = get(port, "/health/ready")
    assert ready.status_code == 503
    assert ready.json()["detail"] == "drift: db=a1 expected=a3"
    assert "retry-after" in ready.headers
    assert get(port, "/health/ready", accept="text/plain").text == "drift: db=a1 expected=a3\n"
    elsewhere = get(port, "/items?x=1")
    assert (elsewhere.status_code, elsewhere.headers["retry-after"]) == (503, "5")
    assert elsewhere.json()["status"] == "not ready"
    assert "drift" not in elsewhere.text
    assert "drift" not in get(port, "/x", accept="text/plain").text


def test_a_gate_that_waits_is_not_ready_whatever_the_verdict(
    gate: GateRunner, database: TestDatabase, port: int
) -> None:
    database.execute("CREATE TABLE another_applications (id int)")
    waiting = gate.start("wait", GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_ON_UNSTAMPED="wait")
    waiting.await_event("gate.waiting")
    await_true(lambda: answers(port) and "verdict" in get(port, "/health/ready").json(), lambda: "no verdict")
    ready = get(port, "/health/ready")
    assert (ready.status_code, ready.json()["verdict"], ready.json()["status"]) == (503, "UNSTAMPED", "not ready")


def test_serve_takes_the_settings_that_its_flags_name_and_logs_why_its_answer_changed(
    gate: GateRunner, database: TestDatabase, port: int
) -> None:
    database.stamp("of another application")
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}", "--version-table", "other", GATE_TTL="0.1")
    await_true(lambda: answers(port), lambda: "".join(serving.err), serving.process)
    assert get(port, "/health/ready").json()["verdict"] == "UNSTAMPED"
    database.stamp("a1", table="other")
    await_true(lambda: get(port, "/health/ready").status_code == 503, lambda: "no drift", serving.process)
    line = serving.await_event("gate.answer_changed", lambda e: e["level"] == "critical")
    assert "drift: db=a1 expected=a3" in line["message"]


def test_serve_logs_what_its_answer_does_not_say_to_everybody(gate: GateRunner, port: int) -> None:
    serving = gate.start(
        "serve", "--listen", f"127.0.0.1:{port}", DATABASE_URL="postgresql://postgres@127.0.0.1:1/shop"
    )
    await_true(lambda: answers(port), lambda: "".join(serving.err), serving.process)
    assert "127.0.0.1:1" not in get(port, "/health/ready").text
    assert "127.0.0.1:1/shop" in serving.await_event("gate.answer_changed")["message"]


def test_a_browser_gets_a_page_that_says_nothing_internal(holding: RunningProgram, port: int) -> None:
    page = get(port, "/items", accept="text/html,*/*;q=0.8")
    assert page.status_code == 503
    assert page.headers["refresh"] == "20; url=?"
    assert "drift" not in page.text
    assert "a1" not in page.text
    assert "drift: db=a1 expected=a3" in get(port, "/health/ready", accept="text/html").text


def test_the_server_gets_the_port_and_no_descriptor_of_gates(
    holding: RunningProgram, port: int, database: TestDatabase
) -> None:
    database.stamp("a3")
    ended = holding.wait()
    assert ended.code == 0, ended.err
    assert "server started" in ended.out
    assert "fds [0, 1, 2, 3, 4]" in ended.out  # its own socket, and the folder that it lists


def test_garbage_and_floods_do_not_disturb_the_waiting(
    holding: RunningProgram, port: int, database: TestDatabase
) -> None:
    with ExitStack() as open_sockets:
        for number in range(500):
            client = open_sockets.enter_context(socket.socket())
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            client.sendall(
                [b"\x16\x03\x01garbage\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"", b"A" * 20_000][number % 4]
            )
        database.stamp("a3")
        ended = holding.wait()
    assert ended.code == 0, ended.err
    assert "server started" in ended.out
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("served", ["run -- true", "serve --listen 127.0.0.1:{port}"])
def test_liveness_is_answered_amid_half_requests_and_no_line_is_logged(
    gate: GateRunner, database: TestDatabase, port: int, served: str
) -> None:
    database.stamp("a1")
    watched = gate.start(
        *served.format(port=port).split(), GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_LOG_FORMAT="json"
    )
    await_true(lambda: answers(port), lambda: "".join(watched.err), watched.process)
    with ExitStack() as open_sockets:
        for _ in range(600):
            client = open_sockets.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        assert [get(port, "/health").status_code for _ in range(20)] == [200] * 20
    assert watched.process.poll() is None
    assert all(line.startswith("{") for line in watched.err)


def test_a_request_that_never_ends_is_given_up(holding: RunningProgram, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


@pytest.mark.parametrize("served", ["run -- {python} -c {bind} {port}", "serve --listen :{port}"])
def test_without_a_host_it_answers_over_ipv4_and_ipv6_and_the_server_can_bind_after_it(
    gate: GateRunner, database: TestDatabase, port: int, served: str
) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this kernel has no IPv6")
    database.stamp("a1")
    words = [word.format(python=sys.executable, bind=BIND, port=port) for word in served.split()]
    watched = gate.start(*words, GATE_PLACEHOLDER=f":{port}", GATE_POLL_MAX="0.5")
    await_true(lambda: answers(port), lambda: "".join(watched.err), watched.process)
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("::1", port)):
        assert httpx.get(f"http://[::1]:{port}/health", timeout=10).status_code == 200
        database.stamp("a3")
        if served.startswith("run"):
            assert watched.wait().out.endswith("server started\n")


def test_progress_of_a_migration_is_answered(gate: GateRunner, project: Project, port: int) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(2)")')
    migrating = gate.start("migrate", GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    await_true(lambda: "revision a4 (4/4)" in get(port, "/health/ready").text, lambda: get(port, "/").text)
    assert migrating.wait().code == 0


def test_a_taken_port_is_told_at_the_start(gate: GateRunner, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        ended = gate("wait", GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    assert ended.code == 78
    assert "GATE_PLACEHOLDER" in ended.event("gate.failed")["message"]


OURS = "<!doctype html><title>Ours</title><h1>Günstig</h1>"
"""An operator's page."""


def test_the_operators_page_is_read_once_and_a_child_that_cannot_read_it_again_shows_gates(
    gate: GateRunner, database: TestDatabase, port: int
) -> None:
    database.stamp("a1")
    page = gate.folder / "page.html"
    page.write_text(OURS, encoding="utf-8")
    waiting = gate.start(
        "wait", GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_PLACEHOLDER_PAGE=page.name, GATE_POLL_MAX="0.5"
    )
    await_true(lambda: answers(port), lambda: "".join(waiting.err), waiting.process)
    assert get(port, "/items", accept="text/html").text == OURS
    page.unlink()
    assert get(port, "/items", accept="text/html").text == OURS
    (child,) = children(waiting.pid)
    os.kill(child, signal.SIGKILL)
    waiting.await_event("gate.placeholder_restarted")
    await_true(lambda: answers(port), lambda: "nothing answers", waiting.process)
    assert "Back soon" in get(port, "/items", accept="text/html").text


def test_a_page_that_cannot_be_used_is_reported_at_the_start(gate: GateRunner, port: int) -> None:
    (gate.folder / "page.html").write_bytes("<h1>Günstig</h1>".encode("latin-1"))
    ended = gate("wait", GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_PLACEHOLDER_PAGE="page.html")
    assert ended.code == 78
    assert "GATE_PLACEHOLDER_PAGE: gate cannot use page.html as the page for visitors: byte 5" in ended.failure
    ended = gate("check", GATE_PLACEHOLDER_PAGE="page.html")
    assert ended.code == 1, "a command without a placeholder needs no page"


def test_a_gate_that_stays_shows_its_own_page_until_the_operators_can_be_used(
    gate: GateRunner, database: TestDatabase, port: int
) -> None:
    database.stamp("a3")
    environment = {
        "GATE_ON_FAILURE": "stay",
        "GATE_PLACEHOLDER": f"127.0.0.1:{port}",
        "GATE_PLACEHOLDER_PAGE": "page.html",
    }
    staying = gate.start("run", "--", sys.executable, "-c", BIND, str(port), **environment)
    staying.await_event("gate.staying")
    await_true(lambda: answers(port), lambda: "nothing answers", staying.process)
    assert "Back soon" in get(port, "/items", accept="text/html").text
    (gate.folder / "page.html").write_text(OURS, encoding="utf-8")
    assert "server started" in staying.wait().out


@pytest.mark.parametrize("value", ["8000", ":0", "host:port", ":99999"])
def test_a_malformed_address_is_told(gate: GateRunner, value: str) -> None:
    ended = gate("wait", GATE_PLACEHOLDER=value if value != "8000" else "8000x")
    assert ended.code == 78
    assert "GATE_PLACEHOLDER must be [host]:port" in ended.event("gate.failed")["message"]


def test_the_holding_child_dies_with_gate(holding: RunningProgram, port: int) -> None:
    holding.process.kill()
    await_true(lambda: not answers(port), lambda: "the port is still answered")


def test_a_holding_child_that_was_killed_is_told_and_another_answers(holding: RunningProgram, port: int) -> None:
    (child,) = children(holding.pid)
    os.kill(child, signal.SIGKILL)
    told = holding.await_event("gate.placeholder_restarted")
    assert told["level"] == "warning"
    await_true(lambda: answers(port), lambda: "nothing answers", holding.process)
    await_true(lambda: "drift:" in get(port, "/health/ready").text, lambda: "no drift in the answer", holding.process)
    assert [is_running(each) for each in children(holding.pid)] == [True]


def test_a_holding_child_that_dies_under_a_long_statement_is_replaced(
    gate: GateRunner, project: Project, port: int
) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(300)")')
    migrating = gate.start("migrate", GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    migrating.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    (child,) = [
        pid for pid in children(migrating.pid) if b"placeholder_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(child, signal.SIGKILL)
    migrating.await_event("gate.placeholder_restarted")
    await_true(lambda: answers(port) and "revision a4 (4/4)" in get(port, "/health/ready").text, lambda: "no answer")


def test_a_holding_child_that_cannot_read_what_it_is_told_ends(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listening:
        command = [
            sys.executable,
            "-P",
            "-m",
            "gate.readiness.placeholder_server",
            str(listening.fileno()),
            str(os.getpid()),
            "/health",
            "",
        ]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()])
    try:
        await_true(lambda: answers(port), lambda: "nothing answers")
        child.communicate(b"no JSON\n", timeout=TIMEOUT)
    finally:
        child.kill()
        child.wait()


def test_serve_answers_for_a_sidecar(gate: GateRunner, database: TestDatabase, port: int) -> None:
    database.stamp("a1")
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}", GATE_TTL="0.1")
    await_true(lambda: answers(port), lambda: "".join(serving.err), serving.process)
    assert get(port, "/health/ready").status_code == 503
    metrics = get(port, "/metrics").text
    assert "gate_schema_current 0.0" in metrics
    assert 'gate_schema_verdict{verdict="BEHIND"} 1.0' in metrics
    assert "gate_pending_revisions 2.0" in metrics
    database.stamp("a3")
    await_true(lambda: get(port, "/health/ready").status_code == 200, lambda: get(port, "/health/ready").text)
    assert "gate_schema_current 1.0" in get(port, "/metrics").text
    assert get(port, "/nowhere").status_code == 404
    serving.process.terminate()
    assert serving.wait().code == 128 + signal.SIGTERM


def test_metrics_tell_no_number_before_anything_was_seen(gate: GateRunner, port: int) -> None:
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/x"
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}", DATABASE_URL=nowhere)
    await_true(lambda: answers(port), lambda: "".join(serving.err), serving.process)
    metrics = get(port, "/metrics").text
    assert "gate_pending_revisions NaN" in metrics
    assert "gate_seconds_since_seen NaN" in metrics
    assert "gate_schema_current 0.0" in metrics


def test_serve_says_that_it_serves_only_once_it_has_the_port(gate: GateRunner, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        ended = gate("serve", "--listen", f"127.0.0.1:{port}")
    assert ended.code == 78
    assert "gate.serving" not in ended.err
    assert f"--listen: gate cannot listen on 127.0.0.1:{port}" in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_serve_ends_with_the_code_of_the_signal(gate: GateRunner, port: int, number: signal.Signals) -> None:
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}")
    await_true(lambda: answers(port), lambda: "".join(serving.err), serving.process)
    serving.signal(number)
    ended = serving.wait()
    assert ended.code == 128 + number
    assert "Traceback" not in ended.err


def test_without_the_extra_it_is_said_which_one(gate: GateRunner, port: int, tmp_path: Path) -> None:
    told = path_without(tmp_path / "bare", "uvicorn", "prometheus_client") | {"DATABASE_URL": gate.url}
    bare = [sys.executable, "-S", "-P", "-m", "gate"]
    for words, more in (("serve", {}), ("wait", {"GATE_PLACEHOLDER": f"127.0.0.1:{port}"})):
        ended = start([*bare, words], told | more, gate.folder).wait()
        assert ended.code == 78, ended.err
        assert "schema-gate[http]" in ended.err
