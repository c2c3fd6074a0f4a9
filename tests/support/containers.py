"""Images and containers under podman, with one PostgreSQL on a separate network; all are removed after the session.

The base images have local names, so no registry is needed.
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
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import await_true

ROOT = Path(__file__).resolve().parents[2]
PYTHON_IMAGE, POSTGRES_IMAGE = "localhost/standin-python", "localhost/standin-postgres"
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
UTF8 = "C.UTF-8"
"""In another locale initdb creates SQL_ASCII databases, and psycopg returns their text as bytes."""

await_podman = partial(await_true, interval=0.25)
"""Waits as `await_true`, but asks less often: each command of podman takes 0.1 s of CPU, which the containers need."""

FETCH = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}{path}', timeout=10).read().decode())"
PREVIOUS_DOCKERFILE = """\
FROM {image}
USER 0
RUN rm migrations/versions/0003_add_stock.py && rm -r migrations/versions/__pycache__ \
    && sed -i '/stock:/d' shop/models.py && sed -i 's/, "stock": item.stock//' shop/main.py && gate expect
USER 10001
"""
"""Removes the last migration from the example, and the column that it adds."""

CHANGED_DOCKERFILE = """\
FROM {image}
USER 0
RUN sed -i 's/^def upgrade.*/&\\n    {statement}/' migrations/versions/0003_add_stock.py \
    && rm -r migrations/versions/__pycache__
USER 10001
"""
"""Inserts a statement at the beginning of the last migration of the example."""

CONTRACTING_DOCKERFILE = """\
FROM {image}
USER 0
RUN printf '%s\\n' 'from alembic import op' 'revision = "0004"' 'down_revision = "0003"' 'post_deploy = True' \
    'def upgrade() -> None:' '    op.execute("COMMENT ON TABLE items IS NULL")' > migrations/versions/0004_contract.py \
    && gate expect
USER 10001
"""
"""Adds a migration to the example that may wait until after the deployment."""


def podman(*arguments: str, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False, **options,
    )  # fmt: skip


def podman_output(*arguments: str, timeout: float = 120) -> str:
    """Run podman, assert that it succeeds, and return its standard output."""
    result = podman(*arguments, timeout=timeout)
    assert result.returncode == 0, f"podman {' '.join(arguments)}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout.strip()


@contextmanager
def image_lock() -> Iterator[None]:
    """Lock the images against other test sessions: a build fails if a cached layer is removed while it runs."""
    with (Path(tempfile.gettempdir()) / "gate-test-images.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


@cache
def missing_requirement() -> str:
    """Return what these tests need and this machine does not have; "" if nothing is missing."""
    if not shutil.which("podman"):
        return "podman is not installed"
    for image in (PYTHON_IMAGE, POSTGRES_IMAGE):
        if podman("image", "exists", image).returncode:
            return f"podman has no image {image}"
    probe = podman("run", "--rm", PYTHON_IMAGE, "true")
    return f"podman cannot run a container here: {probe.stderr.strip()}" if probe.returncode else ""


def require_containers() -> None:
    if missing_requirement():
        pytest.skip(missing_requirement())


@dataclass
class Container:
    """One container, running or exited."""

    name: str

    def logs(self) -> str:
        result = podman("logs", self.name)
        return result.stdout + result.stderr

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any] | None:
        return next((event for event in self.events() if event["event"] == name), None)

    def await_event(self, name: str, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        matches: list[dict[str, Any]] = []

        def logged() -> bool:
            matches[:] = [event for event in self.events() if event["event"] == name and where(event)]
            return bool(matches)

        await_podman(logged, lambda: f"no {name} in:\n{self.logs()}")
        return matches[0]

    def await_log(self, text: str) -> None:
        await_podman(lambda: text in self.logs(), lambda: f"no {text!r} in:\n{self.logs()}")

    def try_to_get(self, path: str, port: int = 8000) -> subprocess.CompletedProcess[str]:
        return podman("exec", self.name, "python3", "-c", FETCH.format(path=path, port=port))

    def get(self, path: str, port: int = 8000) -> str:
        """Retry until the response is no error, and return its body."""
        bodies: list[str] = []

        def succeeded() -> bool:
            result = self.try_to_get(path, port)
            bodies.append(result.stdout.strip())
            return result.returncode == 0

        await_podman(succeeded, lambda: f"no response to {path}:\n{self.logs()}")
        return bodies[-1]

    def state(self, field: str) -> str:
        return podman_output("inspect", f"--format={{{{.State.{field}}}}}", self.name)

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL after 10 s, as `docker stop` does. Return the exit code: 137 after SIGKILL."""
        podman_output("stop", "--time=10", self.name)
        return int(self.state("ExitCode"))

    def wait(self) -> int:
        """Wait until the container exits, and return its exit code."""
        return int(podman_output("wait", self.name))


