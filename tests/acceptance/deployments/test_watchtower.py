"""Watchtower itself, built from its module, updates a container whose tag was rebuilt with a further migration."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests.support.containers import ROOT, Container, Containers, podman_output
from tests.support.docker_socket import docker_socket
from tests.support.docs import log_excerpts
from tests.support.go_tools import go_tool

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

SERVICES = yaml.safe_load((ROOT / "compose.wait.yaml").read_text())["services"]
WEB, WATCHTOWER = SERVICES["web"], SERVICES["watchtower"]
MODULE, VERSION = "github.com/containrrr/watchtower", "v" + WATCHTOWER["image"].rpartition(":")[2]
# As the file has it, but once, without a registry, and with the older API that podman knows.
AS_TOLD = {name: value for name, value in WATCHTOWER["environment"].items() if name != "DOCKER_API_VERSION"}
SERVER = ("uvicorn", "shop.main:app", "--host", "0.0.0.0", "--port", "8000")
ONCE = {f"WATCHTOWER_{name}": "true" for name in ("RUN_ONCE", "NO_PULL", "NO_STARTUP_MESSAGE", "DEBUG")}


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

    def start(self, *command: str, options: tuple[str, ...] = (), **told: str) -> Updated:
        """Start another container of the tag, with the labels and settings of compose.wait.yaml."""
        labels = tuple(f"--label={name}={value}" for name, value in WEB["labels"].items())
        settings = {name: value for name, value in WEB["environment"].items() if name.startswith("GATE_")}
        options = (*labels, *options)
        web = self.containers.start(self.url, *command, image=self.tag, options=options, **settings, **told)
        return replace(self, web=web)

    def rebuild(self, image: str = "") -> None:
        podman_output("tag", image or self.containers.image, self.tag)

    def watchtower(self) -> str:
        """Let Watchtower look once, at this container only; give what it logged."""
        told = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_HOST": self.docker_host}
        done = subprocess.run(
            [go_tool(MODULE, VERSION), self.web.name],
            env={**told, **AS_TOLD, **ONCE},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def update(self, image: str = "") -> None:
        before = podman_output("inspect", "--format={{.Id}}", self.web.name)
        self.rebuild(image)
        said = self.watchtower()
        assert "Updated=1" in said, said
        assert podman_output("inspect", "--format={{.Id}}", self.web.name) != before


@pytest.fixture
def updated(containers: Containers, older_image: str, docker_host: str) -> Updated:
    """The older image serves on a database that fits it."""
    url = containers.create_database()
    containers.migrate(url, older_image)
    tag = f"{containers.image}-{secrets.token_hex(4)}:latest"
    podman_output("tag", older_image, tag)
    containers.images.append(tag)
    started = Updated(containers, docker_host, tag, url, Container("")).start()
    started.web.get("/health/ready")
    return started


def test_the_incident_the_new_image_is_held_and_heals_when_the_migration_is_applied(updated: Updated) -> None:
    updated.update()
    updated.web.await_event("gate.waiting")
    for _, line in log_excerpts("compose", "Watchtower"):
        assert re.search(line, updated.web.logs())
    assert updated.web.state("Running") == "true"
    assert "Uvicorn" not in updated.web.logs()
    updated.containers.migrate(updated.url)
    updated.web.await_event("gate.starting")
    assert len(json.loads(updated.web.get("/items"))) == 2


def test_what_the_user_set_stays_and_what_the_image_set_goes(
    updated: Updated, older_image: str, tmp_path: Path
) -> None:
    colours = {colour: f"{updated.tag.removesuffix(':latest')}-{colour}" for colour in ("old", "new")}
    for colour, base in (("old", older_image), ("new", updated.containers.image)):
        updated.containers.build_from(f"FROM {base}\nENV COLOUR={colour}\n", colours[colour], tmp_path)
    updated.rebuild(colours["old"])
    changed = updated.start(*SERVER, "--no-access-log", options=("--env=SIZE=small",))
    changed.web.await_log("Uvicorn running")
    changed.update(colours["new"])
    container = json.loads(podman_output("inspect", changed.web.name))[0]
    told = container["Config"]["Env"]
    assert {f"DATABASE_URL={updated.url}", "GATE_ON_FAILURE=stay", "SIZE=small", "COLOUR=new"} <= set(told)
    assert "COLOUR=old" not in told
    assert container["Config"]["Cmd"] == [*SERVER, "--no-access-log"]
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["Config"]["Labels"].items() >= WEB["labels"].items()


def test_with_run_migrations_the_new_image_migrates(updated: Updated) -> None:
    changed = updated.start(RUN_MIGRATIONS="1")
    changed.web.await_log("Uvicorn running")
    changed.update()
    assert changed.web.await_event("gate.revision_applied")["revision"] == "0003"
    assert len(json.loads(changed.web.get("/items"))) == 2


def test_a_failed_migration_stays_running_so_that_the_next_image_mends_it(updated: Updated, tmp_path: Path) -> None:
    broken = updated.containers.build_changed('raise RuntimeError("broken")', tmp_path)
    changed = updated.start(RUN_MIGRATIONS="1")
    changed.web.await_log("Uvicorn running")
    changed.update(broken)
    changed.web.await_event("gate.staying")
    assert changed.web.state("Running") == "true"
    changed.update()
    assert len(json.loads(changed.web.get("/items"))) == 2


def test_the_pre_update_hook_puts_an_update_off_while_a_migration_is_at_work(updated: Updated, tmp_path: Path) -> None:
    slow = updated.containers.build_changed('op.execute("SELECT pg_sleep(600)")', tmp_path)
    migrating = updated.containers.start(updated.url, image=slow, RUN_MIGRATIONS="1")
    migrating.await_event("gate.revision_started")
    updated.rebuild()
    said = updated.watchtower()
    assert "EX_TEMPFAIL" in said, said
    assert "Updated=0" in said
    migrating.stop()
    assert "Updated=1" in updated.watchtower()


def test_a_container_that_migrates_is_left_to_finish(updated: Updated, tmp_path: Path) -> None:
    updated.rebuild(updated.containers.build_changed('op.execute("SELECT pg_sleep(600)")', tmp_path))
    changed = updated.start(RUN_MIGRATIONS="1")
    changed.web.await_event("gate.revision_started")
    updated.rebuild()
    said = changed.watchtower()
    assert "EX_TEMPFAIL" in said, said
    assert "gate.migration_interrupted" not in changed.web.logs()
    ended = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'"
    updated.containers.execute(updated.url, f"{ended} AND datname = current_database() AND pid <> pg_backend_pid()")
    changed.web.await_event("gate.staying")
    assert "Updated=1" in changed.watchtower()
    assert len(json.loads(changed.web.get("/items"))) == 2


def test_an_entrypoint_that_the_user_set_keeps_bypassing_the_gate_of_every_later_image(updated: Updated) -> None:
    bypassing = updated.start(*SERVER[1:], options=('--entrypoint=["uvicorn"]',))
    bypassing.web.await_log("Uvicorn running")
    bypassing.update()
    bypassing.web.await_log("Uvicorn running")
    assert bypassing.web.event("gate.waiting") is None
