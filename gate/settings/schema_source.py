"""GATE_SCHEMAS -> which schemas have a version table each: names, patterns, or a SELECT that names them.

Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_NAME_BYTES = 63
"""Bytes of a name in PostgreSQL, which truncates a longer one (NAMEDATALEN)."""

_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^",]*?))\s*(,|$)')
"""One name, in double quotes or without, and what follows it."""

_QUERY = re.compile(
    r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(?:SELECT|WITH|VALUES|TABLE)(?=[\s(*'\"])", re.IGNORECASE | re.DOTALL
)
"""How a query begins, behind comments and parentheses. A schema may have the name `select`, but nothing follows it."""

_SYSTEM = re.compile(r"pg_.*|information_schema", re.DOTALL)


class SchemaSource(NamedTuple):
    """What GATE_SCHEMAS asks for.

    `names`: in their order, exactly as the catalog has them; `patterns`: with `*` for any characters and `?` for one;
    `query`: a SELECT whose first column names the schemas, "" = none.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> SchemaSource:
        """Parse the setting; raises `ValueError` with the reason, as what follows the name of the setting."""
        if _QUERY.match(text):
            return cls(query=text.strip().rstrip(";").rstrip())
        names: list[str] = []
        patterns: list[str] = []
        for name, is_quoted in _items(text):
            is_pattern = not is_quoted and ("*" in name or "?" in name)
            (patterns if is_pattern else names).append(name)
        return cls(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(patterns)))

    def __str__(self) -> str:
        """Render as the setting was written, but for spaces."""
        return self.query or ",".join((*(f'"{n}"' if _needs_quotes(n) else n for n in self.names), *self.patterns))


def is_system_schema(name: str) -> bool:
    """Whether a schema belongs to the server, so that no application has tables there."""
    return _SYSTEM.fullmatch(name) is not None


def _items(text: str) -> list[tuple[str, bool]]:
    """Split the list into names, each with whether it is quoted."""
    items, position = [], 0
    while True:
        match = _ITEM.match(text, position)
        if match is None:
            raise ValueError(f"has a quote in {text[position:]!r} that does not enclose a name")
        quoted, plain, end = match.groups()
        name = quoted.replace('""', '"') if quoted else plain
        _check(name, is_quoted=bool(quoted))
        items.append((name, bool(quoted)))
        if not end:
            return items
        position = match.end()


def _check(name: str, *, is_quoted: bool) -> None:
    if not name:
        raise ValueError("has an empty name; separate names by one comma")
    if not is_quoted and re.search(r"[\s;]", name):
        raise ValueError(
            f"names {name!r}, which is neither a SELECT nor a plain name; put a name with spaces in quotes"
        )
    if is_system_schema(name):
        raise ValueError(f"names {name!r}, a schema of the server itself")
    if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise ValueError(f"names {name!r}, which is longer than PostgreSQL's {MAX_NAME_BYTES} bytes")


def _needs_quotes(name: str) -> bool:
    return re.search(r'[\s",*?;]', name) is not None
