"""k8s/: each overlay built, held to two versions of the API's schema and to the restricted standard."""

from __future__ import annotations

import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from gate.errors import BadScripts, BadSettings, DatabaseLost, LockTimeout, MigrationFailed, Refused
from tests.support.containers import ROOT
from tests.support.manifests import (
    Resource,
    build_overlay,
    containers_of,
    kustomize,
    overlay,
    pod_specs,
    resource_of_kind,
)

# One worker for all of them, so that kustomize is built once.
pytestmark = [pytest.mark.xdist_group("manifests"), pytest.mark.timeout(600)]

OVERLAYS = sorted(path.name for path in (ROOT / "k8s" / "overlays").iterdir())
DEPLOYMENTS = [name for name in OVERLAYS if name != "post-deploy"]
"""Those with the server; the other one is a Job only."""

JOBS = {"job": "shop-migrate", "post-deploy": "shop-post-deploy", "tenants": "shop-migrate"}
"""Overlay -> the name of its Job before the tag."""

NATIVE_SIDECARS = "1.29"
WEEK = 7 * 24 * 60 * 60


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_is_valid_for_kubernetes_1_29_and_the_newest(name: str) -> None:
    for resource in overlay(name):
        for version in (NATIVE_SIDECARS, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(deepcopy(resource), version, strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_keeps_to_the_restricted_standard(name: str) -> None:
    for pod in pod_specs(overlay(name)):
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
    for pod in pod_specs(overlay(name)):
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


@pytest.mark.parametrize(
    ("image", "index"), [("your-registry/shop:2.3.4", 1), ("registry.example.com:5000/shop:2.3.4", 2)]
)
@pytest.mark.parametrize("name", OVERLAYS)
def test_one_command_names_the_image_of_server_gate_and_job(name: str, image: str, index: int, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    folder = tmp_path / "k8s" / "overlays" / name
    kustomization = folder / "kustomization.yaml"
    assert kustomization.read_text().count("1.0.0") == 1
    subprocess.run([kustomize(), "edit", "set", "image", f"shop={image}"], cwd=folder, check=True, timeout=60)
    kustomization.write_text(kustomization.read_text().replace("index: 1", f"index: {index}"))
    resources = build_overlay(folder)
    assert {container["image"] for pod in pod_specs(resources) for container in containers_of(pod)} == {image}
    for resource in resources:
        if resource["kind"] == "Job":
            assert resource["metadata"]["name"] == f"{JOBS[name]}-2.3.4"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_liveness_probe_asks_for_the_schema_and_a_readiness_probe_does(name: str) -> None:
    (pod,) = (pod for pod in pod_specs(overlay(name)) if "restartPolicy" not in pod)
    ready = [container["readinessProbe"]["httpGet"]["path"] for container in probed(pod, "readinessProbe")]
    assert "/health/ready" in ready
    assert {container["livenessProbe"]["httpGet"]["path"] for container in probed(pod, "livenessProbe")} == {"/health"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_liveness_begins_when_the_server_answers_and_no_probe_ends_a_wait(name: str) -> None:
    web = server_of(name)
    probe = web["startupProbe"]
    # The placeholder answers /health while gate waits, and /health/ready with 503.
    assert probe["httpGet"]["path"] == ("/health/ready" if placeholder_of(web) else "/health")
    assert probe["httpGet"]["port"] == "http"
    assert probe["periodSeconds"] * probe["failureThreshold"] == WEEK
    assert probe["periodSeconds"] <= 5


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_server_is_asked_for_five_more_seconds_and_then_has_time_to_end(name: str) -> None:
    assert server_of(name)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    (pod,) = (pod for pod in pod_specs(overlay(name)) if "restartPolicy" not in pod)
    assert pod["terminationGracePeriodSeconds"] >= 5 + 20


def test_the_pause_of_kubernetes_1_29_is_a_command_and_valid_there() -> None:
    comment = re.search(r"For 1\.29: +(exec: .*)", (ROOT / "k8s" / "base" / "deployment.yaml").read_text())
    assert comment
    assert comment[1] in (ROOT / "docs" / "kubernetes.md").read_text()
    deployment = deepcopy(resource_of_kind(overlay("job"), "Deployment"))
    (web,) = deployment["spec"]["template"]["spec"]["containers"]
    web["lifecycle"]["preStop"] = yaml.safe_load(comment[1])
    kubernetes_validate.validate(deployment, NATIVE_SIDECARS, strict=True)


def server_of(name: str) -> Resource:
    web: Resource
    (web,) = resource_of_kind(overlay(name), "Deployment")["spec"]["template"]["spec"]["containers"]
    return web


def placeholder_of(container: Resource) -> str | None:
    return next((each["value"] for each in container["env"] if each["name"] == "GATE_PLACEHOLDER"), None)


def probed(pod: Resource, kind: str) -> list[Resource]:
    return [container for container in containers_of(pod) if kind in container]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_may_wait_and_takes_no_older_one_away(name: str) -> None:
    deployment = resource_of_kind(overlay(name), "Deployment")["spec"]
    assert deployment["replicas"] > 1
    # Without its type every identical `apply` would report a change.
    assert deployment["strategy"]["type"] == "RollingUpdate"
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    for pod in pod_specs(overlay(name)):
        assert pod["terminationGracePeriodSeconds"] == 30
        for container in containers_of(pod):
            assert "GATE_TIMEOUT" not in {variable["name"] for variable in container["env"]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_the_second_job_applies_what_may_wait(name: str) -> None:
    texts = [str(container) for pod in pod_specs(overlay(name)) for container in containers_of(pod)]
    assert not any("GATE_POST_DEPLOY" in text for text in texts)
    assert any("--post-deploy" in text for text in texts) is (name == "post-deploy")


def test_the_second_job_is_the_first_one_with_an_option() -> None:
    first, second = (resource_of_kind(overlay(name), "Job") for name in ("job", "post-deploy"))
    assert overlay("post-deploy") == (second,)
    (container,) = second["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["gate", "migrate", "--post-deploy"]
    container = {**container, "command": ["gate", "migrate"]}
    assert [container] == first["spec"]["template"]["spec"]["containers"]
    assert second["spec"]["template"]["metadata"]["labels"] == {"app": "shop-post-deploy"}


@pytest.mark.parametrize("name", JOBS)
def test_job_is_not_tried_again_after_what_only_a_person_can_mend(name: str) -> None:
    job = resource_of_kind(overlay(name), "Job")["spec"]
    assert "activeDeadlineSeconds" not in job
    assert job["backoffLimit"] >= 3
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    failing = next(rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert failing["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert failing["values"] == sorted(
        {error.exit_code for error in (MigrationFailed, Refused, BadSettings, BadScripts)}
    )
    assert not {DatabaseLost.exit_code, LockTimeout.exit_code} & {*failing["values"]}


def test_the_pods_for_tenants_are_those_of_the_job_with_more_of_them_and_the_schemas() -> None:
    first, second = (resource_of_kind(overlay(name), "Job")["spec"] for name in ("job", "tenants"))
    assert second["parallelism"] == 10
    assert "completions" not in second  # the first pod that succeeds has found every schema migrated
    assert second["podFailurePolicy"] == first["podFailurePolicy"]
    (container,) = second["template"]["spec"]["containers"]
    assert container["command"] == ["gate", "migrate", "--jobs", "4"]
    for pod in pod_specs(overlay("tenants")):
        for each in containers_of(pod):
            assert {"name": "GATE_SCHEMAS", "value": "tenant_*"} in each["env"]


def test_sidecar_is_a_native_one() -> None:
    (sidecar,) = resource_of_kind(overlay("sidecar"), "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["command"][:2] == ["gate", "serve"]
