"""Refuses every connection to a database in the process that renders SQL, and recognises an error that comes from it.

The kernel refuses network and socket connections of any library (`gate.process.connections`). Two hooks in Python add
what that cannot do: refuse a file of SQLite, and stop an env.py that would wait and try again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from sqlalchemy import Engine, event

from gate.process.connections import REFUSED_CONNECTION, forbid_connections

IN_MEMORY = re.compile(r"\Z|:memory:|file:.*(:memory:|mode=memory)")
"""Names of SQLite databases that exist in this process only, so that a library may use one."""

REFUSED = re.compile(
    rf"{re.escape(os.strerror(REFUSED_CONNECTION))}|name resolution|resolve host|translate host name"
    r"|Name or service not known"
)
"""What drivers write about a refused connection: a name server cannot be reached either."""


class ConnectionAttempt(BaseException):
    """The migration tries to connect to a database while its SQL is rendered.

    Derives from BaseException so that a loop that waits for the database ends.
    """


def refuse_connections() -> None:
    """Refuse all connections of this process and its descendants from now on; raises `OSError` if that fails."""
    forbid_connections()
    sys.addaudithook(_refuse_sqlite_file)
    event.listen(Engine, "do_connect", _refuse)


def tries_to_connect(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, is a refused connection."""
    return any(_is_refusal(each) for each in _chain(error))


def _refuse(dialect: Any, *_: object) -> None:
    if dialect.name != "sqlite":  # its databases in memory are allowed; the audit hook sees which it is
        _raise(dialect.name)


def _refuse_sqlite_file(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "sqlite3.connect" and not IN_MEMORY.match(os.fsdecode(arguments[0])):
        _raise("sqlite")


def _raise(engine: str) -> NoReturn:
    raise ConnectionAttempt(f"it connects to a database ({engine})")


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, ConnectionAttempt) or getattr(error, "errno", None) == REFUSED_CONNECTION:
        return True
    return isinstance(error, Exception) and bool(REFUSED.search(_text(error)))


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an application's __str__ may raise anything
        return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__
