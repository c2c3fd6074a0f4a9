"""What a waiter costs itself and the database."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from unittest.mock import patch

from benchmarks.chapter import Chapter, Target, milliseconds
from benchmarks.measure import Cost
from benchmarks.stage import Database, Stage
from gate import wait
from gate.errors import TimedOut

TEN_MINUTES = 600.0
WINDOW = 2.0
TIMED_OUT = 124


def measure(stage: Stage) -> Chapter:
    costs, looks = _one_waiter(stage)
    crowd = _crowd(stage)
    return Chapter(
        "Waiting",
        "CPU of a look: two `gate wait` that look twice a second (`GATE_POLL_MAX=0.5`) for a short and a longer"
        " time; what the longer one used more, divided by the looks that it made more. Looks in ten minutes:"
        " `gate.wait.until` itself under a clock that jumps where it would sleep, 200 times; the largest count is"
        f" taken. The crowd: {crowd.size} real waiters, forked from one process that has everything imported, so that"
        " they begin within a second or two; connections as the server logged them, in every window of two seconds"
        f" that begins with one, from {crowd.begin:.0f} to {crowd.end:.0f} s after the first.",
        ["what", "value"],
        [
            ["peak memory of a waiter", f"{costs.memory:.1f} MB"],
            ["CPU of one look", milliseconds(costs.cpu)],
            ["looks without a migrator in ten minutes, median / most", "{:.0f} / {:.0f}".format(*looks)],
            [f"connections of {crowd.size} waiters in two seconds, mean / most", f"{crowd.mean:.1f} / {crowd.most}"],
            ["looks of one of them in the whole time, real / by the schedule", crowd.cross_check()],
        ],
        [
            Target("peak memory of a waiter", costs.memory, 45, "MB"),
            Target("CPU of a waiter's look", 1000 * costs.cpu, 20, "ms"),
            Target("looks in ten minutes without a migrator (most of 200)", looks[1], 80, ""),
            Target(f"{crowd.size} waiters: fullest two seconds / mean", crowd.most / crowd.mean, 3),
        ],
    )


def _one_waiter(stage: Stage) -> tuple[Cost, tuple[float, float]]:
    _, short, long = (_waited(stage, seconds) for seconds in (1, 2, 6 if stage.quick else 22))
    cost = Cost(long[0].wall, (long[0].cpu - short[0].cpu) / (long[1] - short[1]), long[0].memory)
    counts = [len(schedule(TEN_MINUTES)) for _ in range(200)]
    return cost, (median(counts), max(counts))


def _waited(stage: Stage, seconds: int) -> tuple[Cost, int]:
    database = stage.database(*stage.small.before)
    environment = stage.environment(database, GATE_POLL_MAX="0.5", GATE_TIMEOUT=str(seconds))
    cost = stage.stopwatch.run(stage.command(stage.small, environment, *stage.gate("wait"), expected=TIMED_OUT))
    return cost, len(database.connections())


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
        wait.until(look, cap=lambda: 10.0, limit=seconds, before_pause=lambda _: None)
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
