"""Runs a Python program that executes the image's own code in a child process, and reads its answer.

Standard output and standard error of the process belong to that code. It answers on a pipe of its own, with a line of
JSON, and its process group ends with the answer, so nothing that the code has started stays.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

EXIT_POLL = 0.05
"""Seconds between two checks whether the process has exited; a descendant can keep the pipe open."""

READ_SIZE = 65536
"""Bytes of the answer to read at once."""


class NoAnswer(Exception):
    """The process has not answered; the message says how it ended, as a clause about it."""


def run(
    command: Callable[[int], Sequence[str]], is_answer: Callable[[dict[str, Any]], bool], timeout: float
) -> dict[str, Any]:
    """Start a process and return the first JSON object of its pipe that is an answer.

    `command`: the program, given the descriptor to which it answers; `timeout`: in seconds. Raises `NoAnswer`, and the
    `OSError` of a program that cannot be started.
    """
    reading_end, writing_end = os.pipe()
    try:
        process = subprocess.Popen(
            command(writing_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing_end,),
            start_new_session=True,
        )
        try:
            return _read_answer(reading_end, process, is_answer, timeout)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    finally:
        os.close(reading_end)
        os.close(writing_end)


def _read_answer(
    descriptor: int, process: subprocess.Popen[bytes], is_answer: Callable[[dict[str, Any]], bool], timeout: float
) -> dict[str, Any]:
    """Read lines until one is an answer, the process has exited or the time is over.

    gate keeps the pipe's writing end open, so the pipe has no end of file: a program whose code has closed or replaced
    its own descriptor answers through gate's.
    """
    deadline, text = time.monotonic() + timeout, b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            exited = process.poll()
            if selector.select(0 if exited is not None else EXIT_POLL):
                *lines, text = (text + os.read(descriptor, READ_SIZE)).split(b"\n")
                for line in lines:
                    if (answer := _parse(line)) is not None and is_answer(answer):
                        return answer
            elif exited is not None:
                raise NoAnswer(f"{_end_of(exited)} before it answered")
    raise NoAnswer(f"did not finish within {timeout:g} s")


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object in a line; None for anything else, since code can write to every descriptor it inherits."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _end_of(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    cause = " (for lack of memory, perhaps)" if -exit_code == signal.SIGKILL else ""
    return f"was killed by signal {-exit_code}{cause}"
