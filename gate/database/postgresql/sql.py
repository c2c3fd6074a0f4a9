"""SQL literals and identifiers: a bound parameter would leave a portal and its snapshot behind (hazards.md 3)."""

from __future__ import annotations


def literal(text: str | None) -> str:
    """Quote a string as a literal of type text; None is NULL."""
    return "NULL::text" if text is None else f" {string(text)}::text"


def string(text: str) -> str:
    """Quote a string where SQL allows no cast, as in SET."""
    quoted = text.replace("\0", "").replace("'", "''")
    return f"E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in quoted else f"'{quoted}'"


def identifier(name: str) -> str:
    """Quote the name of a table or schema."""
    return '"' + name.replace("\0", "").replace('"', '""') + '"'
