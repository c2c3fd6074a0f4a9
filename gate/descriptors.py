"""Descriptors that a child process of gate shares with the code of an application, which may close or replace them."""

from __future__ import annotations

import os


class InheritedDescriptor:
    """A descriptor for writing that this process has inherited from its parent.

    `number`: of the descriptor in the parent; `duplicate`: of its duplicate in this process, by default the same.
    """

    def __init__(self, number: int, duplicate: int | None = None) -> None:
        self._number, self._parent = number, os.getppid()
        self._descriptor = number if duplicate is None else duplicate
        self._identity = identity(self._descriptor)

    def get(self) -> int:
        """Return the descriptor, opened anew through the parent's if it is closed or another file has its number.

        Raises `OSError` if that fails, because the parent has ended, for example.
        """
        if self._identity is None or identity(self._descriptor) != self._identity:
            self._descriptor = os.open(f"/proc/{self._parent}/fd/{self._number}", os.O_WRONLY | os.O_APPEND)
        return self._descriptor

    def write(self, data: bytes) -> None:
        """Write all data; raises `OSError`."""
        while data:
            data = data[os.write(self.get(), data) :]


def identity(descriptor: int) -> tuple[int, int] | None:
    """Return what distinguishes the file of this descriptor from others; None if the descriptor is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
