"""Shows gate since when a migration has waited for an answer of the server, in memory that both processes share.

The server cannot show that: where an answer was lost on its way, it shows the same as for a migration that computes.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TIME = struct.Struct("d")
"""The content: when the statement was sent, in seconds of the monotonic clock, 0 = none waits for its answer."""

CALLS = ("do_execute", "do_executemany", "do_execute_no_params", "do_commit", "do_rollback")
"""The methods of SQLAlchemy's dialects that wait for an answer."""

WATCHED = "_gate_watched"
"""The attribute that marks a dialect whose methods are wrapped."""


class StatementClock:
    """The shared memory. `descriptors`: that of its file; none where the system has no such files, or it is closed."""

    def __init__(self, *descriptors: int) -> None:
        self.descriptors = descriptors
        self._memory: mmap.mmap | None = None
        for descriptor in descriptors:
            with suppress(OSError, ValueError):  # without the memory gate notices less
                self._memory = mmap.mmap(descriptor, TIME.size)

    @classmethod
    def create(cls) -> StatementClock:
        """Create a clock, whose descriptor another process can inherit."""
        with suppress(OSError, AttributeError):
            descriptor = os.memfd_create("gate-statement-clock")
            os.truncate(descriptor, TIME.size)
            return cls(descriptor)
        return cls()

    def close_descriptor(self) -> None:
        """Close the descriptor, when the other process has inherited it; the memory stays."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()

    @property
    def sent_at(self) -> float:
        """When the statement that waits for its answer was sent, in seconds of the monotonic clock; 0 = none does."""
        return float(TIME.unpack_from(self._memory)[0]) if self._memory else 0.0

    def watch(self, dialect: Any) -> None:
        """Show the statements of all connections with this dialect of SQLAlchemy."""
        if self._memory and not getattr(dialect, WATCHED, False):
            setattr(dialect, WATCHED, True)
            for name in CALLS:
                setattr(dialect, name, self._timed(getattr(dialect, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self._show(time.monotonic())
            try:
                return call(*arguments, **options)
            finally:
                self._show(0.0)

        return timed

    def _show(self, sent_at: float) -> None:
        assert self._memory
        TIME.pack_into(self._memory, 0, sent_at)
