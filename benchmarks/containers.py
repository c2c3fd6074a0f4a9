"""From `podman run` to the server's first answer, with and without gate."""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.section import Section, milliseconds
from demo.embedded_postgres import free_port
from tests.support.containers import HARDENED, Containers, missing_requirement, podman, podman_output

TITLE = "From `podman run` to the first answer"
SERVER = ("uvicorn", "shop.main:app", "--host", "0.0.0.0", "--port", "8000")
SHELL = ("sh", "-c", f"alembic upgrade heads && exec {' '.join(SERVER)}")
DATE = ("date", "+%s.%N")
"""A program that prints the time of its start: until then only the container runtime works."""

RUNTIME, WITHOUT, GATE, ALEMBIC = (
    "the container runtime alone",
    "the server alone",
    "**gate, then the server**",
    "a shell: `alembic upgrade heads && exec` the server",
)
COMMANDS: Mapping[str, Sequence[str]] = {
    RUNTIME: DATE,
    WITHOUT: SERVER,
    GATE: ("entrypoint.sh", *SERVER),
    ALEMBIC: SHELL,
}
CURRENT = "current"
PREVIOUS = "0002"
"""The revision before the last one of the example."""

WITHOUT_CACHES = """\
FROM {image}
USER 0
RUN find / -xdev -name __pycache__ -prune -exec rm -rf {{}} +
USER 10001
"""
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
CONNECT_TIMEOUT = 0.1
"""Seconds; a connection attempt before the container has its address would otherwise be repeated after a second."""

MAX_REASON = 500
"""Characters of the error because of which nothing was measured."""

ANSWER_TIMEOUT = 60.0
PAUSE = 0.005

Times = Mapping[str, Sequence[float]]
"""Seconds of each round, by command."""


@dataclass(frozen=True)
class State:
    """A state of the image, the machine and the database."""

    name: str
    image: str
    template: str
    drop_caches: bool = False
    migrates: bool = False

    @property
    def commands(self) -> Mapping[str, Sequence[str]]:
        """A server alone would start before its migration."""
        return {name: words for name, words in COMMANDS.items() if not (self.migrates and name == WITHOUT)}


def measure(*, quick: bool) -> Section:
    if reason := _missing():
        return Section(TITLE, f"Not measured: {reason}.", [], [])
    rounds = 1 if quick else 5
    try:
        times = _measure(rounds, quick=quick)
    except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:  # the other measurements go on
        return Section(TITLE, f"Not measured: {str(error)[:MAX_REASON]}", [], [])
    return Section(
        TITLE,
        "The image of the example (`Dockerfile`) under podman, the database in another container of its network. Time"
        " from the start of `podman run` to the first response 200 from `/health` at a published port, which a client"
        f" requests every {1000 * PAUSE:.0f} ms. The same image with another `--entrypoint` runs the server alone."
        ' States and commands alternate. "Page cache dropped" means that the machine reads the image from its disk'
        ' again; "without bytecode caches" means that the image has no `__pycache__`. The container runtime alone is'
        " the time until a program in the container starts. Python and application are the rest of the server alone."
        f" Medians of {rounds} round(s), differences within each round.",
        ["state", "start", "time", "container runtime", "Python and application", "added", "share of the time"],
        [row for name, each in times.items() for row in _rows(name, each)],
    )


def _measure(rounds: int, *, quick: bool) -> Mapping[str, Times]:
    """Return the seconds by state and command."""
    with _containers() as containers:
        states = _states(containers, quick=quick)
        for state in states:
            _round(containers, state, warm_up=True)
        measured: dict[str, list[Mapping[str, float]]] = {state.name: [] for state in states}
        for _ in range(rounds):
            for state in states:
                measured[state.name].append(_round(containers, state))
    return {name: _by_command(each) for name, each in measured.items()}


def _missing() -> str:
    return missing_requirement() if os.geteuid() == 0 else "podman needs root here for a network between containers"


@contextmanager
def _containers() -> Iterator[Containers]:
    containers = Containers(f"gate-bench-{secrets.token_hex(4)}")
    try:
        containers.build()
        containers.start_postgres()
        yield containers
    finally:
        containers.remove()


