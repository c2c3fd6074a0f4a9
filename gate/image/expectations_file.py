"""The file `gate-expected.json`: reads it strictly, and renders it so that equal expectations are equal bytes.

The file is part of an image, and an image can contain any file. Its size, nesting and names are bounded, and its names
reach a statement only as quoted literals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gate.errors import BadSettings, ResourceShortage
from gate.files import read_regular_file, why_unreadable
from gate.image.expectations import Expectations, ExpectedTable, RecordedVersionTable
from gate.text import is_text, truncate

VERSION = 1
"""The version of the format."""

MAX_FILE_SIZE = 4 << 20
"""Bytes; 1,000 tables of 20 columns take some 350 KB."""

MAX_TABLES = 10_000

MAX_BRACKETS = 4 * MAX_TABLES
"""Opening brackets in the file, counted before it is parsed: a table has two, and each costs memory."""

MAX_NAME_LENGTH = 255
"""Characters; PostgreSQL keeps 63 bytes, MySQL 64 characters, Oracle 128 bytes."""

QUOTES = ('"', "'", "`")
"""Characters that no recorded name contains: they are legal in a quoted name, and far more often an attack."""

TOP_KEYS = ("version", "heads", "version_table", "tables")
TABLE_KEYS = ("schema", "name", "columns")
VERSION_TABLE_KEYS = ("name", "schema")


class _Invalid(Exception):
    """What is wrong with the content, as a clause."""


def read_expectations(path: str) -> Expectations:
    """Read a file that `gate expect` has written; raises `BadSettings` with what is wrong and what to do."""
    try:
        return _expectations(path, _parse(read_regular_file(path, MAX_FILE_SIZE)))
    except OSError as error:
        raise ResourceShortage.of(error) or _unusable(path, f"cannot be read: {why_unreadable(error)}") from None
    except _Invalid as error:
        raise _unusable(path, f"cannot be used: {error}") from None


def _unusable(path: str, finding: str) -> BadSettings:
    return BadSettings(f"{path} {finding}. Run `gate expect` again when the image is built (GATE_EXPECTED).")


def _parse(content: bytes) -> Any:
    if content.count(b"[") + content.count(b"{") > MAX_BRACKETS:
        raise _Invalid(f"it has more than {MAX_TABLES} tables, or it is nested")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise _Invalid(f"byte {error.start} is not UTF-8 text") from None
    except RecursionError:
        raise _Invalid("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _Invalid(f"line {error.lineno} is not JSON ({error.msg}); it may be truncated") from None
    except ValueError:  # an integer of more than 4,300 digits
        raise _Invalid("it contains a number that is too long") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Invalid(f"an object has the key {truncate(twice)!r} twice")
    return result


def _reject_constant(name: str) -> None:
    raise _Invalid(f"{name} is not JSON")


def _expectations(path: str, document: Any) -> Expectations:
    if not isinstance(document, dict):
        raise _Invalid("it is not a JSON object")
    _require_version(document)
    _require_keys(document, TOP_KEYS, "the file")
    heads = _list(document["heads"], "heads")
    for index, head in enumerate(heads):
        _name(head, f"heads[{index}]", quotes=True)
    if not heads or len({*heads}) != len(heads):
        raise _Invalid("heads must name each head of the migration scripts once")
    return Expectations(path, tuple(heads), _version_table(document["version_table"]), _tables(document["tables"]))


def _require_version(document: dict[str, Any]) -> None:
    version = document.get("version")
    if type(version) is int and version > VERSION:
        raise _Invalid(
            f"it was written by a newer gate (version {truncate(str(version), 10)}, this gate reads {VERSION})"
        )
    if type(version) is not int or version != VERSION:
        raise _Invalid(f"it does not begin with the version of its format, {VERSION}; another program has written it")


def _require_keys(value: dict[str, Any], required: Iterable[str], place: str, optional: Iterable[str] = ()) -> None:
    if value.keys() == {*required}:
        return
    if missing := [key for key in required if key not in value]:
        raise _Invalid(f"{place} has no {missing[0]!r}")
    if unknown := value.keys() - {*required, *optional}:
        raise _Invalid(f"{place} has the unknown key {truncate(min(unknown))!r}")


def _version_table(value: Any) -> RecordedVersionTable | None:
    if value is None:
        return None
    _object(value, VERSION_TABLE_KEYS, "version_table")
    schema = value["schema"]
    return RecordedVersionTable(
        _name(value["name"], "version_table.name"),
        None if schema is None else _name(schema, "version_table.schema"),
    )


def _tables(value: Any) -> tuple[ExpectedTable, ...]:
    tables = tuple(_table(each, index) for index, each in enumerate(_list(value, "tables")))
    if len(tables) > MAX_TABLES:
        raise _Invalid(f"it has more than {MAX_TABLES} tables")
    seen: set[tuple[str | None, str]] = set()
    for table in tables:
        if table[:2] in seen:
            raise _Invalid(f"tables names {table.name!r} twice")
        seen.add(table[:2])
    return tables


def _table(value: Any, index: int) -> ExpectedTable:
    place = f"tables[{index}]"
    _object(value, TABLE_KEYS, place, ("read_only",))
    schema, read_only = value["schema"], value.get("read_only", False)
    if type(read_only) is not bool:
        raise _Invalid(f"{place}.read_only must be true or false")
    columns = _list(value["columns"], f"{place}.columns")
    if not _are_names(columns):
        for number, column in enumerate(columns):
            _name(column, f"{place}.columns[{number}]")
    if len({*columns}) != len(columns):
        raise _Invalid(f"{place}.columns names a column twice")
    schema = None if schema is None else _name(schema, f"{place}.schema")
    return ExpectedTable(schema, _name(value["name"], f"{place}.name"), tuple(columns), read_only)


def _object(value: Any, required: Iterable[str], place: str, optional: Iterable[str] = ()) -> None:
    if not isinstance(value, dict):
        raise _Invalid(f"{place} is not a JSON object")
    _require_keys(value, required, place, optional)


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Invalid(f"{place} is not a list")
    return value


def _are_names(values: list[Any]) -> bool:
    """Whether all are valid names; the quick answer for the usual list."""
    if {*map(type, values)} - {str} or not all(values):
        return False
    joined = "".join(values)
    if len(joined) > MAX_NAME_LENGTH and max(map(len, values)) > MAX_NAME_LENGTH:
        return False
    return joined.isprintable() and not _has_quote(joined)


def _has_quote(text: str) -> bool:
    return any(quote in text for quote in QUOTES)


def _name(value: Any, place: str, *, quotes: bool = False) -> str:
    if not isinstance(value, str):
        raise _Invalid(f"{place} is not text")
    if reason := name_error(value, quotes=quotes):
        raise _Invalid(f"{place}, {truncate(value)!r}, {reason}")
    return value


def name_error(name: str, *, quotes: bool = False) -> str:
    """Return why the file cannot contain this name, "" if it can. `quotes`: whether quotes are permitted."""
    if not name or len(name) > MAX_NAME_LENGTH:
        return f"must have 1 to {MAX_NAME_LENGTH} characters"
    if not name.isprintable() and not (is_text(name) and all(map(_is_allowed, name))):
        return "contains a control character"
    if not quotes and _has_quote(name):
        return "contains a quote"
    return ""


def _is_allowed(char: str) -> bool:
    """Whether a name may contain a character: Python calls also spaces such as U+3000 unprintable."""
    return char.isprintable() or (char.isspace() and char > "\xa0" and char not in "\u2028\u2029")


def render(expectations: Expectations) -> bytes:
    """Return the content of the file: sorted, one table in a line, so that a difference is readable."""
    version_table, tables = expectations.version_table, sorted(expectations.tables, key=table_key)
    heads = _json(sorted(expectations.heads))
    rows = [f"    {_json(_as_object(table))}" for table in tables]
    lines = [
        "{",
        f'  "version": {VERSION},',
        f'  "heads": {heads},',
        f'  "version_table": {_json(version_table._asdict() if version_table else None)},',
        '  "tables": [' + ("" if rows else "]"),
        *([",\n".join(rows), "  ]"] if rows else ()),
        "}",
    ]
    return "\n".join(lines).encode() + b"\n"


def table_key(table: ExpectedTable) -> tuple[str, str]:
    """Order tables by schema and name; those without a schema come first."""
    return table.schema or "", table.name


def _as_object(table: ExpectedTable) -> dict[str, object]:
    value = {"schema": table.schema, "name": table.name, "columns": sorted(table.columns)}
    return value | ({"read_only": True} if table.read_only else {})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
