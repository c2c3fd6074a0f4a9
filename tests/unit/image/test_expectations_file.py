"""`gate-expected.json`: what was written is read again, and anything else is one sentence."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadSettings
from gate.image.expectations import Expectations, ExpectedTable, RecordedVersionTable
from gate.image.expectations_file import (
    MAX_FILE_SIZE,
    MAX_NAME_LENGTH,
    MAX_TABLES,
    name_error,
    read_expectations,
    render,
)
from tests.support.strategies import printable_lines

VALID: dict[str, Any] = {
    "version": 1,
    "heads": ["a1"],
    "version_table": {"name": "alembic_version", "schema": None},
    "tables": [{"schema": None, "name": "items", "columns": ["id", "stock"]}],
}


def read(folder: Path, content: bytes) -> Expectations:
    path = folder / "gate-expected.json"
    path.write_bytes(content)
    return read_expectations(str(path))


def refusal(folder: Path, content: bytes | object) -> str:
    """The message for a file that cannot be used."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(BadSettings) as failure:
        read(folder, content)
    assert failure.value.exit_code == 78
    assert printable_lines(failure.value)
    assert str(failure.value).startswith(f"{folder / 'gate-expected.json'} cannot be ")
    assert "Run `gate expect` again" in str(failure.value)
    assert len(str(failure.value)) < 600
    return str(failure.value)


def changed(*path: str | int, to: object) -> dict[str, Any]:
    """The valid document with another value at one place."""
    document = json.loads(json.dumps(VALID))
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return dict(document)


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps(changed("tables", 0, "read_only", to=True)).encode())
    assert found.heads == ("a1",)
    assert found.version_table == RecordedVersionTable("alembic_version")
    assert found.tables == (ExpectedTable(None, "items", ("id", "stock"), read_only=True),)
    assert found.path.endswith("gate-expected.json")


# Names that are allowed, and few and short ones: Hypothesis fails a test that discards or draws much.
CHARACTERS = st.characters(exclude_categories=["C", "Z"], exclude_characters="'\"`") | st.sampled_from("\u3000 ")
NAMES = st.text(CHARACTERS, min_size=1, max_size=6)
TABLES = st.lists(
    st.builds(
        ExpectedTable, st.none() | NAMES, NAMES, st.lists(NAMES, max_size=3, unique=True).map(tuple), st.booleans()
    ),
    max_size=5,
    unique_by=lambda table: table[:2],
)
EXPECTATIONS = st.builds(
    Expectations,
    st.just(""),
    st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
    st.none() | st.builds(RecordedVersionTable, NAMES, st.none() | NAMES),
    TABLES.map(tuple),
)


@given(EXPECTATIONS, st.randoms())
def test_what_was_written_is_read_and_its_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, expectations: Expectations, drawn: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("file")
    content = render(expectations)
    found = read(folder, content)
    assert {*found.heads} == {*expectations.heads}
    assert found.version_table == expectations.version_table
    assert {t._replace(columns=frozenset(t.columns)) for t in found.tables} == {  # type: ignore[arg-type]
        t._replace(columns=frozenset(t.columns))  # type: ignore[arg-type]
        for t in expectations.tables
    }
    shuffled = [t._replace(columns=tuple(drawn.sample(t.columns, len(t.columns)))) for t in expectations.tables]
    drawn.shuffle(shuffled)
    assert render(expectations._replace(tables=tuple(shuffled))) == content
    assert content.endswith(b"}\n")


def test_each_table_is_a_line() -> None:
    tables = (ExpectedTable("s", "b", ("x",)), ExpectedTable(None, "a", ("y", "x"), read_only=True))
    assert render(Expectations("", ("b2", "a1"), None, tables)).decode() == (
        '{\n  "version": 1,\n  "heads": ["a1", "b2"],\n  "version_table": null,\n  "tables": [\n'
        '    {"schema": null, "name": "a", "columns": ["x", "y"], "read_only": true},\n'
        '    {"schema": "s", "name": "b", "columns": ["x"]}\n  ]\n}\n'
    )


