"""A log that takes no lines never blocks the process, and costs bounded memory."""

from __future__ import annotations

import subprocess
import sys

from gate.process.log_thread import MAX_QUEUED_LINES

FLOOD = """
import fcntl, json, os
from gate import log
from gate.process.log_thread import LogThread
reading, writing = os.pipe()
fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
os.dup2(writing, 2)
log.configure("json")
with LogThread():
    for number in range(1000):
        log.emit("info", "gate.tested", "x" * 500, number=number)
    os.write(1, b"went on ")
os.write(1, b"and ended ")
os.set_blocking(reading, False)
"""

READ = """
import select
text = b""
while b"999}" not in text and select.select([reading], [], [], 20)[0]:
    text += os.read(reading, 65536)
numbers = [json.loads(line)["number"] for line in text.splitlines()]
print(numbers == sorted(numbers), len(numbers), numbers[-1])
"""

LAST = """
from gate import log
from gate.process.log_thread import LogThread
log.configure("json")
with LogThread():
    for number in range(50):
        log.emit("info", "gate.tested", "within", number=number)
log.emit("info", "gate.tested", "after")
"""


def ran(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60, check=True)


def test_a_full_pipe_blocks_neither_an_event_nor_the_exit() -> None:
    assert ran(FLOOD).stdout == "went on and ended "


def test_while_nothing_is_read_the_newest_lines_are_kept() -> None:
    ordered, count, last = ran(FLOOD + READ).stdout.removeprefix("went on and ended ").split()
    assert (ordered, last) == ("True", "999")
    assert int(count) <= MAX_QUEUED_LINES + 20  # and what the pipe held


def test_at_the_end_all_lines_are_written_in_order() -> None:
    lines = ran(LAST).stderr.splitlines()
    assert ['"within"' in line for line in lines] == [True] * 50 + [False]
