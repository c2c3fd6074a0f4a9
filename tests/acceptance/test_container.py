"""The image that the Dockerfile builds, run as it should be run: no root, no capability, nothing to write to."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import await_true

ROOT = Path(__file__).resolve().parents[2]
PYTHON_IMAGE, POSTGRES_IMAGE = "localhost/standin-python", "localhost/standin-postgres"
"""Base images under local names, so that no registry is needed."""

HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000{path}', timeout=10).read().decode())"

# One worker for all of them, so that the image is built once; the build downloads the libraries.
pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]


def podman(*arguments: str, within: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False
    )


def must(*arguments: str, within: float = 120) -> str:
    done = podman(*arguments, within=within)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


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


@dataclass
class Containers:
    """One network with a PostgreSQL, the built image, and everything that a test starts; all gone at the end."""

    token: str = field(default_factory=lambda: f"gate-test-{secrets.token_hex(4)}")
    running: ExitStack = field(default_factory=ExitStack)

    @property
    def image(self) -> str:
        return f"localhost/{self.token}"

    def build(self) -> None:
        # The build stage gets a name as well, so that it can be removed as the image is.
        base = f"--build-arg=PYTHON_IMAGE={PYTHON_IMAGE}"
        for tag, *stage in ((f"{self.image}-build", "--target=build"), (self.image,)):
            self.running.callback(podman, "rmi", "--force", tag)
            must("build", "--network=host", base, f"--tag={tag}", *stage, str(ROOT), within=500)

    def start_postgres(self) -> None:
        must("network", "create", self.token)
        self.running.callback(podman, "network", "rm", "--force", self.token)
        self.run(f"{self.token}-db", POSTGRES_IMAGE, POSTGRES_PASSWORD="secret")
        ready = ("exec", f"{self.token}-db", "psql", "-h", "/tmp", "-U", "postgres", "-c", "SELECT 1")
        await_true(lambda: podman(*ready).returncode == 0, lambda: must("logs", f"{self.token}-db"))

    def run(self, name: str, *arguments: str, **environment: str) -> None:
        self.running.callback(podman, "rm", "--force", "--time=0", name)
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        must("run", "--detach", f"--name={name}", f"--network={self.token}", *variables, *arguments)

    def create_database(self) -> str:
        name = f"shop_{secrets.token_hex(4)}"
        encoding = ("--template=template0", "--encoding=UTF8", "--locale=C.UTF-8")
        must("exec", f"{self.token}-db", "createdb", "-h", "/tmp", "-U", "postgres", *encoding, name)
        return f"postgresql://postgres:secret@{self.token}-db:5432/{name}"


@dataclass
class Web:
    """One container of the image."""

    name: str

    def logs(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def event(self, name: str) -> dict[str, Any] | None:
        events = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
        return next((event for event in events if event["event"] == name), None)

    def await_event(self, name: str) -> dict[str, Any]:
        await_true(lambda: self.event(name) is not None, lambda: f"no {name} in:\n{self.logs()}")
        found = self.event(name)
        assert found
        return found

    def get(self, path: str) -> str:
        ask = ("exec", self.name, "python3", "-c", ASK.format(path=path))
        await_true(lambda: podman(*ask).returncode == 0, lambda: f"no answer to {path}:\n{self.logs()}")
        return must(*ask)


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    if lacking():
        pytest.skip(lacking())
    prepared = Containers()
    with prepared.running:
        prepared.build()
        prepared.start_postgres()
        yield prepared


def start(containers: Containers, url: str, **environment: str) -> Web:
    name = f"{containers.token}-web-{secrets.token_hex(4)}"
    containers.run(name, *HARDENED, containers.image, DATABASE_URL=url, **environment)
    return Web(name)


def test_container_waits_and_podman_stop_ends_it_at_once(containers: Containers) -> None:
    web = start(containers, containers.create_database())
    line = web.await_event("gate.waiting")
    assert line["level"] == "critical"
    assert "drift: db=none expected=0003" in line["message"]
    began = time.monotonic()
    must("stop", "--time=30", web.name)
    assert time.monotonic() - began < 5
    assert must("inspect", "--format={{.State.ExitCode}}", web.name) == "143"


def test_container_migrates_with_run_migrations_and_serves(containers: Containers) -> None:
    web = start(containers, containers.create_database(), RUN_MIGRATIONS="1")
    web.await_event("gate.migrated")
    assert [item["name"] for item in json.loads(web.get("/items"))] == ["a lamp", "a chair"]
    assert must("exec", web.name, "id", "--user") == "10001"
    assert "uvicorn" in must("exec", web.name, "cat", "/proc/1/cmdline")


def test_waiting_container_starts_once_another_container_has_migrated(containers: Containers) -> None:
    url = containers.create_database()
    web = start(containers, url)
    web.await_event("gate.waiting")
    network, told = f"--network={containers.token}", f"--env=DATABASE_URL={url}"
    must("run", "--rm", network, told, *HARDENED, "--entrypoint=gate", containers.image, "migrate")
    assert json.loads(web.get("/health")) == {"status": "ok"}
    assert len(json.loads(web.get("/items"))) == 2


def test_image_with_a_broken_migration_is_not_built(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "0004_lost.py").write_text('revision = "0004"\ndown_revision = "nowhere"\n')
    end_of_dockerfile = "USER 10001" + (ROOT / "Dockerfile").read_text().split("USER 10001")[1]
    start_of_it = f"FROM {containers.image}\nUSER 0\nCOPY 0004_lost.py migrations/versions/\n"
    (tmp_path / "Dockerfile").write_text(start_of_it + end_of_dockerfile)
    done = podman("build", "--layers=false", str(tmp_path))
    assert done.returncode != 0
    assert "nowhere" in done.stdout + done.stderr
