"""compose.yaml and compose.wait.yaml as they are, with an override that names images which need no registry."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.embedded_postgres import free_port
from tests.support.containers import POSTGRES_IMAGE, ROOT, UTF8, Container, Containers, podman
from tests.support.programs import await_true

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]


@dataclass
class Compose:
    """One Compose project."""

    project: str
    files: tuple[Path, ...]

    def __call__(self, *arguments: str, **environment: str) -> str:
        files = [f"--file={file}" for file in self.files]
        done = subprocess.run(
            [sys.executable, "-m", "podman_compose", f"--project-name={self.project}", *files, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False, cwd=ROOT,
            env={**os.environ, "SHOP_PORT": str(free_port()), **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, **environment: str) -> None:
        self("up", "--detach", "--no-build", **environment)

    def service(self, name: str) -> Container:
        return Container(f"{self.project}_{name}_1")

    def healthy(self, name: str) -> bool:
        """What the service's own health check says now; podman runs it by itself only where there is systemd."""
        return podman("healthcheck", "run", self.service(name).name).returncode == 0


@pytest.fixture
def compose(containers: Containers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Compose]:
    images = {"migrate": {"image": containers.image}, "web": {"image": containers.image}}
    database = {"image": POSTGRES_IMAGE, "environment": {"LC_ALL": UTF8}}
    (tmp_path / "standins.yaml").write_text(json.dumps({"services": {"db": database, **images}}))  # JSON is YAML
    project = Compose(f"gate-test-{secrets.token_hex(4)}", (ROOT / request.param, tmp_path / "standins.yaml"))
    yield project
    project("--profile=migrate", "down", "--volumes", "--timeout=2")


@pytest.mark.parametrize("compose", ["compose.yaml"], indirect=True)
def test_the_server_starts_after_the_one_shot_has_migrated(compose: Compose) -> None:
    compose.up()
    assert compose.service("migrate").state("ExitCode") == "0"
    assert compose.service("migrate").event("gate.migrated")
    web = compose.service("web")
    web.await_event("gate.current")
    assert web.event("gate.waiting") is None
    assert len(json.loads(web.get("/items"))) == 2
    await_true(lambda: compose.healthy("web"), web.logs)


@pytest.mark.parametrize("compose", ["compose.wait.yaml"], indirect=True)
def test_the_server_waits_by_itself_until_somebody_migrates(compose: Compose) -> None:
    compose.up()
    web = compose.service("web")
    web.await_event("gate.waiting", lambda event: event.get("verdict") == "EMPTY")
    assert json.loads(web.get("/health"))
    assert not compose.healthy("web")
    compose("--profile=migrate", "run", "--rm", "migrate")
    web.await_event("gate.starting")
    await_true(lambda: compose.healthy("web"), web.logs)
    assert len(json.loads(web.get("/items"))) == 2


@pytest.mark.parametrize("compose", ["compose.wait.yaml"], indirect=True)
def test_the_server_migrates_by_itself_if_told_so(compose: Compose) -> None:
    compose.up(RUN_MIGRATIONS="1")
    web = compose.service("web")
    web.await_event("gate.migrated")
    await_true(lambda: compose.healthy("web"), web.logs)