def _states(containers: Containers, *, quick: bool) -> list[State]:
    """Return what is compared; a quick run leaves out the two cold states."""
    current, behind = (_template(containers, revision) for revision in ("heads", PREVIOUS))
    warm = [
        State(CURRENT, containers.image, current),
        State("one revision is pending, `RUN_MIGRATIONS=1`", containers.image, behind, migrates=True),
    ]
    if quick:
        return warm
    cold = f"{containers.image}-without-caches"
    with tempfile.TemporaryDirectory() as folder:
        containers.build_from(WITHOUT_CACHES.format(image=containers.image), cold, Path(folder))
    states = [*warm, State("current, without bytecode caches", cold, current)]
    if os.access(DROP_CACHES, os.W_OK):
        states.append(State("current, page cache dropped", containers.image, current, drop_caches=True))
    return states


def _template(containers: Containers, revision: str) -> str:
    """Create a database at this revision and return its URL."""
    url = containers.create_database()
    containers.migrate(url, command=("alembic", "upgrade", revision))
    return url


def _round(containers: Containers, state: State, *, warm_up: bool = False) -> Mapping[str, float]:
    """Return the seconds of each command."""
    return {name: _start(containers, state, words, warm_up=warm_up) for name, words in state.commands.items()}


def _start(containers: Containers, state: State, words: Sequence[str], *, warm_up: bool) -> float:
    url, port, name = _database(containers, state), free_port(), f"{containers.token}-{secrets.token_hex(4)}"
    program, *arguments = words
    options = (
        *(f"--name={name}", f"--network={containers.token}", f"--publish=127.0.0.1:{port}:8000"),
        *(f"--entrypoint={program}", f"--env=DATABASE_URL={url}", *HARDENED),
        *(["--env=RUN_MIGRATIONS=1"] if state.migrates else []),
    )
    containers.names.append(name)
    if state.drop_caches and not warm_up:
        os.sync()
        DROP_CACHES.write_text("3")
    started = time.time()
    if words is DATE:
        seconds = float(podman_output("run", *options, state.image, *arguments)) - started
    else:
        podman_run = subprocess.Popen(
            ["podman", "run", "--detach", *options, state.image, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            seconds = _await_answer(port, name) - started
        finally:
            podman_run.wait(60)
    podman_output("rm", "--force", "--time=0", name)
    return seconds


def _database(containers: Containers, state: State) -> str:
    """Return the URL of the state's database, or of a copy of it if the container will migrate it."""
    if not state.migrates:
        return state.template
    server, _, template = state.template.rpartition("/")
    copy = f"shop_{secrets.token_hex(4)}"
    containers.execute(f"{server}/postgres", f"CREATE DATABASE {copy} TEMPLATE {template}")
    return f"{server}/{copy}"


def _await_answer(port: int, name: str) -> float:
    """Return the time of the first response 200."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            if _status(port) == http.client.OK:
                return time.time()
        time.sleep(PAUSE)
    logs = podman("logs", name)
    raise RuntimeError(f"no response within {ANSWER_TIMEOUT:.0f} s:\n{logs.stdout}{logs.stderr}")


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CONNECT_TIMEOUT)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_TIMEOUT)
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


def _by_command(rounds: Sequence[Mapping[str, float]]) -> Times:
    return {name: [each[name] for each in rounds] for name in rounds[0]}


def _rows(state: str, times: Times) -> Iterator[list[str]]:
    """Return one row for each start of a server; "added" compares it with the server alone."""
    runtime = median(times[RUNTIME])
    for name, seconds in times.items():
        if name == RUNTIME:
            continue
        time_, rest, added, share = milliseconds(median(seconds)), "–", "–", "–"
        if WITHOUT in times:
            rest = milliseconds(_difference(times[WITHOUT], times[RUNTIME]))
        if WITHOUT in times and name != WITHOUT:
            more = _difference(seconds, times[WITHOUT])
            added, share = milliseconds(more), f"{more / median(seconds):.0%}"
        yield [state, name, time_, milliseconds(runtime), rest, added, share]


def _difference(some: Sequence[float], others: Sequence[float]) -> float:
    return median(one - other for one, other in zip(some, others, strict=True))
