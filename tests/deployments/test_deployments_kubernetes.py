"""k8s/: each overlay built, held to two versions of the API's schema and to the restricted standard, and played.

`podman kube play` is no cluster. What it cannot do is changed before (`playable`): a Deployment becomes a Pod that
ends, the Secret a folder with the same owner and mode, the native sidecar an ordinary container; probes and ports go.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.containers import ROOT, Container, Containers, must, podman
from tests.support.go_tools import go_tool
from tests.support.programs import await_true

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

OVERLAYS = ("entrypoint", "init-wait", "init-migrate", "job", "sidecar")
NATIVE_SIDECARS = "1.29"
GROUP = 10001
Resource = dict[str, Any]


@cache
def kustomize() -> tuple[str, ...]:
    """What builds an overlay: kubectl, else kustomize itself from its Go module."""
    if shutil.which("kubectl"):
        return ("kubectl", "kustomize")
    return (go_tool("sigs.k8s.io/kustomize/kustomize/v5", "v5.5.0"), "build")


@cache
def built(folder: Path) -> tuple[Resource, ...]:
    done = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def overlay(name: str) -> tuple[Resource, ...]:
    return built(ROOT / "k8s" / "overlays" / name)


def one(resources: tuple[Resource, ...], kind: str) -> Resource:
    return next(resource for resource in resources if resource["kind"] == kind)


def pods(resources: tuple[Resource, ...]) -> list[Resource]:
    return [resource["spec"]["template"]["spec"] for resource in resources if "template" in resource["spec"]]


def containers_of(pod: Resource) -> list[Resource]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_is_valid_for_kubernetes_1_29_and_the_newest(name: str) -> None:
    for resource in overlay(name):
        for version in (NATIVE_SIDECARS, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(deepcopy(resource), version, strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_keeps_to_the_restricted_standard(name: str) -> None:
    for pod in pods(overlay(name)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in containers_of(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own["readOnlyRootFilesystem"] is True
            assert "limits" in container["resources"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_reads_the_secret_as_its_group_and_waits_for_a_stamp(name: str) -> None:
    for pod in pods(overlay(name)):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["database"]["secret"]["defaultMode"] == 0o440
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        assert volumes["tmp"] == {"name": "tmp", "emptyDir": {}}
        for container in containers_of(pod):
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            told = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert told["DATABASE_URL_FILE"] == f"{mounts['database']}/url"
            assert mounts["tmp"] == "/tmp"
            assert "serve" in container.get("command", []) or told["GATE_ON_UNSTAMPED"] == "wait"


@pytest.mark.parametrize("name", OVERLAYS)
def test_one_tag_names_the_image_of_server_gate_and_job(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    kustomization = tmp_path / "k8s" / "overlays" / name / "kustomization.yaml"
    text = kustomization.read_text()
    assert text.count("1.0.0") == 1
    kustomization.write_text(text.replace("1.0.0", "2.3.4"))
    resources = built(kustomization.parent)
    images = {container["image"] for pod in pods(resources) for container in containers_of(pod)}
    assert images == {"registry.example.com/shop:2.3.4"}
    for resource in resources:
        if resource["kind"] == "Job":
            assert resource["metadata"]["name"] == "shop-migrate-2.3.4"


def test_sidecar_is_a_native_one() -> None:
    (sidecar,) = one(overlay("sidecar"), "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["command"][:2] == ["gate", "serve"]


# ---- played

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
    running: ExitStack = field(default_factory=ExitStack)

    def playable(self, name: str, pod: Resource, change: Change) -> Resource:
        pod = deepcopy(pod)
        pod["restartPolicy"] = "Never"
        folder = {"path": str(self.secret), "type": "Directory"}
        pod["volumes"] = [{"name": "database", "hostPath": folder}, {"name": "tmp", "emptyDir": {}}]
        change(pod)
        for container in containers_of(pod):
            container["image"] = f"{self.containers.image}:latest"
            # podman would publish the ports on this machine, and has no timer for the probes.
            for left_out in ("ports", "livenessProbe", "readinessProbe", "startupProbe"):
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
        playing = threading.Thread(target=lambda: done.append(podman(*command, within=300)))
        playing.start()
        self.running.callback(playing.join)
        self.running.callback(podman, "pod", "rm", "--force", "--time=0", name)

        def find(container: str) -> Container:
            found = Container(f"{name}-{container}")
            started = ("inspect", "--format={{.State.StartedAt.Year}}", found.name)
            await_true(lambda: podman(*started).stdout.strip() not in {"", "1"}, lambda: f"{found.name}: {done}")
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


def serves(web: Container) -> None:
    assert len(json.loads(web.get("/items"))) == 2
    assert json.loads(web.get("/health/ready"))["verdict"] == "CURRENT"


def test_entrypoint_waits_alive_but_not_ready_until_somebody_migrates(player: Player) -> None:
    web = player.play(one(overlay("entrypoint"), "Deployment"))("web")
    web.await_event("gate.waiting")
    assert json.loads(web.get("/health"))
    assert "503" in web.try_to_get("/health/ready").stderr
    player.containers.migrate(player.url)
    web.await_event("gate.starting")
    serves(web)


def test_init_wait_holds_the_pod_and_the_job_lets_it_go(player: Player) -> None:
    pod = player.play(one(overlay("job"), "Deployment"))
    waiting = pod("wait")
    waiting.await_event("gate.waiting")
    assert must("exec", waiting.name, "stat", "-c", "%u:%g %a", "/run/secrets/database/url") == f"0:{GROUP} 440"
    assert must("exec", waiting.name, "id", "-u") == str(GROUP)
    job = player.play(one(overlay("job"), "Job"))("migrate")
    await_true(lambda: ended_well(job), job.logs)
    assert job.event("gate.migrated")
    await_true(lambda: ended_well(waiting), waiting.logs)
    serves(pod("web"))


def test_init_wait_alone_goes_when_somebody_migrates(player: Player) -> None:
    pod = player.play(one(overlay("init-wait"), "Deployment"))
    pod("wait").await_event("gate.waiting")
    player.containers.migrate(player.url)
    serves(pod("web"))


def test_init_migrate_migrates_once_for_two_pods(player: Player) -> None:
    deployment = one(overlay("init-migrate"), "Deployment")
    pods_ = [player.play(deployment) for _ in range(deployment["spec"]["replicas"])]
    for pod in pods_:
        serves(pod("web"))
    applied = [event for pod in pods_ for event in pod("migrate").events() if event["event"] == "gate.revision_applied"]
    assert sorted(event["revision"] for event in applied) == ["0001", "0002", "0003"]


def test_sidecar_tells_readiness_beside_the_server(player: Player) -> None:
    def ordinary(pod: Resource) -> None:
        pod["containers"] += pod.pop("initContainers")

    pod = player.play(one(overlay("sidecar"), "Deployment"), ordinary)
    sidecar = pod("gate")
    assert json.loads(sidecar.get("/health", port=8080)) == {"status": "ok"}
    assert "503" in sidecar.try_to_get("/health/ready", port=8080).stderr
    player.containers.migrate(player.url)
    assert json.loads(sidecar.get("/health/ready", port=8080))["verdict"] == "CURRENT"
    assert "gate_schema_ready 1.0" in sidecar.get("/metrics", port=8080)
    serves(pod("web"))


def test_termination_message_of_a_refused_job_is_the_verdict(player: Player) -> None:
    def told(pod: Resource) -> None:
        pod["containers"][0]["env"].append({"name": "GATE_TERMINATION_LOG", "value": "/tmp/termination-log"})
        pod["volumes"][1] = {"name": "tmp", "hostPath": {"path": str(player.folder / "tmp"), "type": "Directory"}}

    # A cluster mounts a file of this container at /dev/termination-log; podman does not, so it is named.
    (player.folder / "tmp").mkdir()
    (player.folder / "tmp").chmod(0o1777)
    player.containers.execute(player.url, "CREATE TABLE alembic_version (version_num text)")
    player.containers.execute(player.url, "INSERT INTO alembic_version VALUES ('0001'), ('elsewhere')")
    job = player.play(one(overlay("job"), "Job"), told)("migrate")
    assert job.wait() == 76
    message = (player.folder / "tmp" / "termination-log").read_text()
    assert "elsewhere" in message
    assert "parted" in message
