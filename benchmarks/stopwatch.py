"""Run programs and time them: one command a line comes in, as JSON, and one cost a line goes out.

It is a process of its own and imports next to nothing: a program's peak memory begins with that of whoever started it.
"""

import json
import os
import sys
import time


def run(command: list[str], environment: dict[str, str], folder: str) -> dict[str, float]:
    """Run one program to its end with its output in `folder`/output."""
    os.chdir(folder)
    quiet = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    said = [(os.POSIX_SPAWN_OPEN, n, "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for n in (1, 2)]
    began = time.monotonic()
    pid = os.posix_spawn(command[0], command, environment, file_actions=[*quiet, *said])
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "wall": wall, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
