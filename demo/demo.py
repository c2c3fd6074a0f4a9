"""The story of gate on a real PostgreSQL: `make demo`.

Yesterday's schema, today's image, and nobody who migrates: first without gate, then with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psycopg

from demo.embedded_postgres import EmbeddedPostgres, environment_without_settings, free_port

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "fastapi"
PATIENCE = 30.0
"""Seconds after which what the story waits for will not happen any more."""

READ_PER_SECOND = 60
"""Characters of narration that a person reads in a second, roughly; without a terminal nobody is waited for."""

OLD, NEW = "0002", "0003"
ANSWERS = ("/health", "/health/ready", "/items")
"""What the server is asked once it runs."""


class NotAsToldError(Exception):
    """The story went another way than it is told; the message says which."""


# ---- the story


def story(stage: Stage) -> None:
    """Tell it from the first chapter to the last."""
    tell("A PostgreSQL is started for this demo alone. Yesterday's migrations are applied:")
    stage.start_database()
    stage.run("old", "alembic", "upgrade", OLD)

    chapter(1, "without gate")
    tell(f"""
        Today's image is deployed. Its models select items.stock, a column that migration {NEW} would add; but nobody
        has applied that one. The server starts all the same:
    """)
    without_gate(stage)

    chapter(2, "with gate")
    tell("The same image once more, started as its entrypoint.sh does it:")
    waiting = with_gate(stage)

    chapter(3, "the migration is applied elsewhere")
    tell("A deployment step, a job or a person runs one more process from the same image:")
    migrated_elsewhere(stage)

    chapter(4, "the server starts by itself")
    tell("Nobody touches the waiting container. It looks again by itself:")
    started_by_itself(stage, waiting)


def without_gate(stage: Stage) -> None:
    """The incident: alive by its own account, useless for everybody."""
    server = stage.start("web", *stage.server, silent=True)
    stage.await_answer(server)
    stage.get("/health", expected=200)
    stage.get("/items", expected=500)
    cause = server.await_line("UndefinedColumn", "the failed query is not in the server's traceback")
    tell("It is up, it calls itself healthy, and every query fails. Why stands only at the end of a long traceback:")
    show("web", cause.strip())
    tell("Only the readiness endpoint, which this application has from gate already, knows better:")
    stage.get("/health/ready", expected=503)
    server.stop()


def with_gate(stage: Stage) -> Program:
    """Gate finds the drift, says so, and does not become the server."""
    waiting = stage.start("web", "gate", "run", "--", *stage.server)
    waiting.await_line(f"drift: db={OLD} expected={NEW}", "gate did not report the drift")
    time.sleep(1.5)  # long enough to see that it goes on waiting
    if waiting.process.poll() is not None:
        raise waiting.blame("gate ended instead of waiting")
    if stage.listens():
        raise waiting.blame("the server listens although the schema does not fit")
    tell(f"""
        It says what is wrong and what to do, and waits. The container runs, but nothing listens on port {stage.port}:
        no user is sent to a server that cannot work.
    """)
    return waiting


def migrated_elsewhere(stage: Stage) -> None:
    """One migrator, under the lock."""
    stage.run("migrate", "gate", "migrate")


def started_by_itself(stage: Stage, waiting: Program) -> None:
    """Gate has seen the migration and has become the server."""
    stage.await_answer(waiting)
    command = Path(f"/proc/{waiting.process.pid}/cmdline").read_text().replace("\0", " ")
    if " run -- " in command:
        raise waiting.blame(f"process {waiting.process.pid} is still gate: {command}")
    tell(f"""
        The server is process {waiting.process.pid}, which was gate a moment ago: gate became it and is gone. It is
        asked what it was asked before:
    """)
    for path in ANSWERS:
        stage.get(path, expected=200)
    waiting.stop()


# ---- the stage: processes, a database, HTTP


@dataclass
class Program:
    """A process whose lines are shown as they come, under its name."""

    name: str
    process: subprocess.Popen[str]
    silent: bool = False
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)
            if not self.silent:
                show(self.name, line.rstrip())

    def await_line(self, text: str, otherwise: str) -> str:
        """Give the first line that holds the text."""
        await_true(lambda: any(text in line for line in self.lines), otherwise, self)
        return next(line for line in self.lines if text in line)

    def end_well(self) -> None:
        """Wait until it ends with 0."""
        await_true(lambda: self.process.poll() is not None, f"{self.name} did not end", self)
        self._reader.join(PATIENCE)
        if self.process.returncode:
            raise self.blame(f"{self.name} ended with exit code {self.process.returncode}")

    def blame(self, text: str) -> NotAsToldError:
        """Make the error of it, and show the lines that were not shown."""
        for line in self.lines if self.silent else ():
            show(self.name, line.rstrip())
        return NotAsToldError(text)

    def stop(self) -> None:
        """Ask it to end, as a container is stopped; insist after a while. What it says to that is not the story's."""
        self.silent = True
        self.process.terminate()
        try:
            self.process.wait(PATIENCE / 3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE / 3)


