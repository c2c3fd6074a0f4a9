"""A progress bar on a terminal, which log lines do not disturb. The only module that imports tqdm."""

from __future__ import annotations

import sys
import threading
from typing import Any

from gate import log
from gate.text import short_name


class ProgressBar:
    """Shows how many schemas are done, if standard error is a terminal."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        if log.is_on_terminal():
            from tqdm import tqdm  # noqa: PLC0415 - where there is no terminal, nothing needs it

            tqdm.monitor_interval = 0  # no thread that redraws
            tqdm.set_lock(threading.RLock())  # its default is shared by processes, which this bar is not
            self._bar = tqdm(total=total, unit=" schemas", file=sys.stderr, leave=False, dynamic_ncols=True)
            log.write_with(self._write)

    def show(self, done: int, running: str) -> None:
        """Show the number of schemas that are done, and one that is being migrated."""
        if self._bar is not None:
            self._bar.set_postfix_str(short_name(running), refresh=False)
            self._bar.update(done - self._bar.n)
            self._bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            log.write_with(log.write_to_stderr)
            self._bar.close()

    def _write(self, line: bytes) -> None:
        with self._bar.external_write_mode(file=sys.stderr):
            log.write_to_stderr(line)
