"""What a waiter costs itself and the database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple
from unittest.mock import patch

from benchmarks.chapter import Chapter, Target
from benchmarks.stage import Database, Stage
from gate.errors import TimedOut
from gate.waiting import backoff

TEN_MINUTES = 600.0
WINDOW = 2.0
SETTLED = 5
"""Looks after which nothing is loaded any more."""


def measure(stage: Stage) -> Chapter:
    rounds, seconds = (1, 4.0) if stage.quick else (3, 15.0)
    waiters = [_one_waiter(stage, seconds) for _ in range(rounds)]
    peak, look = median(each.peak for each in waiters), median(each.look for each in waiters)
    counts = [len(schedule(TEN_MINUTES)) for _ in range(200)]
    crowd = _crowd(stage)
    return Chapter(
        "Waiting",
        "CPU of a look: what a `gate wait` that looks twice a second (`GATE_POLL_MAX=0.5`) uses in"
        f" {seconds:.0f} s, long after its start, divided by the looks that it made meanwhile; the median of {rounds}."
        " Looks in ten minutes: `gate.wait.until` itself under a clock that jumps where it would sleep, 200 times; the"
        f" largest count is taken. The crowd: {crowd.size} real waiters, forked from one process that has everything"
        " imported, so that they begin within a second or two; connections as the server logged them, in every window"
        f" of two seconds that begins with one, from {crowd.begin:.0f} to {crowd.end:.0f} s after the first.",
        ["what", "value"],
        [
            ["peak memory of a waiter", f"{peak:.1f} MB"],
            ["CPU of one look", f"{1000 * look:.1f} ms"],
            ["looks without a migrator in ten minutes, median / most", f"{median(counts):.0f} / {max(counts)}"],
            [f"connections of {crowd.size} waiters in two seconds, mean / most", f"{crowd.mean:.1f} / {crowd.most}"],
            ["looks of one of them in the whole time, real / by the schedule", crowd.cross_check()],
        ],
        [
            Target("peak memory of a waiter", peak, 45, "MB"),
            Target("CPU of a waiter's check", 1000 * look, 20, "ms"),
            Target("checks in ten minutes without a migrator (most of 200)", max(counts), 80, ""),
            Target(f"{crowd.size} waiters: fullest two seconds / mean", crowd.most / crowd.mean, 3),
        ],
    )


class Waiter(NamedTuple):
    """Peak memory in MB, and seconds of CPU that a look takes."""

    peak: float
    look: float


def _one_waiter(stage: Stage, seconds: float) -> Waiter:
    database = stage.database(*stage.small.before)
    environment = stage.environment(database, GATE_POLL_MAX="0.5")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        stage.gate("wait"), cwd=stage.small.folder, env=environment, stdout=quiet, stderr=quiet
    ) as waiter:
        while len(database.connections()) < SETTLED:
            assert waiter.poll() is None
            time.sleep(0.1)
        used, looks = _cpu(waiter.pid), len(database.connections())
        time.sleep(seconds)
        look = (_cpu(waiter.pid) - used) / (len(database.connections()) - looks)
        peak = _peak(waiter.pid)
        waiter.terminate()
    return Waiter(peak, look)


def _cpu(pid: int) -> float:
    """Seconds that the process has used, with all its threads (proc(5): the 14th and 15th field of `stat`)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> float:
    """MB of memory at most."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@dataclass
class _Clock:
    """A clock that jumps instead of passing."""

    now: float = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def schedule(seconds: float) -> list[float]:
    """When a waiter that never passes looks."""
    clock, moments = _Clock(), list[float]()

    def look() -> bool:
        moments.append(clock.now)
        return False

    with patch("time.monotonic", clock.read), patch("time.sleep", clock.sleep), suppress(TimedOut):
        backoff.until(look, cap=lambda: 10.0, limit=seconds, before_pause=lambda _: None)
    return moments[:-1]


@dataclass(frozen=True)
class Crowd:
    """Many waiters' connections, in seconds since the first."""

    size: int
    begin: float
    end: float
    moments: list[float] = field(repr=False)

    @property
    def counted(self) -> list[float]:
        return [moment for moment in self.moments if self.begin <= moment < self.end]

    @property
    def mean(self) -> float:
        return len(self.counted) * WINDOW / (self.end - self.begin)

    @property
    def most(self) -> int:
        found = self.counted
        return max(bisect_left(found, moment + WINDOW) - n for n, moment in enumerate(found))

    def cross_check(self) -> str:
        real = bisect_left(self.moments, self.end) / self.size
        told = mean(len(schedule(self.end)) for _ in range(50))
        return f"{real:.1f} / {told:.1f}"


def _crowd(stage: Stage) -> Crowd:
    size, begin, end = (40, 20.0, 32.0) if stage.quick else (200, 60.0, 120.0)
    database = stage.database(*stage.small.before)
    program = [sys.executable, str(Path(__file__).with_name("waiters.py")), str(size)]
    environment = stage.environment(database, GATE_TIMEOUT=f"{end + 5:.0f}")
    quiet = subprocess.DEVNULL
    subprocess.run(program, cwd=stage.small.folder, env=environment, stdout=quiet, stderr=quiet, check=True)
    return Crowd(size, begin, end, _since_the_first(database))


def _since_the_first(database: Database) -> list[float]:
    moments = sorted(database.connections())
    return [moment - moments[0] for moment in moments]