@dataclass
class Containers:
    """The images, network and containers of one test session."""

    token: str = field(default_factory=lambda: f"gate-test-{secrets.token_hex(4)}")
    images: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        """The image of the example application behind gate."""
        return f"localhost/{self.token}"

    @property
    def older_image(self) -> str:
        """The image of the example without its last migration."""
        return f"{self.image}-older"

    def remove(self) -> None:
        podman("rm", "--force", "--time=0", *self.names)
        podman("network", "rm", "--force", self.token)
        with image_lock():
            podman("rmi", "--force", *self.images)

    def build(self) -> None:
        self.build_stages(self.image, "build", "Dockerfile", PYTHON_IMAGE=PYTHON_IMAGE)

    def build_stages(self, tag: str, stage: str, dockerfile: str, **build_arguments: str) -> None:
        """Build a Dockerfile of this project. The stage gets a tag too, so that `remove` finds it."""
        arguments = (
            f"--file={ROOT / dockerfile}",
            *(f"--build-arg={name}={value}" for name, value in build_arguments.items()),
        )
        self.build_image(f"{tag}-{stage}", ROOT, *arguments, f"--target={stage}")
        self.build_image(tag, ROOT, *arguments)

    def build_image(self, tag: str, context: Path, *arguments: str) -> None:
        """Build one image, which `remove` deletes."""
        self.images.append(tag)
        with image_lock():
            podman_output("build", "--network=host", f"--tag={tag}", *arguments, str(context), timeout=500)

    def build_from(self, text: str, tag: str, folder: Path, *arguments: str) -> None:
        """Build one image from the text of a Dockerfile."""
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(text)
        self.build_image(tag, folder, *arguments)

    def build_changed(self, statement: str, folder: Path) -> str:
        """Build the example with `statement` at the beginning of its last migration, and return the image's name."""
        tag = f"{self.image}-{secrets.token_hex(4)}"
        self.build_from(CHANGED_DOCKERFILE.format(image=self.image, statement=statement), tag, folder)
        return tag

    def build_tenants(self, folder: Path) -> str:
        """Build the example with a schema for each tenant, where the last migration takes a second."""
        image = self.build_changed('op.execute("SELECT pg_sleep(1)")', folder)
        tag = f"{image}-tenants"
        self.build_image(tag, ROOT / "examples" / "tenants", f"--build-arg=SHOP_IMAGE={image}")
        return tag

    def build_contracting(self, tag: str, folder: Path) -> str:
        """Build the example with one more migration, which may wait, and return the image's name."""
        self.build_from(CONTRACTING_DOCKERFILE.format(image=self.image), tag, folder)
        return tag

    def start_postgres(self) -> None:
        podman_output("network", "create", self.token)
        self.run(f"{self.token}-db", POSTGRES_IMAGE, POSTGRES_PASSWORD="secret", LC_ALL=UTF8)
        ready = ("exec", f"{self.token}-db", "psql", "-h", "/tmp", "-U", "postgres", "-c", "SELECT 1")
        await_podman(lambda: podman(*ready).returncode == 0, lambda: podman_output("logs", f"{self.token}-db"))

    def run(self, name: str, *arguments: str, **environment: str) -> Container:
        self.names.append(name)
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        podman_output("run", "--detach", f"--name={name}", f"--network={self.token}", *variables, *arguments)
        return Container(name)

    def start(
        self, url: str, *command: str, image: str = "", options: tuple[str, ...] = (), **environment: str
    ) -> Container:
        """Start a container without root, without capabilities and with a read-only filesystem."""
        name = f"{self.token}-{secrets.token_hex(4)}"
        return self.run(name, *HARDENED, *options, image or self.image, *command, DATABASE_URL=url, **environment)

    def migrate(self, url: str, image: str = "", command: tuple[str, ...] = ("gate", "migrate")) -> None:
        """Migrate in a separate container."""
        program, *arguments = command
        options = (f"--network={self.token}", f"--env=DATABASE_URL={url}", f"--entrypoint={program}")
        podman_output("run", "--rm", *options, *HARDENED, image or self.image, *arguments)

    def create_database(self) -> str:
        name = f"shop_{secrets.token_hex(4)}"
        podman_output("exec", f"{self.token}-db", "createdb", "-h", "/tmp", "-U", "postgres", name)
        return f"postgresql://postgres:secret@{self.token}-db:5432/{name}"

    def execute(self, url: str, statement: str) -> str:
        """Run one statement in a database that `create_database` made."""
        name = url.rpartition("/")[2]
        return podman_output(
            "exec", f"{self.token}-db", "psql", "-h", "/tmp", "-U", "postgres", "-tAc", statement, name
        )

    def block_connections(self, url: str) -> None:
        """Reject new connections to a database that `create_database` made, and end the open ones."""
        server, _, name = url.rpartition("/")
        self.execute(f"{server}/postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        self.execute(f"{server}/postgres", terminate)
