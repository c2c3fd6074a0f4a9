"""Reports errors that gate does not expect while it answers requests: each kind once, and nothing of the request."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable

import gate
from gate.readiness.answer import Application, Receive, Scope, Send

BUG_REPORT_INTERVAL = 60.0
"""Seconds between two reports, so that requests cannot fill a log with whatever they may provoke."""

_FOLDER = os.path.dirname(gate.__file__)


class BugReports:
    """Reports each kind of error once. A kind is the type of the error and its place in gate's code. Thread-safe.

    `write`: receives the sentences; `interval`: seconds between two reports.
    """

    def __init__(self, write: Callable[[str], object], interval: float = BUG_REPORT_INTERVAL) -> None:
        self._write, self._interval = write, interval
        self._lock = threading.Lock()
        self._reported: set[str] = set()
        self._next = float("-inf")

    def report(self, error: Exception) -> None:
        """Report an error, without its text, unless its kind was reported or another one was a moment ago."""
        kind, now = f"{type(error).__name__} in {_place(error)}", time.monotonic()
        with self._lock:
            if kind in self._reported or now < self._next:
                return
            self._reported.add(kind)
            self._next = now + self._interval
        self._write(
            f"gate {gate.__version__} does not expect this error: {kind}. gate reports it once, and keeps answering "
            "requests. Please report it as a bug in gate, unless this application caused it."
        )

    def watch(self, application: Application) -> Application:
        """Return this ASGI application, whose errors are reported. The server answers with 500."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await application(scope, receive, send)
            except Exception as error:
                self.report(error)
                raise

        return watched


def _place(error: Exception) -> str:
    """The file and line of the innermost frame in gate's code."""
    place = "gate"
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if path.startswith(_FOLDER + os.sep):
            place = f"gate{path.removeprefix(_FOLDER)}, line {line}"
    return place
