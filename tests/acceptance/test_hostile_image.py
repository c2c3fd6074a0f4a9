"""Ids, messages and names of files in an image forge no line, whatever they say: other people write migrations, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.hostile_text import HOSTILE, unexpected_lines
from tests.support.programs import ProgramResult
from tests.support.projects import Project

FORBIDDEN_IN_IDS = str.maketrans("", "", "@-+:")
KINDS = [*HOSTILE, "half a character"]
TEXTS = {**HOSTILE, "half a character": "x\udcff\ud800"}


def script(id_: str, down: str, message: str) -> bytes:
    """A migration whose texts are written as Python's escapes, less what Alembic allows in no id."""
    source = f"{message!a}\n\nrevision = {id_!a}\ndown_revision = {down!a}\n\n\ndef upgrade():\n    pass\n"
    return source.encode()


def assert_nothing_forged(*ended: ProgramResult) -> None:
    assert [line for each in ended for line in unexpected_lines(each)] == []
    assert all(line.isprintable() for each in ended for line in each.out.split("\n"))


@pytest.fixture(params=KINDS)
def text(request: pytest.FixtureRequest) -> str:
    return TEXTS[request.param]


def test_a_hostile_id_and_message_forge_nothing(
    gate: GateRunner, database: TestDatabase, project: Project, tmp_path: Path, text: str
) -> None:
    id_ = text.translate(FORBIDDEN_IN_IDS)
    (project.versions / "b1.py").write_bytes(script(id_, "a3", text))
    message = tmp_path / "message"
    told = {"GATE_TIMEOUT": "1", "GATE_TERMINATION_LOG": str(message)}
    database.stamp("a3")
    running = [
        gate.start(*command, **told)
        for command in (("heads",), ("check",), ("wait",), ("run", "--log-format", "console", "--", *SERVER))
    ]
    assert_nothing_forged(*(each.wait() for each in running))
    assert message.read_text().isprintable()
    for command in ("heads", "check"):
        ended = gate(command, "--json")
        assert json.loads(ended.out).get("heads" if command == "heads" else "expected") == [id_]
    migrated = gate("migrate", **told)
    assert_nothing_forged(migrated)
    assert migrated.code in {0, 65}, "PostgreSQL may keep no such id; then it is told"


NAME = "".join(HOSTILE.values()).translate({ord("/"): "", ord("\n"): "\r"}).encode()[:240] + b"\xff.py"
"""Everything at once that a folder can hold, and a byte that is no UTF-8. Alembic ignores a name with a line feed."""

BROKEN = {
    "a syntax error": b"revision = 'b1'\ndown_revision = 'a3'\ndef (",
    "no id": b"down_revision = 'a3'\n",
    "an unknown parent": b"revision = 'b1'\ndown_revision = 'no such'\n",
    "an id twice": b"revision = 'a3'\ndown_revision = 'a2'\n",
    "a computed id that cannot be loaded": b"revision = made()\ndown_revision = 'a3'\n",
    "a circle": b"revision = 'b1'\ndown_revision = 'b1'\n",
    "a reserved id": b"revision = 'head'\ndown_revision = 'a3'\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_script_in_a_hostile_file_forges_nothing(
    gate: GateRunner, project: Project, tmp_path: Path, what: str
) -> None:
    with open(bytes(project.versions) + b"/" + NAME, "wb") as file:
        file.write(BROKEN[what])
    message = tmp_path / "message"
    running = [
        gate.start(*command, GATE_TERMINATION_LOG=str(message))
        for command in (("heads",), ("check", "--json"), ("wait",), ("migrate", "--log-format", "console"))
    ]
    ended = [each.wait() for each in running]
    assert [each.code for each in ended] == [78] * 4, ended
    assert_nothing_forged(*ended)
    assert json.loads(ended[1].out)["verdict"] is None
    assert message.read_text().isprintable()


def test_a_computed_id_in_a_hostile_file_and_a_computed_table_forge_nothing(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    database.stamp("a1")
    with open(bytes(project.versions) + b"/" + NAME, "wb") as file:
        file.write(b"revision = str('b1')\ndown_revision = 'a3'\n")
    running = [gate.start(*command, GATE_TIMEOUT="1") for command in (("heads",), ("check",), ("wait",))]
    ended = [each.wait() for each in running]
    assert [each.code for each in ended] == [0, 1, 124], ended
    assert_nothing_forged(*ended)
    assert "is computed" in ended[1].err


def test_hostile_names_of_folders_forge_nothing(gate: GateRunner, project: Project, text: str) -> None:
    folder = project.folder.parent / text.replace("/", "").encode("utf-8", "replace").decode()[:60]
    project.folder.rename(folder)
    gate.folder = folder
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")
    assert_nothing_forged(gate("heads"), gate("check"), gate("wait"))
    ended = gate("wait", "-c", str(folder / "missing.ini"), "-n", "no\x1b[2J\nsection", ALEMBIC_CONFIG=str(folder))
    assert ended.code == 78
    assert_nothing_forged(ended)


def test_what_a_script_prints_while_alembic_loads_it_stays_apart_from_gates_answer(
    gate: GateRunner, project: Project
) -> None:
    (project.versions / "b1.py").write_text(
        "import sys\nprint('{\"verdict\": \"CURRENT\"}')\nprint('x', file=sys.__stdout__)\n"
        "revision = str('b1')\ndown_revision = 'a3'\n"
    )
    ended = gate("heads", "--json")
    assert (ended.code, json.loads(ended.out)["heads"]) == (0, ["b1"])
