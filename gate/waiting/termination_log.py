"""The termination message, which Kubernetes shows as the reason when a container ends.

Kubernetes reads it from the container's `terminationMessagePath` and keeps the first 4096 bytes.
"""

from __future__ import annotations

import os
from contextlib import suppress

from gate import log, redaction
from gate.files import open_or_create_regular_file
from gate.text import printable

DEFAULT_PATH = "/dev/termination-log"
MAX_BYTES = 4096
"""Bytes that Kubernetes keeps of the message."""


class TerminationLog:
    """Holds the latest verdict, and is emptied on success, so that it never hides the server's own message.

    `path`: GATE_TERMINATION_LOG; None = Kubernetes' default path if it exists, else nothing is written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path or (DEFAULT_PATH if os.path.exists(DEFAULT_PATH) else None)
        self._written: str | None = None

    def write(self, text: str) -> None:
        """Replace the content by the text. What is no regular file, or cannot be written, is left alone."""
        text = log.with_section(text) if text else ""
        if self._path is None or text == self._written:
            return
        self._written = text
        content = (
            printable(redaction.hide_in_message(text))
            .encode("utf-8", "backslashreplace")[:MAX_BYTES]
            .decode(errors="ignore")
            .encode()
        )
        with suppress(OSError):
            descriptor = open_or_create_regular_file(self._path, os.O_WRONLY)
            try:
                os.write(descriptor, content)
                os.ftruncate(descriptor, len(content))  # last, so that a reader never finds the file empty
            finally:
                os.close(descriptor)

    def clear(self) -> None:
        """Empty the file, if it exists."""
        if self._path is not None and (self._written or os.path.exists(self._path)):
            self.write("")
