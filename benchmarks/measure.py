"""Whole processes, alternating A B A B; medians, and ratios of what ran in the same round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

STOPWATCH = [sys.executable, "-S", "-E", str(Path(__file__).with_name("stopwatch.py"))]


@dataclass(frozen=True)
class Command:
    """One program with its surroundings; `expected` = its exit code."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    expected: int = 0


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, seconds of CPU, peak memory in MB."""

    wall: float
    cpu: float
    memory: float


Costs = Mapping[str, Sequence[Cost]]
Figure = Callable[[Cost], float]


def wall(cost: Cost) -> float:
    return cost.wall


def cpu(cost: Cost) -> float:
    return cost.cpu


def memory(cost: Cost) -> float:
    return cost.memory


class Stopwatch:
    """The small process that starts and times all others."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(STOPWATCH, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, command: Command) -> Cost:
        assert self._process.stdin
        assert self._process.stdout
        job = [list(command.words), dict(command.environment), str(command.folder)]
        print(json.dumps(job), file=self._process.stdin, flush=True)
        found = json.loads(self._process.stdout.readline())
        if found.pop("code") != command.expected:
            raise RuntimeError(f"{' '.join(command.words)} failed:\n{(command.folder / 'output').read_text()}")
        return Cost(**found)

    def alternate(self, commands: Mapping[str, Command], rounds: int, once: Collection[str] = ()) -> Costs:
        """Run each once to warm up, then all in turn, so that whatever else the machine does hits all alike.

        What is in `once` takes too long for that: it runs in the first round only, and its caches are the caller's.
        """
        for name in commands.keys() - set(once):
            self.run(commands[name])
        found: dict[str, list[Cost]] = {name: [] for name in commands}
        for number in range(rounds):
            for name in [name for name in commands if number == 0 or name not in once]:
                found[name].append(self.run(commands[name]))
        return found

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def middle(costs: Sequence[Cost], figure: Figure) -> float:
    return median(map(figure, costs))


def ratio(costs: Costs, name: str, to: str, figure: Figure = wall) -> float:
    """The median of the rounds' ratios: what slows a whole round down cancels out."""
    return median(figure(one) / figure(other) for one, other in zip(costs[name], costs[to], strict=False))
