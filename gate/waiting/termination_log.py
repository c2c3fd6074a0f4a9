"""The termination message: the last verdict where Kubernetes looks for it when a container ends."""

from __future__ import annotations

import os
from contextlib import suppress

from gate import redaction
from gate.text import printable

DEFAULT_PATH = "/dev/termination-log"
MAX_BYTES = 4096
"""Bytes that Kubernetes keeps of it."""


class TerminationLog:
    """Rewritten when the verdict changes, emptied before success, so that it never masks the server's own."""

    def __init__(self, path: str | None) -> None:
        self._path = path or (DEFAULT_PATH if os.path.exists(DEFAULT_PATH) else None)
        self._written: str | None = None

    def write(self, text: str) -> None:
        """Put the text there, whole; a file that cannot be written never stops the gate."""
        if self._path is None or text == self._written:
            return
        self._written = text
        content = (
            printable(redaction.hide(text))
            .encode("utf-8", "backslashreplace")[:MAX_BYTES]
            .decode(errors="ignore")
            .encode()
        )
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)

    def clear(self) -> None:
        """Leave nothing for a container that goes on or ended well."""
        if self._path is not None and (self._written or os.path.exists(self._path)):
            self.write("")
