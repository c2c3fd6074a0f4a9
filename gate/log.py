"""One structured event for one thing that happened. The only room that knows structlog.

Every event has a dotted name, a level, and a `message`: a whole sentence for a person woken at night. Always
standard error, since standard output belongs to the server.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import structlog

from gate import redaction
from gate.text import printable

REPLACE = "\r\x1b[K"
"""Return to the line's beginning and clear it (ECMA-48, EL)."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_terminal = False
_showing = False


def configure(style: str = "auto", level: str = "info") -> None:
    """Choose the renderer: JSON, or lines for people (`auto` = those on a terminal)."""
    global _terminal  # noqa: PLW0603 - structlog's own configuration is global, too
    logging.lastResort = None  # what a driver says to nobody in particular is no event
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    _terminal = console and sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide,
            _line if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,
    )


def progress(text: str) -> None:
    """On a terminal, show this on a line that the next one replaces."""
    global _showing  # noqa: PLW0603 - there is one terminal
    if _terminal:
        _showing = True
        with suppress(OSError):
            os.write(2, f"{REPLACE}{printable(text)}".encode())


def emit(level: str, event: str, message: str, **fields: object) -> None:
    """Log one event; fields that are None are left out."""
    known = {key: value for key, value in fields.items() if value is not None}
    getattr(structlog.get_logger(), level)(event, message=message, **known)


class _Stderr:
    """Writes each line with one system call; a broken standard error never breaks the gate."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        global _showing
        line, _showing = (REPLACE if _showing else "") + line, False
        with suppress(OSError):
            os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = error = critical = msg


def _hide(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Nothing secret, and the fields in the order in which a person looks for them."""
    first = {key: event[key] for key in ("timestamp", "level", "event", "message")}
    return {key: _hidden(value) for key, value in {**first, **event}.items()}


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return redaction.hide(value)
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    if isinstance(value, dict):
        return {key: _hidden(each) for key, each in value.items()}
    return value if value is None or isinstance(value, int | float) else _hidden(str(value))


def _line(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """For a person: the message says it all, the fields are for machines."""
    moment = str(event["timestamp"])[11:19]
    return printable(f"{moment} {event['level'].upper():<8} {event['event']}: {event['message']}")
