"""A rollout in a real Kubernetes: no request is lost, and no probe ends a wait or a slow start."""

from __future__ import annotations

import json

import pytest

from tests.support.cluster import LATE, NEW, OLD, SLOW, Shop
from tests.support.docs import PAGES
from tests.support.manifests import Resource

pytestmark = pytest.mark.timeout(900)

MIGRATES = {"job", "init-migrate"}
"""The overlays in which a part of the deployment migrates."""

IMPATIENT: Resource = {
    "kind": "Deployment",
    "patch": [
        {"op": "replace", "path": f"/spec/template/spec/containers/0/livenessProbe/{name}", "value": value}
        for name, value in {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2}.items()
    ],
}
"""Kills a server that takes more than two seconds to start, if it applies while the server starts."""


def deploy(shop: Shop, overlay: str, tag: str, *patches: Resource) -> None:
    shop.deploy(overlay, tag, *patches)
    if overlay not in MIGRATES:
        shop.migrate(tag)
    shop.await_rollout()


@pytest.mark.parametrize("overlay", ["job", "init-migrate", "entrypoint", "sidecar"])
def test_no_request_is_lost_while_a_slow_migration_is_rolled_out(shop: Shop, overlay: str) -> None:
    deploy(shop, overlay, OLD)
    with shop.client("/items") as client:
        deploy(shop, overlay, SLOW)
        shop.kubectl("rollout", "restart", "deployment/shop")
        shop.await_rollout()
    assert client.failures == []
    # The images differ in this field. Both have answered.
    new = client.received('"stock"')
    assert 0 < new < client.answers.total()
    assert client.answers.total() > 100


@pytest.mark.parametrize("overlay", ["entrypoint", "sidecar"])
def test_no_probe_kills_a_server_that_waits_for_its_schema_and_then_starts_late(shop: Shop, overlay: str) -> None:
    shop.deploy(overlay, LATE, IMPATIENT)
    shop.await_true(lambda: len(shop.pods("shop")) == 2)
    first, second = (pod["metadata"]["name"] for pod in shop.pods("shop"))
    for pod in (first, second):
        shop.await_event(pod, "web", "gate.waiting", verdict="EMPTY")
    assert not any(ready(pod) for pod in shop.pods("shop"))
    shop.migrate(NEW)
    shop.await_rollout()
    shop.serves()
    assert [pod["metadata"]["name"] for pod in shop.pods("shop")] == [first, second]
    assert not any(status["restartCount"] for pod in shop.pods("shop") for status in statuses(pod))
    assert "failed liveness probe" not in shop.kubectl("get", "events", "--field-selector=reason=Killing")


def test_rollout_status_does_not_wait_for_pods_that_end(shop: Shop) -> None:
    deploy(shop, "job", OLD)
    shop.deploy("job", NEW)
    shop.run_documented("kubectl rollout status deployment/shop --timeout=30m", {})
    ending = [pod for pod in shop.pods("shop") if "deletionTimestamp" in pod["metadata"]]
    assert ending
    assert {pod["metadata"]["deletionGracePeriodSeconds"] for pod in ending} == {30}
    assert "rollout status deployment/shop --timeout=30m && sleep 30\n" in PAGES["zero-downtime"]


def test_old_pods_serve_on_while_the_new_ones_wait(shop: Shop) -> None:
    deploy(shop, "init-wait", OLD)
    with shop.client("/items") as client:
        shop.deploy("init-wait", NEW)
        shop.await_true(lambda: bool(shop.new_pods(NEW)))
        shop.await_event(shop.new_pods(NEW)[0]["metadata"]["name"], "wait", "gate.waiting", verdict="BEHIND")
        assert len(shop.new_pods(OLD)) == 2
    assert client.failures == []
    assert client.answers.total() > client.received('"stock"') == 0


def test_a_rollback_starts_the_older_image_in_front_of_the_newer_schema(shop: Shop) -> None:
    deploy(shop, "job", OLD)
    deploy(shop, "job", NEW)
    shop.serves()
    with shop.client("/items") as client:
        shop.kubectl("rollout", "undo", "deployment/shop")
        shop.await_rollout()
        # What has seen it work once, and the Job of the older tag, which finds nothing to do.
        shop.kubectl("delete", "job", f"shop-migrate-{OLD}")
        deploy(shop, "job", OLD)
        shop.await_job(f"shop-migrate-{OLD}", "Complete")
    assert client.failures == []
    answer = json.loads(shop.get("/health/ready"))
    assert (answer["status"], answer["verdict"], answer["pending"]) == ("ready", "AHEAD", 0)
    assert shop.execute("SELECT version_num FROM alembic_version") == "0003"


def ready(pod: Resource) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def statuses(pod: Resource) -> list[Resource]:
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
