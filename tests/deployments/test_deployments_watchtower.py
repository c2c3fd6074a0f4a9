"""Watchtower itself, built from its module, updates a container whose tag was rebuilt with a further migration."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests.support.containers import ROOT, Container, Containers, must, podman
from tests.support.docker_socket import docker_socket
from tests.support.go_tools import go_tool

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

MODULE, VERSION = "github.com/containrrr/watchtower", "v1.7.1"
ONCE = "--run-once --no-pull --enable-lifecycle-hooks --stop-timeout=30s --debug --no-startup-message".split()
PRE_UPDATE = "com.centurylinklabs.watchtower.lifecycle.pre-update"
WEB = yaml.safe_load((ROOT / "compose.wait.yaml").read_text())["services"]["web"]


@pytest.fixture(scope="module")
def docker_host(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_socket(tmp_path_factory.mktemp("socket")) as address:
        yield address


@dataclass
class Updated:
    """A container of a tag that will be rebuilt."""

    containers: Containers
    docker_host: str
    tag: str
    url: str
    web: Container

    def rebuild(self, image: str = "") -> None:
        must("tag", image or self.containers.image, self.tag)

    def watchtower(self) -> str:
        """Let Watchtower look once, at this container only; give what it logged."""
        done = subprocess.run(
            [go_tool(MODULE, VERSION), *ONCE, self.web.name],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_HOST": self.docker_host},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def update(self, image: str = "") -> None:
        before = must("inspect", "--format={{.Id}}", self.web.name)
        self.rebuild(image)
        said = self.watchtower()
        assert "Updated=1" in said, said
        assert must("inspect", "--format={{.Id}}", self.web.name) != before


@pytest.fixture
def updated(containers: Containers, older_image: str, docker_host: str) -> Iterator[Updated]:
    """The older image runs on a database that fits it, with the labels and settings of compose.wait.yaml."""
    url = containers.create_database()
    containers.migrate(url, older_image)
    tag = f"{containers.image}-{secrets.token_hex(4)}:latest"
    must("tag", older_image, tag)
    labels = tuple(f"--label={name}={value}" for name, value in WEB["labels"].items())
    options = (*labels, f"--env=GATE_ON_FAILURE={WEB['environment']['GATE_ON_FAILURE']}")
    web = containers.start(url, image=tag, options=options)
    web.get("/health/ready")
    yield Updated(containers, docker_host, tag, url, web)
    podman("rmi", "--force", tag)


def test_the_incident_the_new_image_is_held_and_heals_when_the_migration_is_applied(updated: Updated) -> None:
    updated.update()
    line = updated.web.await_event("gate.waiting")
    assert line["level"] == "critical"
    assert "drift: db=0002 expected=0003" in line["message"]
    assert updated.web.state("Running") == "true"
    assert "Uvicorn" not in updated.web.logs()
    updated.containers.migrate(updated.url)
    updated.web.await_event("gate.starting")
    assert len(json.loads(updated.web.get("/items"))) == 2


def test_what_the_user_set_stays_and_what_the_image_set_goes(updated: Updated) -> None:
    updated.update()
    container = json.loads(must("inspect", updated.web.name))[0]
    told = container["Config"]["Env"]
    assert f"DATABASE_URL={updated.url}" in told
    assert "GATE_ON_FAILURE=stay" in told
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["Config"]["Labels"][PRE_UPDATE] == "gate check --busy"


def test_with_run_migrations_the_new_image_migrates(updated: Updated) -> None:
    web = updated.containers.start(updated.url, image=updated.tag, RUN_MIGRATIONS="1")
    web.get("/health/ready")
    changed = replace(updated, web=web)
    changed.update()
    assert web.await_event("gate.revision_applied")["revision"] == "0003"
    assert len(json.loads(web.get("/items"))) == 2


def test_a_failed_migration_stays_running_so_that_the_next_image_mends_it(updated: Updated, tmp_path: Path) -> None:
    broken = updated.containers.build_other('raise RuntimeError("broken")', tmp_path)
    stay = ("--env=GATE_ON_FAILURE=stay",)
    web = updated.containers.start(updated.url, image=updated.tag, options=stay, RUN_MIGRATIONS="1")
    web.get("/health/ready")
    changed = replace(updated, web=web)
    changed.update(broken)
    web.await_event("gate.staying")
    assert web.state("Running") == "true"
    changed.update()
    assert len(json.loads(web.get("/items"))) == 2


def test_the_pre_update_hook_puts_an_update_off_while_a_migration_is_at_work(updated: Updated, tmp_path: Path) -> None:
    slow = updated.containers.build_other('op.execute("SELECT pg_sleep(600)")', tmp_path)
    migrating = updated.containers.start(updated.url, image=slow, RUN_MIGRATIONS="1")
    migrating.await_event("gate.revision_started")
    updated.rebuild()
    said = updated.watchtower()
    assert "EX_TEMPFAIL" in said, said
    assert "Updated=0" in said
    migrating.stop()
    assert "Updated=1" in updated.watchtower()


def test_an_entrypoint_that_the_user_set_keeps_bypassing_the_gate_of_every_later_image(updated: Updated) -> None:
    options = ('--entrypoint=["uvicorn"]',)
    command = ("shop.main:app", "--host", "0.0.0.0", "--port", "8000")
    bypassing = updated.containers.start(updated.url, *command, image=updated.tag, options=options)
    bypassing.get("/health")
    changed = replace(updated, web=bypassing)
    changed.update()
    bypassing.await_log("Uvicorn running")
    assert bypassing.event("gate.waiting") is None
