"""A bug is reported in one sentence: no traceback, no password, and how to start the server meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import await_true

PASSWORD = "S3cr3tW0rd"
LEAKING = f"ZeroDivisionError('at postgresql://app:{PASSWORD}@db/shop\\x1b[2J\\ngate: gate.forged')"


def broken_driver(folder: Path, error: str) -> dict[str, str]:
    """An environment whose psycopg fails while it is loaded, in a way that no driver documents."""
    (folder / "psycopg.py").write_text(f"raise {error}\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("command", ["check", "wait", "migrate"])
def test_a_bug_is_one_sentence_without_a_password(gate: GateRunner, tmp_path: Path, command: str) -> None:
    ended = gate(command, **broken_driver(tmp_path, LEAKING))
    assert ended.code == 70
    (line,) = ended.err.splitlines()
    assert line.startswith("gate: this is a bug in gate ")
    assert line.isprintable()
    assert "GATE_BYPASS=1 starts the server without a check" in line
    assert PASSWORD not in line


def test_a_keyboard_interrupt_anywhere_ends_quietly(gate: GateRunner, tmp_path: Path) -> None:
    ended = gate("check", **broken_driver(tmp_path, "KeyboardInterrupt"))
    assert (ended.code, ended.err) == (130, "")


def test_an_empty_word_as_the_command_is_reported(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    ended = gate("run", "--", "", *SERVER)
    assert ended.code == 127
    assert "Check that the variable" in ended.failure


BROKEN = f"def escape(*_): raise ZeroDivisionError('{PASSWORD}')\ngenerate_latest = escape\n"


@pytest.mark.parametrize("where", ["the placeholder", "gate serve"])
def test_a_bug_in_a_request_is_one_line_for_all_requests_and_nothing_of_them(
    gate: GateRunner, tmp_path: Path, where: str
) -> None:
    """The module `html` is broken for the placeholder, and for `gate serve` what makes the metrics."""
    port = free_port()
    serve = where == "gate serve"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "html.py").write_text(BROKEN)
    (tmp_path / "broken" / "sitecustomize.py").write_text(
        "import sys\nif 'serve' in sys.argv:\n    import prometheus_client, html\n"
        "    prometheus_client.generate_latest = html.escape\n"
    )
    arguments = ["serve", "--listen", f"127.0.0.1:{port}"] if serve else ["run", "--", *SERVER]
    running = gate.start(*arguments, PYTHONPATH=str(tmp_path / "broken"), GATE_PLACEHOLDER=f"127.0.0.1:{port}")
    url, accept = f"http://127.0.0.1:{port}", {"Accept": "text/html", "User-Agent": "from-the-client"}

    def alive() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    await_true(alive, lambda: "".join(running.err), running.process)
    path = "/metrics" if serve else "/health/ready"
    assert [httpx.get(url + path, headers=accept, timeout=10).status_code for _ in range(3)] == [500] * 3
    running.signal(signal.SIGTERM)
    lines = [line for line in running.wait().err.splitlines() if "ZeroDivisionError" in line]
    assert len(lines) == 1, lines
    assert "ZeroDivisionError in gate/" in lines[0]
    assert ("gate.bug" in lines[0]) == serve
    assert PASSWORD not in lines[0]
    assert "from-the-client" not in lines[0]
