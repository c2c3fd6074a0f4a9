"""Python's own cache of a compiled script: while that is valid, Python has read this very source before."""

from __future__ import annotations

import os
from importlib.util import MAGIC_NUMBER, cache_from_source
from struct import pack

CHECKED_BY_TIME = MAGIC_NUMBER + bytes(4)
"""How a cache begins that holds the time and the size of its source (PEP 552), as Python writes it on its own."""

HEADER = 16
"""Bytes: the magic number, flags, time and size."""


def vouches_for(path: str) -> bool:
    """Whether a valid cache of this source shows that Python can read all of it; judged as an import judges it."""
    try:
        source = os.stat(path)
        descriptor = os.open(cache_from_source(path), os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, NotImplementedError):  # nothing is cached, or this Python caches nothing
        return False
    try:
        header = os.read(descriptor, HEADER)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return header == CHECKED_BY_TIME + pack("<II", int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
