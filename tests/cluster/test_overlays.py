"""The overlays as they are, in a real Kubernetes that enforces the restricted Pod Security Standard."""

from __future__ import annotations

import json

import pytest

from tests.support.cluster import NEW, PASSWORD, Kubectl, Shop, inside

pytestmark = pytest.mark.timeout(900)


def names(shop: Shop) -> list[str]:
    return [pod["metadata"]["name"] for pod in shop.pods("shop")]


def test_the_namespaces_of_these_tests_refuse_a_pod_that_may_do_more(shop: Shop) -> None:
    refused = inside("kubectl", "-n", shop.name, "run", "more", "--image=localhost/pause:1")
    assert refused.returncode == 1
    assert "violates PodSecurity" in refused.stderr


@pytest.mark.parametrize("overlay", ["job", "init-migrate"])
def test_an_overlay_that_migrates_brings_up_all_pods_and_a_second_apply_changes_nothing(
    shop: Shop, overlay: str
) -> None:
    shop.deploy(overlay, NEW)
    shop.await_rollout()
    shop.serves()
    changes = shop.deploy(overlay, NEW).splitlines()
    assert changes
    assert all(line.endswith(" unchanged") for line in changes)
    containers = {"job": ("shop-migrate", "migrate"), "init-migrate": ("shop", "migrate")}
    app, container = containers[overlay]
    events = [event for pod in shop.pods(app) for event in shop.events(pod["metadata"]["name"], container)]
    applied = [event["revision"] for event in events if event["event"] == "gate.revision_applied"]
    assert sorted(applied) == ["0001", "0002", "0003"]


@pytest.mark.parametrize(
    ("overlay", "container"), [("init-wait", "wait"), ("entrypoint", "web"), ("sidecar", "web"), ("job", "wait")]
)
def test_pods_wait_alive_until_somebody_migrates(shop: Shop, overlay: str, container: str) -> None:
    with shop.held_lock():  # which also keeps the Job of the overlay `job` waiting
        shop.deploy(overlay, NEW)
        shop.await_true(lambda: len(names(shop)) == 2)
        waiting = names(shop)
        for pod in waiting:
            shop.await_event(pod, container, "gate.waiting", verdict="EMPTY")
        columns = shop.kubectl("get", "pods", "--selector=app=shop", "--no-headers").splitlines()
        # With the sidecar, a pod counts the two containers that run: gate serve and the server.
        shown = {"init-wait": ("0/1", "Init:0/1"), "job": ("0/1", "Init:0/1"), "sidecar": ("0/2", "Running")}
        assert {tuple(line.split()[1:3]) for line in columns} == {shown.get(overlay, ("0/1", "Running"))}
    if overlay != "job":
        shop.migrate(NEW)
    shop.await_rollout()
    shop.serves()
    assert names(shop) == waiting
    restarts = "{.items[*].status['containerStatuses','initContainerStatuses'][*].restartCount}"
    counts = shop.kubectl("get", "pods", "--selector=app=shop", f"--output=jsonpath={restarts}")
    assert set(counts.split()) == {"0"}


def test_a_sidecar_answers_the_probes_of_a_server_without_its_own_endpoint(shop: Shop) -> None:
    shop.deploy("sidecar", NEW)
    shop.await_true(lambda: len(names(shop)) == 2)
    pod = names(shop)[0]
    path = f"/api/v1/namespaces/{shop.name}/pods/{pod}:8080/proxy"
    shop.await_true(lambda: inside("kubectl", "get", "--raw", f"{path}/health").returncode == 0)
    refused = inside("kubectl", "get", "--raw", f"{path}/health/ready")
    assert (refused.returncode, "ServiceUnavailable" in refused.stderr) == (1, True)
    shop.migrate(NEW)
    shop.await_rollout()
    assert "gate_schema_ready 1.0" in shop.kubectl("get", "--raw", f"{path}/metrics")


def test_a_pod_that_waits_reads_a_rotated_secret_without_a_restart(shop: Shop) -> None:
    shop.deploy("entrypoint", NEW)
    shop.await_true(lambda: len(names(shop)) == 2)
    waiting = names(shop)
    for pod in waiting:
        shop.await_event(pod, "web", "gate.waiting", verdict="EMPTY")
    rotated = shop.url.replace(f":{PASSWORD}@", ":rotated@")
    shop.execute(f"ALTER ROLE {shop.database} PASSWORD 'rotated'")
    for pod in waiting:
        shop.await_event(pod, "web", "gate.waiting", kind="DatabaseUnavailable")
    patch = json.dumps({"stringData": {"url": rotated}})
    Kubectl(shop.name)("patch", "secret", "shop-database", "--patch", patch)
    shop.migrate(NEW)
    shop.await_rollout()
    shop.serves()
    assert names(shop) == waiting
    assert not any(status["restartCount"] for pod in shop.pods("shop") for status in pod["status"]["containerStatuses"])
