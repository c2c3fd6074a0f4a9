"""k8s/: the pods of each overlay, played.

`podman kube play` is no cluster (tests/cluster has one). What it cannot do is changed before (`playable`): a Deployment
becomes a Pod that ends, the Secret a folder with the same owner and mode, the native sidecar an ordinary container;
probes, ports and preStop go.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.support.containers import Container, Containers, await_podman, podman, podman_output
from tests.support.docs import log_excerpts
from tests.support.manifests import Resource, containers_of, overlay, resource_of_kind

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

GROUP = 10001
KEPT = {"io.podman.annotations.init.container.type": "always"}
"""Else podman removes an init container that has ended."""

Change = Callable[[Resource], None]


@dataclass
class Player:
    """Plays pods of the overlays beside one database."""

    containers: Containers
    secret: Path
    url: str
    folder: Path
    image: str = ""
    running: ExitStack = field(default_factory=ExitStack)

    def playable(self, name: str, pod: Resource, change: Change) -> Resource:
        pod = deepcopy(pod)
        pod["restartPolicy"] = "Never"
        folder = {"path": str(self.secret), "type": "Directory"}
        pod["volumes"] = [{"name": "database", "hostPath": folder}, {"name": "tmp", "emptyDir": {}}]
        change(pod)
        for container in containers_of(pod):
            container["image"] = f"{self.image or self.containers.image}:latest"
            # podman would publish the ports on this machine, and has no timer for the probes.
            for left_out in ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
                container.pop(left_out, None)
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": KEPT}, "spec": pod}

    def play(self, resource: Resource, change: Change = lambda _: None) -> Callable[[str], Container]:
        """Play one pod; give what finds its containers by their names."""
        name = f"{self.containers.token}-pod-{secrets.token_hex(4)}"
        manifest = self.folder / f"{name}.json"  # JSON is YAML
        manifest.write_text(json.dumps(self.playable(name, resource["spec"]["template"]["spec"], change)))
        # It returns when the init containers have ended, which is what some of them wait for.
        command = ("kube", "play", f"--network={self.containers.token}", str(manifest))
        done: list[subprocess.CompletedProcess[str]] = []
        playing = threading.Thread(target=lambda: done.append(podman(*command, timeout=300)))
        playing.start()
        self.running.callback(playing.join)
        self.running.callback(podman, "pod", "rm", "--force", "--time=0", name)

        def find(container: str) -> Container:
            found = Container(f"{name}-{container}")
            started = ("inspect", "--format={{.State.StartedAt.Year}}", found.name)
            await_podman(lambda: podman(*started).stdout.strip() not in {"", "1"}, lambda: f"{found.name}: {done}")
            return found

        return find


@pytest.fixture
def player(containers: Containers, tmp_path: Path) -> Iterator[Player]:
    if os.geteuid():
        pytest.skip("only root can give a file to the group of the Secret")
    url = containers.create_database()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "url").write_text(url + "\n")
    (secret / "url").chmod(0o440)
    os.chown(secret / "url", 0, GROUP)
    made = Player(containers, secret, url, tmp_path)
    with made.running:
        yield made


def ended_well(container: Container) -> bool:
    return (container.state("Status"), container.state("ExitCode")) == ("exited", "0")


def serves(web: Container, verdict: str = "CURRENT") -> None:
    assert len(json.loads(web.get("/items"))) == 2
    assert json.loads(web.get("/health/ready"))["verdict"] == verdict


def test_entrypoint_waits_alive_but_not_ready_until_somebody_migrates(player: Player) -> None:
    deployment = resource_of_kind(overlay("entrypoint"), "Deployment")
    (spec,) = deployment["spec"]["template"]["spec"]["containers"]
    alive, ready = (spec[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe"))
    web = player.play(deployment)("web")
    web.await_event("gate.waiting")
    web.get(alive)
    assert "503" in web.try_to_get(ready).stderr
    player.containers.migrate(player.url)
    web.await_event("gate.starting")
    serves(web)


def test_a_lost_database_kills_no_server(player: Player) -> None:
    deployment = resource_of_kind(overlay("entrypoint"), "Deployment")
    (spec,) = deployment["spec"]["template"]["spec"]["containers"]
    player.containers.migrate(player.url)
    web = player.play(deployment)("web")
    serves(web)
    player.containers.block_connections(player.url)
    await_podman(lambda: "500" in web.try_to_get("/items").stderr, web.logs)
    for probe in ("livenessProbe", "readinessProbe"):
        web.get(spec[probe]["httpGet"]["path"])


def test_init_wait_holds_the_pod_and_the_job_lets_it_go(player: Player) -> None:
    pod = player.play(resource_of_kind(overlay("job"), "Deployment"))
    waiting = pod("wait")
    waiting.await_event("gate.waiting")
    assert (
        podman_output("exec", waiting.name, "stat", "-c", "%u:%g %a", "/run/secrets/database/url") == f"0:{GROUP} 440"
    )
    assert podman_output("exec", waiting.name, "id", "-u") == str(GROUP)
    assert (
        podman_output("exec", waiting.name, "sh", "-c", "touch /tmp/written; touch /written || echo read-only")
        == "read-only"
    )
    job = player.play(resource_of_kind(overlay("job"), "Job"))("migrate")
    await_podman(lambda: ended_well(job), job.logs)
    assert job.event("gate.migrated")
    await_podman(lambda: ended_well(waiting), waiting.logs)
    for _, line in log_excerpts("kubernetes", "A migration Job"):
        assert re.search(line, waiting.logs())
    serves(pod("web"))


def test_the_second_job_applies_what_may_wait_after_the_pods_serve(player: Player) -> None:
    image = player.containers.build_contracting(f"{player.containers.image}-contracting", player.folder / "image")
    player.image = image
    pod = player.play(resource_of_kind(overlay("job"), "Deployment"))
    job = player.play(resource_of_kind(overlay("job"), "Job"))("migrate")
    await_podman(lambda: ended_well(job), job.logs)
    assert "(0004)" in (job.event("gate.migrated") or {})["message"]
    serves(pod("web"), "DEFERRED")
    second = player.play(resource_of_kind(overlay("post-deploy"), "Job"))("migrate")
    await_podman(lambda: ended_well(second), second.logs)
    assert player.containers.execute(player.url, "SELECT version_num FROM alembic_version") == "0004"
    assert len(json.loads(pod("web").get("/items"))) == 2


def test_init_wait_alone_goes_when_somebody_migrates(player: Player) -> None:
    pod = player.play(resource_of_kind(overlay("init-wait"), "Deployment"))
    pod("wait").await_event("gate.waiting")
    player.containers.migrate(player.url)
    serves(pod("web"))


def test_init_migrate_migrates_once_for_two_pods(player: Player) -> None:
    deployment = resource_of_kind(overlay("init-migrate"), "Deployment")
    pods_ = [player.play(deployment) for _ in range(deployment["spec"]["replicas"])]
    for pod in pods_:
        serves(pod("web"))
    applied = [event for pod in pods_ for event in pod("migrate").events() if event["event"] == "gate.revision_applied"]
    assert sorted(event["revision"] for event in applied) == ["0001", "0002", "0003"]
    limit = podman_output("inspect", "--format={{.HostConfig.Memory}}", pods_[0]("migrate").name)
    assert limit == str(256 * 2**20)


def test_two_pods_share_the_schemas_of_the_tenants_and_the_server_waits_for_all(player: Player, tmp_path: Path) -> None:
    player.image = player.containers.build_tenants(tmp_path / "image")
    tenants = [f"tenant_{number:02}" for number in range(24)]
    for name in tenants:
        player.containers.execute(player.url, f"CREATE SCHEMA {name}")
    server = player.play(resource_of_kind(overlay("tenants"), "Deployment"))
    waiting = server("wait")
    waiting.await_event("gate.waiting")
    job = resource_of_kind(overlay("tenants"), "Job")
    pods = [player.play(job)("migrate") for _ in range(2)]
    for pod in pods:
        await_podman(partial(ended_well, pod), pod.logs)
    shares = [[event["schema"] for event in pod.events() if event["event"] == "gate.schema_migrated"] for pod in pods]
    assert all(shares), "both had a share"
    assert sorted(shares[0] + shares[1]) == tenants
    await_podman(lambda: ended_well(waiting), waiting.logs)
    assert json.loads(server("web").get("/health/ready"))["verdict"] == "CURRENT"


def test_sidecar_tells_readiness_beside_the_server(player: Player) -> None:
    def ordinary(pod: Resource) -> None:
        pod["containers"] += pod.pop("initContainers")

    pod = player.play(resource_of_kind(overlay("sidecar"), "Deployment"), ordinary)
    sidecar = pod("gate")
    assert json.loads(sidecar.get("/health", port=8080)) == {"status": "ok"}
    assert "503" in sidecar.try_to_get("/health/ready", port=8080).stderr
    player.containers.migrate(player.url)
    assert json.loads(sidecar.get("/health/ready", port=8080))["verdict"] == "CURRENT"
    assert "gate_schema_ready 1.0" in sidecar.get("/metrics", port=8080)
    serves(pod("web"))


def test_termination_message_of_a_refused_job_is_the_verdict(player: Player) -> None:
    # A cluster mounts a file of this container there, and podman does not.
    message = player.folder / "termination-log"
    message.touch()
    message.chmod(0o666)

    def mounted(pod: Resource) -> None:
        pod["volumes"].append({"name": "message", "hostPath": {"path": str(message), "type": "File"}})
        pod["containers"][0]["volumeMounts"].append({"name": "message", "mountPath": "/dev/termination-log"})

    player.containers.execute(player.url, "CREATE TABLE alembic_version (version_num text)")
    player.containers.execute(player.url, "INSERT INTO alembic_version VALUES ('0001'), ('elsewhere')")
    job = player.play(resource_of_kind(overlay("job"), "Job"), mounted)("migrate")
    assert job.wait() == 76
    assert "elsewhere" in message.read_text()
    assert "diverged" in message.read_text()
