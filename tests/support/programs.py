"""Starts `gate` and other programs as processes, and reads their output while they run."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.embedded_postgres import environment_without_settings

GATE_COMMAND = [sys.executable, "-P", "-m", "gate"]
KILL_ROUNDS = int(os.environ.get("GATE_TEST_ROUNDS", "2"))
"""Rounds for each victim of the tests that kill at random moments."""


def kill_seed() -> str:
    """Return the seed of these tests: GATE_TEST_SEED, else a random one, which child processes inherit."""
    return os.environ.setdefault("GATE_TEST_SEED", secrets.token_hex(4))


TIMEOUT = 60.0
"""Seconds that a test waits for an event before it fails."""


@dataclass(frozen=True)
class ProgramResult:
    """The exit code and the output of a program."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log events, in order."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        """Return the first event with this name."""
        matches = [event for event in self.events if event["event"] == name]
        assert matches, f"no {name} in:\n{self.err}"
        return matches[0]

    def names(self) -> list[str]:
        """Return the names of the log events, in order."""
        return [event["event"] for event in self.events]

    @property
    def failure(self) -> str:
        """The message of `gate.failed`."""
        message: str = self.event("gate.failed")["message"]
        return message


@dataclass
class RunningProgram:
    """A started program, with the output that it has printed so far."""

    process: subprocess.Popen[str]
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            assert stream
            reader = threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            reader.start()
            self._readers.append(reader)

    def await_event(self, name: str, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """Wait for an event with this name for which `where` is true, and return it."""
        matches: list[dict[str, Any]] = []

        def has_logged() -> bool:
            logged = [json.loads(line) for line in self.err if line.startswith("{")]
            matches[:] = [event for event in logged if event["event"] == name and where(event)]
            return bool(matches)

        await_true(has_logged, lambda: f"{name} was not logged; it logged:\n{''.join(self.err)}", self.process)
        return matches[0]

    def await_output(self, text: str) -> None:
        """Wait until the program has printed the text on standard output."""
        await_true(lambda: any(text in line for line in self.out), lambda: f"no {text!r} in {self.out}, {self.err}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, not to its children."""
        self.process.send_signal(number)

    def wait(self, timeout: float = TIMEOUT) -> ProgramResult:
        """Wait until the program exits."""
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return ProgramResult(code, "".join(self.out), "".join(self.err))

    def end(self) -> None:
        """Kill the program if it is still running."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> RunningProgram:
    """Start a program without the environment variables that gate, Alembic or libpq would read."""
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env={**environment_without_settings(), "PYTHONUNBUFFERED": "", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return RunningProgram(process)


def await_true(
    condition: Callable[[], bool],
    explain: Callable[[], str],
    process: subprocess.Popen[str] | None = None,
    timeout: float = TIMEOUT,
    interval: float = 0.02,
) -> None:
    """Wait until `condition` is true. Fail after `timeout` seconds, or when `process` exits while it is false.

    `interval`: seconds between two calls of `condition`.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if process is not None and process.poll() is not None:
            time.sleep(0.2)  # the reader threads may not have read the last output yet
            assert condition(), f"exited with {process.returncode}: {explain()}"
            return
        assert time.monotonic() < deadline, explain()
        time.sleep(interval)


def children(pid: int) -> list[int]:
    """Return the ids of the child processes of `pid` that still exist."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    """Return the ids of all descendants of `pid`, parents first."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def kill_at_random(victims: Sequence[RunningProgram], dice: random.Random) -> None:
    """Send SIGKILL to gate, its supervisor, its upgrade process or several of them, in random order."""
    for victim in victims:
        below = descendants(victim.pid)
        parent = [victim.pid]
        for pid in dice.choice([parent, below, below[:1], below[1:], parent + below, below + parent]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
