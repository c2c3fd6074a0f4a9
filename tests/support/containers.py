"""Real containers by podman: images, one PostgreSQL on a network of its own, what a test starts; all gone at the end.

Base images stand under local names, so that no registry is needed.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import await_true

ROOT = Path(__file__).resolve().parents[2]
PYTHON_IMAGE, POSTGRES_IMAGE = "localhost/standin-python", "localhost/standin-postgres"
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
UTF8 = "C.UTF-8"
"""The locale without which the stand-in for PostgreSQL makes databases whose text psycopg will not decode."""

ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}{path}', timeout=10).read().decode())"
OLDER = """\
FROM {image}
USER 0
RUN rm migrations/versions/0003_add_stock.py && rm -r migrations/versions/__pycache__
USER 10001
"""
"""The example as it was before its last migration."""

OTHER = """\
FROM {image}
USER 0
RUN sed -i 's/^def upgrade.*/&\\n    {statement}/' migrations/versions/0003_add_stock.py
RUN rm -r migrations/versions/__pycache__
USER 10001
"""
"""The example with a last migration that begins otherwise."""


def podman(*arguments: str, within: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False, **options,
    )  # fmt: skip


def must(*arguments: str, within: float = 120) -> str:
    done = podman(*arguments, within=within)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep other sessions off the images: a build fails if a layer that it found in the cache is removed meanwhile."""
    with (Path(tempfile.gettempdir()) / "gate-test-images.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


@cache
def lacking() -> str:
    """What this machine lacks for these tests, "" if nothing."""
    if not shutil.which("podman"):
        return "podman is not installed"
    for image in (PYTHON_IMAGE, POSTGRES_IMAGE):
        if podman("image", "exists", image).returncode:
            return f"podman has no image {image}"
    probe = podman("run", "--rm", PYTHON_IMAGE, "true")
    return f"podman cannot run a container here: {probe.stderr.strip()}" if probe.returncode else ""


def need_containers() -> None:
    if lacking():
        pytest.skip(lacking())


@dataclass
class Container:
    """One container that runs or ran."""

    name: str

    def logs(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any] | None:
        return next((event for event in self.events() if event["event"] == name), None)

    def await_event(self, name: str, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = [event for event in self.events() if event["event"] == name and where(event)]
            return bool(found)

        await_true(seen, lambda: f"no {name} in:\n{self.logs()}")
        return found[0]

    def await_log(self, text: str) -> None:
        await_true(lambda: text in self.logs(), lambda: f"no {text!r} in:\n{self.logs()}")

    def try_to_get(self, path: str, port: int = 8000) -> subprocess.CompletedProcess[str]:
        return podman("exec", self.name, "python3", "-c", ASK.format(path=path, port=port))

    def get(self, path: str, port: int = 8000) -> str:
        """The answer, as soon as there is one that is no error."""
        answers: list[str] = []

        def answered() -> bool:
            done = self.try_to_get(path, port)
            answers.append(done.stdout.strip())
            return done.returncode == 0

        await_true(answered, lambda: f"no answer to {path}:\n{self.logs()}")
        return answers[-1]

    def state(self, what: str) -> str:
        return must("inspect", f"--format={{{{.State.{what}}}}}", self.name)

    def stop(self) -> int:
        """Send SIGTERM, and after 10 s SIGKILL, as `docker stop` does; give the exit code: 137 if it was killed."""
        must("stop", "--time=10", self.name)
        return int(self.state("ExitCode"))

    def wait(self) -> int:
        """Wait until it ends; give its exit code."""
        return int(must("wait", self.name))


@dataclass
class Containers:
    """What a session's container tests share."""

    token: str = field(default_factory=lambda: f"gate-test-{secrets.token_hex(4)}")
    images: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        """The example behind gate."""
        return f"localhost/{self.token}"

    @property
    def older_image(self) -> str:
        """The same without its last migration."""
        return f"{self.image}-older"

    def remove(self) -> None:
        podman("rm", "--force", "--time=0", *self.names)
        podman("network", "rm", "--force", self.token)
        with undisturbed():
            podman("rmi", "--force", *self.images)

    def build(self) -> None:
        self.build_stages(self.image, "build", "Dockerfile", PYTHON_IMAGE=PYTHON_IMAGE)

    def build_stages(self, tag: str, stage: str, recipe: str, **told: str) -> None:
        """Build a recipe of this project; its first stage has a name as well, so that it is removed as the image is."""
        arguments = (f"--file={ROOT / recipe}", *(f"--build-arg={name}={value}" for name, value in told.items()))
        self.build_image(f"{tag}-{stage}", ROOT, *arguments, f"--target={stage}")
        self.build_image(tag, ROOT, *arguments)

    def build_image(self, tag: str, context: Path, *arguments: str) -> None:
        """Build one image; `remove` removes it."""
        self.images.append(tag)
        with undisturbed():
            must("build", "--network=host", f"--tag={tag}", *arguments, str(context), within=500)

    def build_from(self, text: str, tag: str, folder: Path, *arguments: str) -> None:
        """Build one image from the text of a Dockerfile."""
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(text)
        self.build_image(tag, folder, *arguments)

    def build_other(self, statement: str, folder: Path) -> str:
        """Build the example with this statement at the beginning of its last migration; give the image's name."""
        tag = f"{self.image}-{secrets.token_hex(4)}"
        self.build_from(OTHER.format(image=self.image, statement=statement), tag, folder)
        return tag

    def start_postgres(self) -> None:
        must("network", "create", self.token)
        self.run(f"{self.token}-db", POSTGRES_IMAGE, POSTGRES_PASSWORD="secret", LC_ALL=UTF8)
        ready = ("exec", f"{self.token}-db", "psql", "-h", "/tmp", "-U", "postgres", "-c", "SELECT 1")
        await_true(lambda: podman(*ready).returncode == 0, lambda: must("logs", f"{self.token}-db"))

    def run(self, name: str, *arguments: str, **environment: str) -> Container:
        self.names.append(name)
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        must("run", "--detach", f"--name={name}", f"--network={self.token}", *variables, *arguments)
        return Container(name)

    def start(self, url: str, *command: str, image: str = "", options: tuple[str, ...] = (), **told: str) -> Container:
        """Start a container of the image as it should be run: no root, no capability, nothing to write to."""
        name = f"{self.token}-{secrets.token_hex(4)}"
        return self.run(name, *HARDENED, *options, image or self.image, *command, DATABASE_URL=url, **told)

    def migrate(self, url: str, image: str = "", command: tuple[str, ...] = ("gate", "migrate")) -> None:
        """Let another container migrate."""
        program, *arguments = command
        told = (f"--network={self.token}", f"--env=DATABASE_URL={url}", f"--entrypoint={program}")
        must("run", "--rm", *told, *HARDENED, image or self.image, *arguments)

    def create_database(self) -> str:
        name = f"shop_{secrets.token_hex(4)}"
        must("exec", f"{self.token}-db", "createdb", "-h", "/tmp", "-U", "postgres", name)
        return f"postgresql://postgres:secret@{self.token}-db:5432/{name}"

    def execute(self, url: str, statement: str) -> str:
        """Run one statement in a database of `create_database`."""
        name = url.rpartition("/")[2]
        return must("exec", f"{self.token}-db", "psql", "-h", "/tmp", "-U", "postgres", "-tAc", statement, name)

    def lock_out(self, url: str) -> None:
        """Let nobody connect to a database of `create_database` any more, nor stay connected."""
        server, _, name = url.rpartition("/")
        self.execute(f"{server}/postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        self.execute(f"{server}/postgres", ended)
