"""The costs of a waiter: memory, CPU time and connections."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple
from unittest.mock import patch

from benchmarks.floors import Floors
from benchmarks.section import Section, Target
from benchmarks.workspace import Database, Workspace
from gate.waiting import backoff

TEN_MINUTES = 600.0
WINDOW = 2.0
WARM_UP_CHECKS = 5
"""Checks after which a waiter imports no more modules."""


def measure(workspace: Workspace, floors: Floors) -> Section:
    rounds, seconds = (1, 4.0) if workspace.quick else (3, 15.0)
    waiters = [_one_waiter(workspace, seconds) for _ in range(rounds)]
    peak, cpu = median(each.peak for each in waiters), median(each.cpu for each in waiters)
    counts = [len(schedule(TEN_MINUTES)) for _ in range(200)]
    concurrent = _measure_concurrent(workspace)
    return Section(
        "Waiting",
        "CPU time of one check: the CPU time of a `gate wait` with `GATE_POLL_MAX=0.5` in"
        f" {seconds:.0f} s after its warm-up, divided by the number of its checks; median of {rounds}. Checks in ten"
        " minutes: `gate.waiting.backoff.poll` with a simulated clock, 200 runs. Concurrent waiters:"
        f" {concurrent.size} processes, forked from one process after its imports, so they start within a second or"
        " two. Their connections are counted in the log of the database, in each window of two seconds that starts with"
        f" a connection, from {concurrent.begin:.0f} to {concurrent.end:.0f} s after the first one.",
        ["quantity", "value"],
        [
            ["peak memory of a waiter", f"{peak:.1f} MB"],
            ["CPU time of one check", f"{1000 * cpu:.1f} ms"],
            ["checks in ten minutes without a migrator, median / maximum", f"{median(counts):.0f} / {max(counts)}"],
            [
                f"connections of {concurrent.size} waiters in two seconds, mean / maximum",
                f"{concurrent.mean:.1f} / {concurrent.peak}",
            ],
            ["checks per waiter in the whole time, measured / simulated", concurrent.cross_check()],
        ],
        [
            Target(
                "peak memory of a waiter",
                peak,
                45,
                "MB",
                reason="Python and psycopg need most of it.",
                remedy="fewer modules of gate in a waiter, or a smaller database driver.",
                floor=f"import of psycopg: {floors.memory / peak:.0%}",
            ),
            Target(
                "CPU of a waiter's check",
                1000 * cpu,
                20,
                "ms",
                reason="each check opens a connection, so that a waiter occupies none while it pauses.",
                remedy="longer pauses (`GATE_POLL_MAX`).",
            ),
            Target(
                "checks in ten minutes without a migrator (most of 200)",
                max(counts),
                80,
                "",
                reason="the pauses are random, so that many waiters do not check together.",
                remedy="a longer `GATE_POLL_MAX`.",
                floor="the schedule: pauses of 7 to 10 s",
            ),
            Target(
                f"{concurrent.size} waiters: busiest two seconds / mean",
                concurrent.peak / concurrent.mean,
                3,
                reason="waiters that start together spread only by their random pauses.",
                remedy="replicas that start one after the other.",
            ),
        ],
    )


class Waiter(NamedTuple):
    """Peak memory in MB, and CPU seconds of one check."""

    peak: float
    cpu: float


def _one_waiter(workspace: Workspace, seconds: float) -> Waiter:
    database = workspace.database(*workspace.small.before)
    environment = workspace.environment(database, GATE_POLL_MAX="0.5")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        workspace.gate("wait"), cwd=workspace.small.folder, env=environment, stdout=quiet, stderr=quiet
    ) as waiter:
        while len(database.connections()) < WARM_UP_CHECKS:
            assert waiter.poll() is None
            time.sleep(0.1)
        cpu_before, checks_before = _cpu(waiter.pid), len(database.connections())
        time.sleep(seconds)
        cpu = (_cpu(waiter.pid) - cpu_before) / (len(database.connections()) - checks_before)
        peak = _peak(waiter.pid)
        waiter.terminate()
    return Waiter(peak, cpu)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of the process with all its threads (proc(5): fields 14 and 15 of `stat`)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> float:
    """Return the peak memory in MB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@dataclass
class _Clock:
    """A simulated clock, which `sleep` advances."""

    now: float = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def schedule(seconds: float) -> list[float]:
    """Simulate a waiter whose check never succeeds, and return the times of its checks in seconds."""
    clock, checks = _Clock(), list[float]()

    def check() -> bool:
        checks.append(clock.now)
        return False

    with patch("time.monotonic", clock.read), patch("time.sleep", clock.sleep):
        backoff.poll(check, done=bool, max_pause=lambda: 10.0, before_pause=lambda *_: None, timeout=seconds)
    return checks[:-1]


@dataclass(frozen=True)
class ConcurrentWaiters:
    """The connections of concurrent waiters, in seconds after the first."""

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
    def peak(self) -> int:
        counted = self.counted
        return max(bisect_left(counted, moment + WINDOW) - n for n, moment in enumerate(counted))

    def cross_check(self) -> str:
        measured = bisect_left(self.moments, self.end) / self.size
        simulated = mean(len(schedule(self.end)) for _ in range(50))
        return f"{measured:.1f} / {simulated:.1f}"


def _measure_concurrent(workspace: Workspace) -> ConcurrentWaiters:
    size, begin, end = (40, 20.0, 32.0) if workspace.quick else (200, 60.0, 120.0)
    database = workspace.database(*workspace.small.before)
    program = [sys.executable, str(Path(__file__).with_name("waiters.py")), str(size)]
    environment = workspace.environment(database, GATE_TIMEOUT=f"{end + 5:.0f}")
    quiet = subprocess.DEVNULL
    subprocess.run(program, cwd=workspace.small.folder, env=environment, stdout=quiet, stderr=quiet, check=True)
    return ConcurrentWaiters(size, begin, end, _connection_times(database))


def _connection_times(database: Database) -> list[float]:
    moments = sorted(database.connections())
    return [moment - moments[0] for moment in moments]
