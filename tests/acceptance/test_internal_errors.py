"""A bug is reported in one sentence: no traceback, no password, and how to start the server meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase

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
