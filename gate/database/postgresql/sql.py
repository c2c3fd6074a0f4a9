"""Strings and names as SQL writes them: literals on purpose, since a bound parameter leaves a snapshot behind."""

from __future__ import annotations


def literal(text: str | None) -> str:
    """A string as SQL writes it; bound parameters would leave a portal and its snapshot behind (hazards.md 3)."""
    return "NULL::text" if text is None else f" {string(text)}::text"


def string(text: str) -> str:
    """The same for where a cast may not stand."""
    quoted = text.replace("\0", "").replace("'", "''")
    return f"E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in quoted else f"'{quoted}'"


def identifier(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace("\0", "").replace('"', '""') + '"'
