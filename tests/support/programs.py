"""The real `gate` as a process: run to its end, or watched while it runs."""

from __future__ import annotations

import json
import os
import random
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

GATE = [sys.executable, "-P", "-m", "gate"]
ROUNDS = int(os.environ.get("GATE_TEST_ROUNDS", "12"))
"""How often the harnesses kill."""

DEADLINE = 60.0
"""Seconds after which something that a test waits for will never happen."""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and everything that it printed."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The structured log, line by line."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        """The first event of that name."""
        found = [event for event in self.events if event["event"] == name]
        assert found, f"no {name} in:\n{self.err}"
        return found[0]

    def names(self) -> list[str]:
        """The events' names in their order."""
        return [event["event"] for event in self.events]

    @property
    def failure(self) -> str:
        """The sentence with which gate ended."""
        message: str = self.event("gate.failed")["message"]
        return message


@dataclass
class Running:
    """A program that runs, with its output as it comes."""

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
        """Wait until an event of that name, and like that, has been logged."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            logged = [json.loads(line) for line in self.err if line.startswith("{")]
            found[:] = [event for event in logged if event["event"] == name and where(event)]
            return bool(found)

        await_true(seen, lambda: f"{name} was not logged; it logged:\n{''.join(self.err)}", self.process)
        return found[0]

    def await_output(self, text: str) -> None:
        """Wait until the program has printed the text on standard output."""
        await_true(lambda: any(text in line for line in self.out), lambda: f"no {text!r} in {self.out}, {self.err}")

    @property
    def pid(self) -> int:
        """Its process id, as this process sees it."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this program alone."""
        self.process.send_signal(number)

    def wait(self, within: float = DEADLINE) -> Ended:
        """Wait until it ends."""
        code = self.process.wait(within)
        for reader in self._readers:
            reader.join(within)
        return Ended(code, "".join(self.out), "".join(self.err))

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Running:
    """Start any program with nothing of this environment that gate would listen to."""
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env={**environment_without_settings(), "PYTHONUNBUFFERED": "", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Running(process)


def await_true(
    happened: Callable[[], bool], otherwise: Callable[[], str], process: subprocess.Popen[str] | None = None
) -> None:
    """Watch for something with a deadline; a process that has ended is given one last look."""
    deadline = time.monotonic() + DEADLINE
    while not happened():
        over = process is not None and process.poll() is not None
        if over:
            time.sleep(0.2)  # what it printed last is still on its way through the pipe
            assert happened(), f"it ended with {process.returncode if process else None}: {otherwise()}"
            return
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that this one has started and that are still there."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def family(pid: int) -> list[int]:
    """The processes that this one and those below it have started, parents first."""
    return [each for child in children(pid) for each in (child, *family(child))]


def kill_at_random(victims: Sequence[Running], dice: random.Random) -> None:
    """SIGKILL gates, their supervisors, their upgrades, or several of them, in any order."""
    for victim in victims:
        below = family(victim.pid)
        parent = [victim.pid]
        for pid in dice.choice([parent, below, below[:1], below[1:], parent + below, below + parent]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
