"""Runs and times programs: reads one command per line as JSON, and writes one result per line.

It is a separate process with few imports, because the peak memory of a child starts with that of its parent.
"""

import json
import os
import sys
import time


def run(command: list[str], environment: dict[str, str], folder: str) -> dict[str, float]:
    """Run one program with its output in `folder`/output; return its exit code, seconds (wall, cpu) and MB (memory)."""
    os.chdir(folder)
    stdin = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    output = [(os.POSIX_SPAWN_OPEN, n, "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for n in (1, 2)]
    started = time.monotonic()
    pid = os.posix_spawn(command[0], command, environment, file_actions=[*stdin, *output])
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