@dataclass
class Stage:
    """Where the story plays. Everything that it starts is gone when `properties` is closed."""

    properties: ExitStack
    port: int = field(default_factory=free_port)
    url: str = ""

    @property
    def server(self) -> list[str]:
        """The CMD of the image."""
        return ["uvicorn", "shop.main:app", "--port", str(self.port)]

    def start_database(self) -> None:
        """Start a PostgreSQL with a database of its own."""
        postgres = EmbeddedPostgres()
        self.properties.callback(postgres.remove)
        try:
            postgres.start()
        except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
            raise NotAsToldError(f"the embedded PostgreSQL did not start: {error}") from error
        postgres.execute("CREATE DATABASE shop")
        self.url = postgres.url("shop")

    def start(self, name: str, *command: str, silent: bool = False) -> Program:
        """Start a program of this environment in the example's folder."""
        show(name, f"$ {' '.join(command)}")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=EXAMPLE,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        program = Program(name, process, silent)
        self.properties.callback(program.stop)
        return program

    def _environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        ours = {"PATH": programs, "DATABASE_URL": self.url, "GATE_LOG_FORMAT": "console"}
        return {**environment_without_settings(), **ours, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

    def run(self, name: str, *command: str) -> None:
        """Run a program to its good end."""
        self.start(name, *command).end_well()

    def listens(self) -> bool:
        """Whether anybody listens on the server's port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def await_answer(self, program: Program) -> None:
        """Wait until the server listens."""
        await_true(self.listens, "the server did not start", program)

    def get(self, path: str, expected: int) -> None:
        """Ask the server and show its answer."""
        request = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, body = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read().decode()
        except OSError as error:
            raise NotAsToldError(f"GET {path} was not answered: {error}") from error
        show("you", f"GET {path:<8} ->  {status}  {body}")
        if status != expected:
            raise NotAsToldError(f"GET {path} answered {status} instead of {expected}")


def await_true(happened: Callable[[], bool], otherwise: str, program: Program) -> None:
    """Watch for something while the program lives and patience lasts."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if program.process.poll() is not None:
            raise program.blame(f"{otherwise}; {program.name} ended with exit code {program.process.returncode}")
        if time.monotonic() > deadline:
            raise program.blame(f"{otherwise} within {PATIENCE:g} s")
        time.sleep(0.05)


# ---- the voice


def chapter(number: int, title: str) -> None:
    """Begin a chapter."""
    heading = f"{number}. {title.upper()}"
    _say(f"\n\033[1m{heading}\033[0m" if sys.stdout.isatty() else f"\n{heading}")


def tell(text: str) -> None:
    """Narrate, and leave whoever watches the time to read it."""
    plain = " ".join(text.split())
    _say(f"\n{textwrap.fill(plain, _width(), break_on_hyphens=False)}\n")
    if sys.stdout.isatty():
        time.sleep(len(plain) / READ_PER_SECOND)


def show(name: str, line: str) -> None:
    """Show a line of a program under its name; on a terminal it is folded, elsewhere it stays whole."""
    margin = f"  {name:<8}| "
    if sys.stdout.isatty():
        line = textwrap.fill(line, _width() - len(margin), break_long_words=False, break_on_hyphens=False)
    _say(textwrap.indent(line, margin, lambda _: True))


def _width() -> int:
    return max(60, min(shutil.get_terminal_size().columns, 110))


def _say(text: str) -> None:
    # In one piece: the readers of several programs speak at the same time.
    print(text + "\n", end="", flush=True)


# ---- the door


@contextmanager
def _stage() -> Iterator[Stage]:
    """A stage that is cleared however the story ends."""
    with ExitStack() as properties:
        yield Stage(properties)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Tell the story; 0 if it went as told."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    began = time.monotonic()
    try:
        with _stage() as stage:
            story(stage)
    except NotAsToldError as error:
        print(f"\nThe demo failed: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    tell(f"""
        That is gate. The story took {time.monotonic() - began:.0f} seconds; its processes are stopped and its database
        is removed. README.md shows how to add gate to your image.
    """)
    return 0


if __name__ == "__main__":
    sys.exit(main())
