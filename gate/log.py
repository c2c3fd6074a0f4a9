"""Structured log events on standard error. The only module that imports structlog.

Each event has a dotted name, a level, and a `message`: whole sentences that say what happened, what gate does now and
what to do. Standard output belongs to the server.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import structlog

from gate import redaction
from gate.text import printable, truncate

ERASE_LINE = "\r\x1b[K"
"""Return to the beginning of the line and erase it (ECMA-48: CR, EL)."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

OWN_FIELDS = frozenset({"timestamp", "level", "event", "verdict", "kind"})
"""Fields whose values are words of gate, by which people search and alert."""

_schema: ContextVar[str] = ContextVar("schema", default="")
"""The schema that this thread migrates, one of GATE_SCHEMAS; "" = none."""

_on_terminal = False
_progress_shown = False
_section = ""


def configure(style: str = "auto", level: str = "info") -> None:
    """Configure the format, `auto`, `json` or `console` (auto: console on a terminal), and the lowest level shown."""
    global _on_terminal  # noqa: PLW0603 - the configuration of structlog is global, too
    logging.lastResort = None  # warnings that libraries log are not events of gate
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    _on_terminal = console and sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_section,
            _redact,
            _console_line if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,
    )


def write_to_stderr(line: bytes) -> None:
    """Write with one system call, so that lines of processes do not mix; ignore a broken standard error.

    Blocks while standard error is a pipe that is full, as any program does. `gate serve` uses a thread instead.
    """
    with suppress(OSError):
        os.write(2, line)


_write: Callable[[bytes], None] = write_to_stderr


def write_with(writer: Callable[[bytes], None]) -> None:
    """Hand each encoded line to this function from now on, instead of `write_to_stderr`."""
    global _write  # noqa: PLW0603 - there is one log
    _write = writer


def is_on_terminal() -> bool:
    """Whether people read the log while it is written: a progress bar makes sense only then."""
    return _on_terminal


@contextmanager
def about_schema(name: str) -> Iterator[None]:
    """Name this schema in all events of the block: it is one of many, so what is `info` otherwise is `debug`."""
    token = _schema.set(name)
    try:
        yield
    finally:
        _schema.reset(token)


@contextmanager
def about(section: str) -> Iterator[None]:
    """Name the history that each event in this block is about, also one of another thread; "" = there is only one."""
    global _section  # noqa: PLW0603 - gate works on one history at a time
    before, _section = _section, section
    try:
        yield
    finally:
        _section = before


def with_section(text: str) -> str:
    """Return the text with the history that it is about in front of it."""
    return f"[{_section}] {text}" if _section else text


def progress(text: str) -> None:
    """Show a text on a terminal, in a line that the next line replaces."""
    global _progress_shown  # noqa: PLW0603 - there is one terminal
    if _on_terminal and not _schema.get():
        _progress_shown = True
        with suppress(OSError):
            os.write(2, f"{ERASE_LINE}{printable(with_section(text))}".encode())


def emit(level: str, event: str, message: str, **fields: object) -> None:
    """Log one event at a level of `LEVELS`; fields that are None are left out."""
    if schema := _schema.get():
        level = "debug" if level == "info" else level
        message, fields = f"Schema {truncate(schema)}: {message}", {"schema": schema, **fields}
    present = {key: value for key, value in fields.items() if value is not None}
    getattr(structlog.get_logger(), level)(event, message=message, **present)


class _Stderr:
    """Encodes each line for the writer of the log."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        global _progress_shown
        line, _progress_shown = (ERASE_LINE if _progress_shown else "") + line, False
        _write(line.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = error = critical = msg


def _add_section(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the history in a field, for programs, and in the message, for people."""
    return {**event, "section": _section, "message": with_section(event["message"])} if _section else event


def _redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact what is not gate's own vocabulary, and put those fields first that people read first."""
    fields = {**{key: event[key] for key in ("timestamp", "level", "event", "message")}, **event}
    return {key: value if key in OWN_FIELDS else redaction.hide_in_value(value) for key, value in fields.items()}


def _console_line(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """Render an event for people: without its fields, which the message repeats."""
    moment = str(event["timestamp"])[11:19]
    return printable(f"{moment} {event['level'].upper():<8} {event['event']}: {event['message']}")
