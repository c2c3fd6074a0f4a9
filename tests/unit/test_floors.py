"""The rooms: imports go only sideways or down, and each library has its door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gate

SOURCE = Path(gate.__file__).parent

FLOORS = {
    "pure": (
        "foreign errors redaction url_parameters urls variables setting_reader settings upgrade_order revisions drift "
        "decision sql_text explanation readiness bindings script_text environment_text plain_script"
    ),
    "adapters": (
        "configuration_files configuration bytecode script_directory alembic_loader migrator catalog stamp database "
        "asking backends log wait signals handoff streams garbage termination errand death hold http_server"
    ),
    "deeds": (
        "look lock advisory_lock mysql sqlite_file engines predecessor dialects other_engines progress slowness plan "
        "child oversight supervisor aftermath migrate upgrade marks"
    ),
    "flow": "assembly announce rival run passage borrowed watch advisory",
    "doors": "guard report command_line command_parser cli __init__ __main__ asgi wsgi serve hold_server",
}
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS.values()) for room in rooms.split()}

DOORS = {
    "tenacity": {"wait"},
    "structlog": {"log"},
    "alembic": {"upgrade", "alembic_loader"},
    "psycopg": {"database", "look"},
    "sqlalchemy": {"dialects", "other_engines", "mysql", "upgrade", "marks", "borrowed"},
    "uvicorn": {"http_server"},
    "prometheus_client": {"serve"},
}
FOR_THE_OUTSIDE = {"os", "sys", "subprocess", "socket", "threading", "signal", "pathlib", "time", "random", "asyncio"}


@dataclass(frozen=True)
class Import:
    """One imported module. `eager` = it is loaded when the room is."""

    module: str
    line: int
    eager: bool


def rooms() -> list[str]:
    return sorted(path.stem for path in SOURCE.glob("*.py"))


def tree(room: str) -> ast.Module:
    return ast.parse((SOURCE / f"{room}.py").read_bytes())


def imports(room: str) -> list[Import]:
    return [*_imports(tree(room), eager=True)]


def _imports(node: ast.AST, *, eager: bool) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, node.lineno, eager) for alias in names)
        case ast.ImportFrom(module="gate", names=names):
            yield from (Import(_of_gate(alias.name), node.lineno, eager) for alias in names)
        case ast.ImportFrom(module=str(module), level=0):
            yield Import(module, node.lineno, eager)
        case ast.ImportFrom():
            pytest.fail(f"a relative import in line {node.lineno}: rooms are named in full")
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _only_for_types(node)
        yield from _imports(child, eager=eager and not lazy)


def _of_gate(name: str) -> str:
    return f"gate.{name}" if (SOURCE / f"{name}.py").exists() else "gate.__init__"


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def gates(room: str) -> list[Import]:
    return [each for each in imports(room) if each.module.startswith("gate.")]


def test_there_are_rooms_and_they_import_each_other() -> None:
    assert len(rooms()) > 20
    assert any(each.module == "gate.drift" for each in gates("explanation"))


def test_every_room_stands_on_one_floor() -> None:
    missing = [room for room in rooms() if room not in FLOOR]
    assert missing == [], "give each new room its floor in FLOORS"
    assert sum(len(names.split()) for names in FLOORS.values()) == len(FLOOR)


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_sideways_or_down(room: str) -> None:
    climbing = [
        f"line {each.line}: {each.module}"
        for each in gates(room)
        if FLOOR.get(each.module.removeprefix("gate."), 0) > FLOOR.get(room, 0)
    ]
    assert climbing == []


def test_no_rooms_need_each_other_to_be_loaded() -> None:
    needs = {room: {e.module.removeprefix("gate.") for e in gates(room) if e.eager} for room in rooms()}
    order = [*TopologicalSorter(needs).static_order()]
    assert {*order} == {*rooms()}


@pytest.mark.parametrize("room", [room for room in rooms() if room in FLOORS["pure"].split()])
def test_a_pure_room_knows_neither_the_clock_nor_the_outside(room: str) -> None:
    assert [each for each in imports(room) if each.module.split(".")[0] in FOR_THE_OUTSIDE] == []


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_door(library: str) -> None:
    users = {room for room in rooms() if any(e.module.split(".")[0] == library for e in imports(room))}
    assert users <= DOORS[library]
    assert users, f"nobody uses {library} any more: take it out of DOORS and of pyproject.toml"


@pytest.mark.parametrize("library", ["psycopg", "sqlalchemy", "alembic"])
def test_a_heavy_library_is_loaded_only_by_who_needs_it(library: str) -> None:
    eager = {room for room in rooms() for e in imports(room) if e.eager and e.module.split(".")[0] == library}
    assert eager <= (set() if library == "psycopg" else {"upgrade", "marks", "dialects", "other_engines", "mysql"})


def test_only_the_command_line_parses_arguments() -> None:
    names = {
        room
        for room in rooms()
        for node in ast.walk(tree(room))
        if "ArgumentParser" in {getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "name", "")}
    }
    assert names == {"command_parser"}


LONGEST_ROOM, LONGEST_FUNCTION = 200, 40


@pytest.mark.parametrize("room", rooms())
def test_a_room_is_small(room: str) -> None:
    assert len((SOURCE / f"{room}.py").read_text().splitlines()) <= LONGEST_ROOM
    functions = [n for n in ast.walk(tree(room)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if f.end_lineno and f.end_lineno - f.lineno >= LONGEST_FUNCTION]
    assert long == []


@pytest.mark.parametrize("room", rooms())
def test_every_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(tree(room))


def test_there_is_no_room_for_whatever_fits_nowhere() -> None:
    assert {"utils", "util", "helpers", "common", "misc"}.isdisjoint(rooms())
