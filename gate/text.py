"""Other people's text (a database's, a file's, an environment's) as gate shows it: on one line, and not for ever.

Pure. Whoever may write a row, a name or a script may not thereby forge a line of log, steer a terminal or flood it.
"""

from __future__ import annotations

from collections.abc import Collection

MAX_IDS = 10
MAX_ID_LENGTH = 64
"""Ids, and characters of each, that a line shows; Alembic makes ids of 12 and keeps 32; people write longer ones."""


def printable(text: str) -> str:
    """Escape whatever moves a cursor, ends a line or cannot be seen."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_ids(ids: Collection[str]) -> list[str]:
    """The first ids, each as far as a person reads."""
    return [truncate(id_) for id_ in list(ids)[:MAX_IDS]]


def truncate(text: str, longest: int = MAX_ID_LENGTH) -> str:
    """The beginning of a long text."""
    return text if len(text) <= longest else text[:longest] + "…"


def join_ids(ids: Collection[str], separator: str = ", ") -> str:
    """The first ids in a line, and how many more there are; "" if there are none."""
    more = len(ids) - MAX_IDS
    return separator.join(truncate(printable(truncate(id_))) for id_ in list(ids)[:MAX_IDS]) + (
        f" and {more} more" if more > 0 else ""
    )


def is_text(text: str) -> bool:
    """Whether it can be sent to a server: Python keeps a byte that is no UTF-8 as half a surrogate."""
    return not any("\ud800" <= c <= "\udfff" for c in text)
