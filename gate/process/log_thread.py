"""Log lines in a thread of their own: for a process that must go on while nobody reads its log."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, Full, Queue

from gate import log

MAX_QUEUED_LINES = 100
"""Lines that are kept while standard error takes none; further ones replace the oldest."""

DRAIN_TIMEOUT = 1.0
"""Seconds that the exit waits for standard error to take the lines that are left."""


class LogThread:
    """Within this context, `log.emit` never blocks.

    A write to a full pipe blocks. `O_NONBLOCK` would avoid this, but every process that shares standard error would
    have it too (fcntl(2)), and lines would be cut where the pipe is full.
    """

    def __init__(self) -> None:
        self._lines: Queue[bytes | None] = Queue(MAX_QUEUED_LINES)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        """Start the thread; if the machine gives none, lines are written as before."""
        with suppress(RuntimeError):
            self._thread.start()
            log.write_with(self._put)

    def __exit__(self, *_: object) -> None:
        """Write what is left, within `DRAIN_TIMEOUT`; where that fails, later lines are not written either."""
        if self._thread.ident is None:
            return
        self._put(None)
        self._thread.join(DRAIN_TIMEOUT)
        if not self._thread.is_alive():
            log.write_with(log.write_to_stderr)

    def _put(self, line: bytes | None) -> None:
        while True:
            with suppress(Full):
                return self._lines.put_nowait(line)
            with suppress(Empty):  # the thread may have taken one meanwhile
                self._lines.get_nowait()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            log.write_to_stderr(line)
