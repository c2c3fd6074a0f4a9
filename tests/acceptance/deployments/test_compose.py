"""compose.yaml and compose.wait.yaml as they are, with an override that names images which need no registry."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.embedded_postgres import free_port
from tests.support.containers import (
    POSTGRES_IMAGE,
    PYTHON_IMAGE,
    ROOT,
    UTF8,
    Container,
    Containers,
    await_podman,
    podman,
    podman_output,
)
from tests.support.docs import log_excerpts

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]


SLEEPS_ONCE = 'op.execute("SELECT pg_sleep(600 * (to_regclass($$go_on$$) IS NULL)::int)")'
"""A statement of a migration that sleeps until a table exists."""

GO_ON = "CREATE TABLE IF NOT EXISTS go_on ()"
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE state = 'active' AND query LIKE '%pg_sleep(600%' AND pid <> pg_backend_pid()"
)


@dataclass
class Compose:
    """One Compose project."""

    project: str
    files: tuple[Path, ...]
    image: str

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
        self("up", "--detach", **environment)

    def service(self, name: str) -> Container:
        return Container(f"{self.project}_{name}_1")

    def psql(self, statement: str) -> tuple[str, ...]:
        return "exec", self.service("db").name, "psql", "-h", "/tmp", "-U", "shop", "-tAc", statement

    def execute(self, statement: str) -> str:
        return podman_output(*self.psql(statement))

    def start_one_shot(self, image: str) -> Container:
        """Start the service that migrates, with another image than the example's."""
        podman_output("tag", image, self.image)
        self("up", "--detach", "--no-build", "db", "migrate")
        return self.service("migrate")

    def healthy(self, name: str) -> bool:
        """What the service's own health check says now; podman runs it by itself only where there is systemd."""
        return podman("healthcheck", "run", self.service(name).name).returncode == 0


@pytest.fixture
def compose(containers: Containers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Compose]:
    tag = f"{containers.image}-by-compose-{secrets.token_hex(4)}"  # a test may put another image in its place
    containers.images.append(tag)
    images: dict[str, Any] = {}
    tenants = ""
    # Built at the first `up`, as for a user, but from the cache.
    for service, told in yaml.safe_load((ROOT / request.param).read_text())["services"].items():
        if told["image"] == "shop":
            images[service] = {"image": tag}
        if told["image"] == "shop-tenants":
            images[service] = {"image": tenants or (tenants := containers.build_tenants(tmp_path / "tenants"))}
        if "build" in told:
            images[service]["build"] = {"context": told["build"], "args": {"PYTHON_IMAGE": PYTHON_IMAGE}}
    database = {"image": POSTGRES_IMAGE, "environment": {"LC_ALL": UTF8}}
    (tmp_path / "standins.yaml").write_text(json.dumps({"services": {"db": database, **images}}))  # JSON is YAML
    files = (ROOT / request.param, tmp_path / "standins.yaml")
    project = Compose(f"gate-test-{secrets.token_hex(4)}", files, tag)
    yield project
    project("--profile=migrate", "--profile=post-deploy", "down", "--volumes", "--timeout=0")


@pytest.mark.parametrize("file", ["compose.yaml", "compose.wait.yaml", "compose.tenants.yaml"])
def test_every_service_of_the_image_is_confined_and_waits_for_a_stamp(file: str) -> None:
    services = yaml.safe_load((ROOT / file).read_text())["services"]
    ours = {name: service for name, service in services.items() if service["image"] in {"shop", "shop-tenants"}}
    assert set(ours) - {"post-deploy"} == {"migrate", "web"}
    for service in ours.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["environment"]["GATE_ON_UNSTAMPED"] == "wait"
    assert not {"entrypoint", "command"} & set(ours["web"])
    assert "/health/ready" in ours["web"]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("compose", ["compose.yaml"], indirect=True)
