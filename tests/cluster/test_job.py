"""The migration Job in a real Kubernetes: which exit codes end it, which it tries again, and what does not count."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.support.cluster import CONTRACTING, FAILING, HELD, NEW, Shop
from tests.support.manifests import Resource

pytestmark = pytest.mark.timeout(900)

DESCRIBE = "kubectl describe pod -l app=shop-migrate"
AGAIN = "kubectl delete job shop-migrate-TAG && kubectl apply -k ."


class Failure(NamedTuple):
    """A failure that only a person can mend, how it shows, and what mends it."""

    tag: str
    cause: Callable[[Shop], object]
    reason: str
    cure: Callable[[Shop], object]


def set_secret(shop: Shop, url: str) -> None:
    shop.kubectl("patch", "secret", "shop-database", "--patch", json.dumps({"stringData": {"url": url}}))


FINAL = {
    65: Failure(
        FAILING,
        lambda shop: shop.execute("CREATE TABLE blocker ()"),
        "The upgrade failed in revision 0003 (3/3)",
        lambda shop: shop.execute("DROP TABLE blocker"),
    ),
    76: Failure(
        NEW,
        lambda shop: shop.execute(
            f"SET ROLE {shop.database}; CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
            "INSERT INTO alembic_version VALUES ('0001'), ('elsewhere')"
        ),
        "the two histories have diverged",
        lambda shop: shop.execute("DELETE FROM alembic_version"),
    ),
    78: Failure(
        NEW,
        lambda shop: set_secret(shop, "no-url"),
        "DATABASE_URL_FILE",
        lambda shop: set_secret(shop, shop.url),
    ),
}


def change_job(path: str, value: object) -> Resource:
    return {"kind": "Job", "patch": [{"op": "add", "path": path, "value": value}]}


@pytest.mark.parametrize("code", FINAL)
def test_a_failure_that_only_a_person_can_mend_ends_the_job_and_the_documented_cure_works(
    shop: Shop, code: int
) -> None:
    failure = FINAL[code]
    failure.cause(shop)
    shop.deploy("job", failure.tag)
    job = f"shop-migrate-{failure.tag}"
    assert shop.await_job(job, "Failed")["reason"] == "PodFailurePolicy"
    assert shop.exit_codes() == [code]
    described = shop.run_documented(DESCRIBE, {})
    assert f"Exit Code:    {code}" in described
    assert failure.reason in described
    failure.cure(shop)
    shop.run_documented(AGAIN, {"TAG": failure.tag}, "k8s/overlays/job")
    shop.await_job(job, "Complete")
    shop.await_rollout()
    shop.serves()


def test_a_migrator_that_did_not_get_the_lock_is_tried_again(shop: Shop) -> None:
    with shop.held_lock():
        variable = {"name": "GATE_MIGRATION_LOCK_TIMEOUT", "value": "2"}
        shop.deploy("job", NEW, change_job("/spec/template/spec/containers/0/env/-", variable))
        shop.await_true(lambda: 75 in shop.exit_codes())
    shop.await_job(f"shop-migrate-{NEW}", "Complete")
    codes = shop.exit_codes()
    assert (set(codes[:-1]), codes[-1]) == ({75}, 0)


def hold_migration(shop: Shop, *patches: Resource) -> str:
    """Start a Job whose last revision sleeps, let its next try pass, and return the name of its pod."""
    shop.deploy("job", HELD, *patches)
    shop.await_true(lambda: shop.sleeping)
    shop.execute("CREATE TABLE go_on ()")
    (pod,) = shop.pods("shop-migrate")
    name: str = pod["metadata"]["name"]
    return name


def test_a_migrator_whose_database_went_away_is_tried_again(shop: Shop) -> None:
    pod = hold_migration(shop)
    shop.terminate_migration()
    shop.await_job(f"shop-migrate-{HELD}", "Complete")
    assert shop.exit_codes() == [69, 0]
    assert "The database went away in revision 0003 (3/3)" in shop.kubectl("logs", pod)


def evict(shop: Shop, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": shop.name}}
    path = f"/api/v1/namespaces/{shop.name}/pods/{pod}/eviction"
    shop.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))


def drain(shop: Shop, pod: str) -> None:
    options = ("--pod-selector=app=shop-migrate", "--delete-emptydir-data", "--force", "--timeout=120s")
    try:
        shop.kubectl("drain", "node1", *options)
        assert not shop.kubectl.exists("pod", pod)
    finally:
        shop.kubectl("uncordon", "node1")


@pytest.mark.parametrize("remove", [evict, drain], ids=["eviction", "node drain"])
def test_what_the_cluster_takes_away_is_not_counted_as_a_failure(
    shop: Shop, remove: Callable[[Shop, str], None]
) -> None:
    # The Job would fail with the first failure that counts.
    pod = hold_migration(shop, change_job("/spec/backoffLimit", 0))
    remove(shop, pod)
    shop.await_job(f"shop-migrate-{HELD}", "Complete")
    status = shop.job(f"shop-migrate-{HELD}")
    assert (status["succeeded"], status.get("failed", 0)) == (1, 0)
    assert shop.execute("SELECT version_num FROM alembic_version") == "0003"


@pytest.mark.parametrize("options", [(), ("--grace-period=0", "--force")], ids=["SIGTERM", "SIGKILL"])
def test_a_pod_deleted_in_the_middle_of_a_migration_leaves_no_statement(shop: Shop, options: tuple[str, ...]) -> None:
    pod = hold_migration(shop)
    shop.kubectl("delete", "pod", pod, *options)
    shop.await_true(lambda: not shop.sleeping)
    shop.await_job(f"shop-migrate-{HELD}", "Complete")
    shop.await_rollout()
    shop.serves()


def test_pods_start_when_the_job_is_long_gone(shop: Shop) -> None:
    shop.deploy("job", NEW, change_job("/spec/ttlSecondsAfterFinished", 1))
    shop.await_rollout()
    shop.await_true(lambda: not shop.kubectl.exists("job", f"shop-migrate-{NEW}"))
    shop.kubectl("rollout", "restart", "deployment/shop")
    shop.await_rollout()
    shop.serves()


def test_the_second_job_applies_what_may_wait_after_the_rollout(shop: Shop) -> None:
    shop.deploy("job", CONTRACTING)
    shop.run_documented("kubectl rollout status deployment/shop --timeout=30m", {})
    shop.serves("DEFERRED")
    shop.run_documented(
        "cd ../post-deploy && kustomize edit set image shop=YOUR-REGISTRY/shop:TAG && kubectl apply -k .",
        {"YOUR-REGISTRY/shop:TAG": f"localhost/gate-cluster/shop:{CONTRACTING}"},
        "k8s/overlays/job",
    )
    shop.await_job(f"shop-post-deploy-{CONTRACTING}", "Complete")
    assert shop.execute("SELECT version_num FROM alembic_version") == "0004"
    shop.await_true(lambda: json.loads(shop.get("/health/ready"))["verdict"] == "CURRENT")