BYTES = {
    "empty": b"",
    "truncated": render(Expectations("", ("a1",), None, (ExpectedTable(None, "items", ("id",)),)))[:-40],
    "not UTF-8": b'{"version": 1, "heads": ["\xff"]}',
    "UTF-16": json.dumps(VALID).encode("utf-16"),
    "with a byte order mark": b"\xef\xbb\xbf" + json.dumps(VALID).encode(),
    "null bytes": bytes(1000),
    "nested": b"[" * 200_000,
    "nested in an object": b'{"version": 1, "tables": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "nested objects": b'{"a":' * 30_000,
    "larger than the limit": b" " * MAX_FILE_SIZE + b"{}",
    "a number with a million digits": b'{"version": 1' + b"0" * 1_000_000 + b"}",
    "a number without an end": b'{"version": 1e999}',
    "NaN": b'{"version": NaN}',
    "-Infinity": b'{"version": -Infinity}',
    "a key twice": b'{"version": 1, "version": 1}',
    "a key twice in a table": json.dumps(VALID).encode().replace(b'"name": "items"', b'"name": "x", "name": "items"'),
    "two documents": json.dumps(VALID).encode() * 2,
    "YAML": b"version: 1\nheads: [a1]\n",
    "HTML": b"<html>404 Not Found</html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a merge conflict": b"<<<<<<< HEAD\n" + json.dumps(VALID).encode(),
}


@pytest.mark.parametrize("what", BYTES)
def test_a_file_is_refused_that_is(what: str, tmp_path: Path) -> None:
    refusal(tmp_path, BYTES[what])


DOCUMENTS: dict[str, tuple[object, str]] = {
    "a list": ([], "not a JSON object"),
    "null": (None, "not a JSON object"),
    "a newer version": (changed("version", to=2), "newer gate"),
    "a much newer version": (changed("version", to=10**400), "newer gate"),
    "version 0": (changed("version", to=0), "version"),
    "version true": (changed("version", to=True), "version"),
    "version 1.0": (changed("version", to=1.0), "version"),
    "version as text": (changed("version", to="1"), "version"),
    "no version": ({"tables": []}, "version"),
    "no heads": ({k: v for k, v in VALID.items() if k != "heads"}, "the file has no 'heads'"),
    "an unknown key": (changed("colour", to="red"), "unknown key 'colour'"),
    "heads as text": (changed("heads", to="a1"), "heads is not a list"),
    "empty heads": (changed("heads", to=[]), "heads"),
    "a head twice": (changed("heads", to=["a", "a"]), "once"),
    "a head that is a number": (changed("heads", to=[1]), "heads[0] is not text"),
    "a head with a line break": (changed("heads", to=["a\nb"]), "control character"),
    "version_table as text": (changed("version_table", to="x"), "version_table is not a JSON object"),
    "version_table without a schema": (changed("version_table", to={"name": "x"}), "has no 'schema'"),
    "version_table without a name": (changed("version_table", "name", to=None), "version_table.name is not text"),
    "an empty schema": (changed("version_table", "schema", to=""), "version_table.schema"),
    "tables as an object": (changed("tables", to={}), "tables is not a list"),
    "a table as text": (changed("tables", to=["items"]), "tables[0] is not a JSON object"),
    "a table without columns": (changed("tables", to=[{"schema": None, "name": "x"}]), "has no 'columns'"),
    "a table twice": (changed("tables", to=VALID["tables"] * 2), "twice"),
    "a column twice": (changed("tables", 0, "columns", to=["id", "id"]), "a column twice"),
    "a column that is a number": (changed("tables", 0, "columns", to=["id", 1]), "columns[1] is not text"),
    "a column that is a list": (changed("tables", 0, "columns", to=[[]]), "columns[0] is not text"),
    "an empty column": (changed("tables", 0, "columns", to=[""]), "columns[0]"),
    "columns as text": (changed("tables", 0, "columns", to="id"), "columns is not a list"),
    "read_only as text": (changed("tables", 0, "read_only", to="yes"), "read_only"),
    "read_only as a number": (changed("tables", 0, "read_only", to=1), "read_only"),
    "an unknown key of a table": (changed("tables", 0, "type", to="view"), "unknown key 'type'"),
    "too many tables": (
        changed("tables", to=[{"schema": None, "name": f"t{n}", "columns": []} for n in range(MAX_TABLES + 1)]),
        f"more than {MAX_TABLES}",
    ),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_a_document_is_refused_with_its_mistake(what: str, tmp_path: Path) -> None:
    document, clause = DOCUMENTS[what]
    if what == "a much newer version":
        document = json.dumps(VALID).encode().replace(b'"version": 1', b'"version": ' + b"9" * 400)
    assert clause in refusal(tmp_path, document)


BAD_NAMES = {
    "a quote": 'items"; DROP TABLE items; --',
    "a single quote": "it's",
    "a backtick": "`items`",
    "a null byte": "items\0",
    "an escape": "\x1b[2J",
    "a line break": "items\nFATAL",
    "a line separator": "items\u2028x",
    "a lone surrogate": "\ud800",
    "an invisible character": "items\u200b",
    "a direction mark": "\u202esmeti",
    "too many characters": "x" * (MAX_NAME_LENGTH + 1),
    "a megabyte": "x" * 1_000_000,
}


@pytest.mark.parametrize("what", BAD_NAMES)
@pytest.mark.parametrize(
    "path", [("tables", 0, "name"), ("tables", 0, "schema"), ("tables", 0, "columns", 1), ("version_table", "name")]
)
def test_a_name_is_refused_with(what: str, path: tuple[str | int, ...], tmp_path: Path) -> None:
    message = refusal(tmp_path, changed(*path, to=BAD_NAMES[what]))
    assert "contains" in message or "characters" in message


@pytest.mark.parametrize(
    "name", ["Items", "stock count", "größe", "在庫", "a.b", "x-y", "$x", "a\u3000b", "x" * 255, "%s", "\\"]
)
def test_an_unusual_name_is_accepted(name: str, tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps(changed("tables", 0, "columns", to=[name])).encode())
    assert found.tables[0].columns == (name,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [
        ("version",),
        ("heads",),
        ("heads", 0),
        ("version_table",),
        ("version_table", "schema"),
        ("tables",),
        ("tables", 0),
        ("tables", 0, "columns"),
        ("tables", 0, "columns", 0),
        ("tables", 0, "name"),
        ("tables", 0, "read_only"),
    ]
)


@given(st.binary(max_size=200) | st.tuples(PLACES, JSON))
def test_any_file_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, drawn: bytes | tuple[tuple[str | int, ...], object]
) -> None:
    content = drawn if isinstance(drawn, bytes) else json.dumps(changed(*drawn[0], to=drawn[1])).encode()
    try:
        found = read(tmp_path_factory.mktemp("file"), content)
    except BadSettings as error:
        assert printable_lines(error)
        assert "\n" not in str(error)
    else:
        assert found.heads
        assert all(not name_error(name) for table in found.tables for name in (table.name, *table.columns))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gate-expected.json"
    os.mkfifo(path)
    with pytest.raises(BadSettings, match="not a regular file"):
        read_expectations(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(BadSettings, match="it is a folder"):
        read_expectations(str(path))
    path.rmdir()
    with pytest.raises(BadSettings, match="there is no such file"):
        read_expectations(str(path))
    path.symlink_to("nowhere")
    with pytest.raises(BadSettings, match="there is no such file"):
        read_expectations(str(path))
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(BadSettings, match="not a regular file"):
            read_expectations(device)
