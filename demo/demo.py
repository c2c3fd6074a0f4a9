"""`make demo` shows the incidents that gate prevents, on an embedded PostgreSQL.

A new image meets an old schema because its migration was not applied: first without gate, then with gate. Then the
stamp is right and a column is missing, and an older image meets a newer schema.
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
from tempfile import TemporaryDirectory
from types import FrameType

import psycopg

from demo.embedded_postgres import EmbeddedPostgres, environment_without_settings, free_port
from demo.images import today, yesterday

TIMEOUT = 30.0
"""Seconds that the demo waits for each event before it fails."""

READING_SPEED = 60
"""Characters that a person reads per second, approximately. The demo pauses for reading only on a terminal."""

OLD, NEW, NEWER = "0002", "0003", "0004"
QUIET = ("--log-level", "warning")
"""Options with which the server logs neither its start nor requests."""

PATHS = ("/health", "/health/ready", "/items")
"""Requests to the running server."""


class DemoError(Exception):
    """A step of the demo had an unexpected result."""


# ---- the steps


def run_steps(environment: Environment) -> None:
    """Run all steps in order."""
    narrate("""
        The demo builds two images of a small shop, yesterday's and today's (for Docker, folders here). `gate expect`
        writes down which tables and columns the models of each image use:
    """)
    environment.build_images()
    narrate("It starts a PostgreSQL of its own and applies yesterday's migrations:")
    environment.start_database()
    environment.run("old", "alembic", "upgrade", OLD)

    print_heading(1, "without gate")
    narrate(f"""
        Today's image is deployed. Its models use the column items.stock, which migration {NEW} adds, but that migration
        has not been applied. The server starts nevertheless:
    """)
    without_gate(environment)

    print_heading(2, "with gate")
    narrate("The same image, started with gate as its entrypoint:")
    waiting = with_gate(environment)

    print_heading(3, "the migration is applied elsewhere")
    narrate("A deployment step, a job or a person applies the migration from the same image:")
    migrated_elsewhere(environment)

    print_heading(4, "the server starts by itself")
    narrate("The waiting container needs no restart. gate checks the database again and starts the server:")
    started_by_itself(environment, waiting)

    print_heading(5, "stamped, but not there")
    stamped_but_not_there(environment)

    print_heading(6, "yesterday's image again")
    rolled_back(environment)


def without_gate(environment: Environment) -> None:
    """The incident: the server reports itself healthy, and every query fails."""
    server = environment.start("web", *environment.server, silent=True)
    environment.await_server(server)
    environment.get("/health", expected=200)
    environment.get("/items", expected=500)
    cause = server.await_line("UndefinedColumn", "the traceback does not name the failed query")
    narrate(
        "The server reports itself healthy, but every query fails. Only the end of a long traceback names the cause:"
    )
    print_line("web", cause.strip())
    narrate("Only the readiness endpoint, which this application already takes from gate, reports the problem:")
    environment.get("/health/ready", expected=503)
    server.stop()


def with_gate(environment: Environment) -> Program:
    """Gate reports the drift, does not start the server, and answers in its place."""
    waiting = environment.start_gate()
    environment.await_waiting(waiting, f"drift: db={OLD} expected={NEW} missing=items.stock")
    narrate("""
        gate reports what is missing and how to apply it, and waits. No request reaches a server that cannot answer it:
        with GATE_PLACEHOLDER, gate itself answers on the server's port. Visitors learn only that the service is being
        updated (a browser gets a page, which reloads when the server is there). Operators learn why:
    """)
    for path, status in {"/health": 200, "/items": 503, "/health/ready": 503}.items():
        environment.get(path, expected=status)
    return waiting


def migrated_elsewhere(environment: Environment) -> None:
    """Apply the migration with gate, under the lock."""
    environment.run("migrate", "gate", "migrate")


def started_by_itself(environment: Environment, waiting: Program) -> None:
    """Gate finds the migration applied and replaces itself with the server."""
    environment.await_server(waiting)
    narrate(f"""
        gate has replaced itself with the server, so the process id is still {waiting.process.pid}. The same requests as
        before:
    """)
    for path in PATHS:
        environment.get(path, expected=200)
    waiting.stop()


def stamped_but_not_there(environment: Environment) -> None:
    """The stamp is right and a column is missing, until somebody adds it."""
    narrate(f"""
        Somebody restores the table items from an old backup. The column is gone again, but the database is still
        stamped with {NEW}. To Alembic nothing is pending. gate finds what its image needs and the database lacks:
    """)
    environment.execute("ALTER TABLE items DROP COLUMN stock")
    waiting = environment.start_gate(*QUIET)
    environment.await_waiting(waiting, f"drift: db={NEW} expected={NEW} missing=items.stock")
    narrate("Somebody adds the column, and the server starts:")
    environment.execute("ALTER TABLE items ADD COLUMN stock integer NOT NULL DEFAULT 0")
    environment.await_server(waiting)
    environment.get("/items", expected=200)
    waiting.stop()


def rolled_back(environment: Environment) -> None:
    """An older image starts on a newer schema if all that it uses is there."""
    environment.image = yesterday(environment.images)
    narrate(f"""
        Today's image has a bug, and yesterday's is deployed again. It does not know revision {NEW}. But the database
        has every column that it uses, so gate starts the server:
    """)
    server = environment.start_gate(*QUIET)
    environment.await_server(server)
    server.await_line("gate.ahead", "gate did not report that the database is ahead")
    environment.get("/items", expected=200)
    server.stop()
    narrate(f"""
        Then a newer image applies revision {NEWER}, which removes the column items.price. Yesterday's image cannot work
        without it. Its server would start and fail every query; gate does not start it:
    """)
    environment.execute("ALTER TABLE items DROP COLUMN price", "newer")
    environment.execute(f"UPDATE alembic_version SET version_num = '{NEWER}'", "newer")
    waiting = environment.start_gate(*QUIET)
    environment.await_waiting(waiting, f"drift: db={NEWER} expected={OLD} missing=items.price")
    waiting.stop()


# ---- the environment: processes, a database, HTTP


@dataclass
class Program:
    """A process. Its output is printed line by line, after its name."""

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
                print_line(self.name, line.rstrip())

    @property
    def is_gate(self) -> bool:
        """Whether this process is gate, and not, or not yet, the server."""
        return b"\0run\0--\0" in Path(f"/proc/{self.process.pid}/cmdline").read_bytes()

    def await_line(self, text: str, message: str) -> str:
        """Wait for a line that contains `text`, and return it."""
        await_true(lambda: any(text in line for line in self.lines), message, self)
        return next(line for line in self.lines if text in line)

    def wait_for_success(self) -> None:
        """Wait until the process exits with 0."""
        await_true(lambda: self.process.poll() is not None, f"{self.name} did not exit", self)
        self._reader.join(TIMEOUT)
        if self.process.returncode:
            raise self.failure(f"{self.name} exited with code {self.process.returncode}")

    def failure(self, text: str) -> DemoError:
        """Print the lines that were hidden, and return the error."""
        for line in self.lines if self.silent else ():
            print_line(self.name, line.rstrip())
        return DemoError(text)

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after a while, as `docker stop` does. The output of the shutdown is hidden."""
        self.silent = True
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT / 3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(TIMEOUT / 3)


