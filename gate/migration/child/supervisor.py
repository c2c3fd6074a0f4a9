"""What stands between gate and an upgrade: `python -m gate.supervisor LIFE REPORTS COMMAND...`.

Whatever the upgrade starts (a shell, `psql`, a forked worker) ends with it, and all of it ends with gate, however gate
dies: LIFE is the reading end of a pipe whose other end nobody but gate holds. How the command ended goes to REPORTS.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import NoReturn

from gate.process.descendants import adopt_orphans, die_with, kill_descendants

FOR_THE_COMMAND = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals to the process group: the command decides what they mean, and its end is this process's end."""


def main() -> NoReturn:
    """Run the command to its end, and leave nothing of it behind."""
    life, reports, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    adopt_orphans()
    for number in FOR_THE_COMMAND:
        signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN: an exec puts it back to the default
    try:
        child = subprocess.Popen(
            command,
            close_fds=False,  # REPORTS, and what holds the lock, are the command's as well
            preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - there is no other thread yet
        )
    except OSError as error:
        _tell(reports, what="unstartable", why=error.strerror)
        os._exit(1)
    threading.Thread(target=_end_with_gate, args=(life,), daemon=True).start()
    code = child.wait()
    _tell(reports, what="ended", code=code, left=len(kill_descendants()))
    os._exit(0)


def _end_with_gate(life: int) -> None:
    os.read(life, 1)
    kill_descendants()
    os._exit(1)


def _tell(reports: int, **fields: object) -> None:
    with suppress(OSError):  # a gate that is gone needs to know nothing
        os.write(reports, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    main()
