"""Text from databases, files and the environment, made safe to show: one line, printable, of bounded length.

Pure. A row, a name or a script cannot forge a line of the log, control a terminal or flood it.
"""

from __future__ import annotations

from collections.abc import Collection

MAX_IDS = 10
"""Revision ids in one line."""

MAX_ID_LENGTH = 64
"""Characters of one id: Alembic generates 12 and by default stores 32; ids that people choose are longer."""


def printable(text: str) -> str:
    """Escape control characters, line ends and invisible characters as Python's `unicode_escape` does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_ids(ids: Collection[str]) -> list[str]:
    """Return the first `MAX_IDS` ids, each truncated."""
    return [truncate(id_) for id_ in list(ids)[:MAX_IDS]]


def truncate(text: str, max_length: int = MAX_ID_LENGTH) -> str:
    """Return the first characters of a longer text, and an ellipsis."""
    return text if len(text) <= max_length else text[:max_length] + "…"


def short_name(name: str) -> str:
    """Make an id or a name printable and short."""
    return truncate(printable(truncate(name)))


def join_ids(ids: Collection[str], separator: str = ", ") -> str:
    """Return the first `MAX_IDS` ids in one line, and how many more there are; "" without ids."""
    more = len(ids) - MAX_IDS
    return separator.join(map(short_name, list(ids)[:MAX_IDS])) + (f" and {more} more" if more > 0 else "")


def is_text(text: str) -> bool:
    """Whether the text can be encoded as UTF-8. Python decodes any other byte to a lone surrogate (PEP 383)."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def one_edit_apart(one: str, other: str) -> bool:
    """Return whether one insertion, deletion, substitution or transposition of neighbours turns one into the other."""
    if len(one) > len(other):
        one, other = other, one
    if one == other or len(other) - len(one) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[start:] == other[start + 1 :]
    transposed = one[:start] + one[start : start + 2][::-1] + one[start + 2 :]
    return one[start + 1 :] == other[start + 1 :] or transposed == other