def test_the_server_starts_after_the_one_shot_has_migrated(compose: Compose) -> None:
    compose.up()
    assert compose.service("migrate").state("ExitCode") == "0"
    web = compose.service("web")
    web.await_event("gate.starting")
    assert web.event("gate.waiting") is None
    for service, line in log_excerpts("compose", "A one-shot migration service"):
        assert re.search(line, compose.service(service).logs())
    assert len(json.loads(web.get("/items"))) == 2
    await_podman(lambda: compose.healthy("web"), web.logs)
    status = podman_output("exec", web.name, "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert podman_output("inspect", "--format={{.HostConfig.ReadonlyRootfs}}", web.name) == "true"


@pytest.mark.parametrize(
    ("compose", "command"),
    [
        ("compose.yaml", ("--profile=post-deploy", "run", "--rm", "post-deploy")),
        ("compose.wait.yaml", ("--profile=migrate", "run", "--rm", "migrate", "--post-deploy")),
    ],
    indirect=["compose"],
)
def test_what_may_wait_is_applied_by_a_service_of_its_own(
    compose: Compose, command: tuple[str, ...], containers: Containers, tmp_path: Path
) -> None:
    containers.build_contracting(compose.image, tmp_path / "contracting")
    compose("up", "--detach", "--no-build", RUN_MIGRATIONS="1")
    web = compose.service("web")
    assert "(0004)" in web.await_event("gate.deferred")["message"]
    assert json.loads(web.get("/health/ready"))["verdict"] == "DEFERRED"
    compose(*command)
    done = podman_output("exec", web.name, "gate", "check")
    assert done.startswith("CURRENT drift: db=0004 expected=0003")
    assert len(json.loads(web.get("/items"))) == 2


@pytest.mark.parametrize("compose", ["compose.yaml"], indirect=True)
def test_the_one_shot_is_tried_again_after_the_database_went_away(
    compose: Compose, containers: Containers, tmp_path: Path
) -> None:
    migrate = compose.start_one_shot(containers.build_changed(SLEEPS_ONCE, tmp_path))
    migrate.await_event("gate.revision_started", lambda event: event["revision"] == "0003")
    compose.execute(GO_ON)
    await_podman(lambda: compose.execute(TERMINATE) == "t", migrate.logs)
    migrate.await_event("gate.migrated")
    await_podman(lambda: (migrate.state("Status"), migrate.state("ExitCode")) == ("exited", "0"), migrate.logs)
    assert [event["kind"] for event in migrate.events() if event["event"] == "gate.failed"] == ["DatabaseLost"]
    assert compose.execute("SELECT version_num FROM alembic_version") == "0003"


@pytest.mark.parametrize("compose", ["compose.yaml"], indirect=True)
def test_a_one_shot_that_fails_is_repeated_three_times_and_then_given_up(
    compose: Compose, containers: Containers, tmp_path: Path
) -> None:
    migrate = compose.start_one_shot(containers.build_changed('raise RuntimeError("broken")', tmp_path))

    def failures() -> list[str]:
        return [event["kind"] for event in migrate.events() if event["event"] == "gate.failed"]

    for tries in range(1, 5):
        await_podman(partial(lambda tries: len(failures()) >= tries, tries), migrate.logs)
    await_podman(lambda: migrate.state("Status") == "exited", migrate.logs)
    assert migrate.state("ExitCode") == "65"
    assert failures() == ["MigrationFailed"] * 4


@pytest.mark.parametrize("compose", ["compose.yaml"], indirect=True)
def test_a_restart_of_the_database_kills_no_server(compose: Compose) -> None:
    compose.up()
    web = compose.service("web")
    before = podman_output("inspect", "--format={{.State.StartedAt}}", web.name)
    assert len(json.loads(web.get("/items"))) == 2
    podman_output("restart", "--time=1", compose.service("db").name)
    await_podman(lambda: compose.healthy("web"), web.logs)
    assert podman_output("inspect", "--format={{.State.StartedAt}}", web.name) == before


@pytest.mark.parametrize("compose", ["compose.wait.yaml"], indirect=True)
def test_the_server_waits_by_itself_until_somebody_migrates(compose: Compose) -> None:
    compose.up()
    web = compose.service("web")
    web.await_event("gate.waiting", lambda event: event.get("verdict") == "EMPTY")
    assert json.loads(web.get("/health"))
    assert not compose.healthy("web")
    compose("--profile=migrate", "run", "--rm", "migrate")
    web.await_event("gate.starting")
    await_podman(lambda: compose.healthy("web"), web.logs)
    assert len(json.loads(web.get("/items"))) == 2


@pytest.mark.parametrize("compose", ["compose.wait.yaml"], indirect=True)
def test_the_server_migrates_by_itself_if_told_so(compose: Compose) -> None:
    compose.up(RUN_MIGRATIONS="1")
    web = compose.service("web")
    web.await_event("gate.migrated")
    await_podman(lambda: compose.healthy("web"), web.logs)


def _ended_well(container: Container) -> bool:
    return (container.state("Status"), container.state("ExitCode")) == ("exited", "0")


@pytest.mark.parametrize("compose", ["compose.tenants.yaml"], indirect=True)
def test_two_containers_share_the_schemas_of_the_tenants(compose: Compose) -> None:
    compose("up", "--detach", "db")
    await_podman(lambda: "1" in podman(*compose.psql("SELECT 1")).stdout, compose.service("db").logs)
    tenants = [f"tenant_{number:02}" for number in range(24)]
    compose.execute("; ".join(f"CREATE SCHEMA {name}" for name in tenants))
    compose("up", "--detach", "--scale", "migrate=2", "migrate")
    both = [Container(f"{compose.project}_migrate_{number}") for number in (1, 2)]
    for each in both:
        await_podman(partial(_ended_well, each), each.logs)
    shares = [[event["schema"] for event in c.events() if event["event"] == "gate.schema_migrated"] for c in both]
    assert all(shares), "both had a share"
    assert sorted(shares[0] + shares[1]) == tenants
    compose.up()
    assert json.loads(compose.service("web").get("/health/ready"))["verdict"] == "CURRENT"
