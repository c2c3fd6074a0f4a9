"""Times whole processes that alternate (A B A B), and computes medians, and ratios within each round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TIMER_COMMAND = [sys.executable, "-S", "-E", str(Path(__file__).with_name("process_timer.py"))]


@dataclass(frozen=True)
class Command:
    """A program with its environment and folder, and the expected exit code."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    expected: int = 0


@dataclass(frozen=True)
class Cost:
    """Elapsed seconds, CPU seconds and peak memory in MB of one process."""

    wall: float
    cpu: float
    memory: float


Costs = Mapping[str, Sequence[Cost]]
Metric = Callable[[Cost], float]


def wall(cost: Cost) -> float:
    return cost.wall


def cpu(cost: Cost) -> float:
    return cost.cpu


def memory(cost: Cost) -> float:
    return cost.memory


class ProcessTimer:
    """Starts and times programs through a small helper process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(TIMER_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, command: Command) -> Cost:
        assert self._process.stdin
        assert self._process.stdout
        request = [list(command.words), dict(command.environment), str(command.folder)]
        print(json.dumps(request), file=self._process.stdin, flush=True)
        result = json.loads(self._process.stdout.readline())
        if result.pop("code") != command.expected:
            raise RuntimeError(f"{' '.join(command.words)} failed:\n{(command.folder / 'output').read_text()}")
        return Cost(**result)

    def alternate(self, commands: Mapping[str, Command], rounds: int, once: Collection[str] = ()) -> Costs:
        """Run each command once to warm up, then all of them in each round, so that other load affects all alike.

        Commands in `once` take too long for that: they run only in the first round, and the caller warms their caches.
        """
        for name in commands.keys() - set(once):
            self.run(commands[name])
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for number in range(rounds):
            for name in [name for name in commands if number == 0 or name not in once]:
                costs[name].append(self.run(commands[name]))
        return costs

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def median_of(costs: Sequence[Cost], metric: Metric) -> float:
    return median(map(metric, costs))


def ratio(costs: Costs, name: str, reference: str, metric: Metric = wall) -> float:
    """Return the median of the ratios of all rounds; load that slows down a whole round cancels out."""
    return median(metric(one) / metric(other) for one, other in zip(costs[name], costs[reference], strict=False))