@dataclass
class Environment:
    """The database, the images and the programs of the demo. `cleanup` stops and removes all of them.

    `images`: the folder of the images; `image`: the folder of the one that programs are started from.
    """

    cleanup: ExitStack
    port: int = field(default_factory=free_port)
    url: str = ""
    images: Path = Path()
    image: Path = Path()
    _postgres: EmbeddedPostgres = field(default_factory=EmbeddedPostgres)

    @property
    def server(self) -> list[str]:
        """The CMD of the image."""
        return ["uvicorn", "shop.main:app", "--port", str(self.port)]

    def build_images(self) -> None:
        """Build both images; programs are started from today's."""
        self.images = Path(self.cleanup.enter_context(TemporaryDirectory(prefix="gate-demo-")))
        for image in (yesterday(self.images), today(self.images)):
            self.image = image
            self.run("build", "gate", "expect")

    def start_database(self) -> None:
        """Start PostgreSQL and create a database."""
        self.cleanup.callback(self._postgres.remove)
        try:
            self._postgres.start()
        except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
            raise DemoError(f"the embedded PostgreSQL did not start: {error}") from error
        self._postgres.execute("CREATE DATABASE shop")
        self.url = self._postgres.url("shop")

    def execute(self, statement: str, name: str = "psql") -> None:
        """Run one statement and print it after the name of the one who runs it."""
        print_line(name, f"=> {statement};")
        self._postgres.execute(statement, "shop")

    def start_gate(self, *options: str) -> Program:
        """Start the image with gate as its entrypoint; `options`: of the server."""
        placeholder = f"127.0.0.1:{self.port}"
        return self.start("web", "gate", "run", "--", *self.server, *options, GATE_PLACEHOLDER=placeholder)

    def await_waiting(self, waiting: Program, drift: str) -> None:
        """Wait until gate has reported the drift, and verify that it goes on waiting."""
        waiting.await_line(drift, f"gate did not report `{drift}`")
        time.sleep(1.5)  # gate must still wait after several checks
        if waiting.process.poll() is not None:
            raise waiting.failure("gate exited instead of waiting")
        if not waiting.is_gate:
            raise waiting.failure("the server starts although the schema does not fit")

    def start(self, name: str, *command: str, silent: bool = False, **variables: str) -> Program:
        """Start a program in the folder of the image."""
        settings = (f"{variable}={value}" for variable, value in variables.items())
        print_line(name, f"$ {' '.join((*settings, *command))}")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.image,
            env=self._environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        program = Program(name, process, silent)
        self.cleanup.callback(program.stop)
        return program

    def _environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        variables = {"PATH": programs, "DATABASE_URL": self.url, "GATE_LOG_FORMAT": "console"}
        return {**environment_without_settings(), **variables, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

    def run(self, name: str, *command: str) -> None:
        """Run a program and wait until it exits with 0."""
        self.start(name, *command).wait_for_success()

    def listens(self) -> bool:
        """Return whether a process listens on the port of the server."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def await_server(self, program: Program) -> None:
        """Wait until the server listens; before that, the placeholder listens on the same port."""
        await_true(lambda: not program.is_gate and self.listens(), "the server did not start", program)

    def get(self, path: str, expected: int) -> None:
        """Send a request and print the response."""
        request = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                status, body = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read().decode()
        except OSError as error:
            raise DemoError(f"GET {path} failed: {error}") from error
        print_line("you", f"GET {path:<8} ->  {status}  {body}")
        if status != expected:
            raise DemoError(f"GET {path} returned {status} instead of {expected}")


def await_true(condition: Callable[[], bool], message: str, program: Program) -> None:
    """Wait until `condition` is true. Fail after TIMEOUT seconds, or when the program exits."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if program.process.poll() is not None:
            raise program.failure(f"{message}; {program.name} exited with code {program.process.returncode}")
        if time.monotonic() > deadline:
            raise program.failure(f"{message} within {TIMEOUT:g} s")
        time.sleep(0.05)


# ---- output


def print_heading(number: int, title: str) -> None:
    """Print the heading of a step."""
    heading = f"{number}. {title.upper()}"
    _print(f"\n\033[1m{heading}\033[0m" if sys.stdout.isatty() else f"\n{heading}")


def narrate(text: str) -> None:
    """Print an explanation. On a terminal, pause until it can be read."""
    plain = " ".join(text.split())
    _print(f"\n{textwrap.fill(plain, _width(), break_on_hyphens=False)}\n")
    if sys.stdout.isatty():
        time.sleep(len(plain) / READING_SPEED)


def print_line(name: str, line: str) -> None:
    """Print a line of a program after its name; on a terminal, long lines are wrapped."""
    margin = f"  {name:<8}| "
    if sys.stdout.isatty():
        line = textwrap.fill(line, _width() - len(margin), break_long_words=False, break_on_hyphens=False)
    _print(textwrap.indent(line, margin, lambda _: True))


def _width() -> int:
    return max(60, min(shutil.get_terminal_size().columns, 110))


def _print(text: str) -> None:
    # One write, because several threads print at the same time.
    print(text + "\n", end="", flush=True)


# ---- entry point


@contextmanager
def _environment() -> Iterator[Environment]:
    """Clean up, also when a step fails."""
    with ExitStack() as cleanup:
        yield Environment(cleanup)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Run the demo; return 0, 1 if a step failed, or 130 after Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    started = time.monotonic()
    try:
        with _environment() as environment:
            run_steps(environment)
    except DemoError as error:
        print(f"\nThe demo failed: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    narrate(f"""
        The demo is complete after {time.monotonic() - started:.0f} seconds. Its processes are stopped and its database
        is removed. README.md describes how to add gate to your image.
    """)
    return 0


if __name__ == "__main__":
    sys.exit(main())
