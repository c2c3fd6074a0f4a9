"""A bug in gate is told as one, in one sentence: no traceback, no password, and the way out."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.programs import start
from tests.support.projects import Project

SABOTAGED = """
import sys
from gate import cli, {room}

def broken(*_, **__):
    raise {error}

{room}.{name} = broken
sys.argv = ["gate", {command!r}]
cli.main()
"""
PASSWORD = "S3cr3tW0rd"
LEAKING = f"ZeroDivisionError('at postgresql://app:{PASSWORD}@db/shop\\x1b[2J\\ngate: gate.forged')"


@pytest.mark.parametrize(
    ("room", "name", "command"),
    [
        ("look", "read", "check"),
        ("drift", "compare", "check"),
        ("look", "read", "wait"),
        ("drift", "compare", "migrate"),
    ],
)
def test_a_bug_is_one_sentence_without_a_password(
    project: Project, database: TestDatabase, room: str, name: str, command: str
) -> None:
    text = SABOTAGED.format(room=room, name=name, command=command, error=LEAKING)
    ended = start([sys.executable, "-c", text], {"DATABASE_URL": database.url}, project.folder).wait()
    assert ended.code == 70
    (line,) = ended.err.splitlines()
    assert line.startswith("gate: this is a bug in gate ")
    assert line.isprintable()
    assert "GATE_BYPASS=1 is the way out" in line
    assert PASSWORD not in line


def test_a_keyboard_interrupt_anywhere_ends_quietly(project: Project) -> None:
    text = SABOTAGED.format(room="report", name="heads", command="heads", error="KeyboardInterrupt")
    ended = start([sys.executable, "-c", text], {}, project.folder).wait()
    assert (ended.code, ended.err) == (130, "")


def test_an_empty_word_for_a_command_is_told(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    ended = gate("run", "--", "", *SERVER)
    assert ended.code == 127
    assert "Check that the variable" in ended.failure
