"""The example chart in a real Kubernetes: installed, upgraded, failed, rolled back and uninstalled with Helm."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.charts import copy_charts, helm, helm_environment
from tests.support.cluster import FAILING, HELD, NEW, OLD, REPOSITORY, SLOW, Shop, inside
from tests.support.docs import PAGES

pytestmark = pytest.mark.timeout(2400)  # the first test builds Helm

LONG, SHORT = "240s", "45s"
"""Time limits of Helm, longer and shorter than what the test does."""

MIGRATION = "--selector=app.kubernetes.io/component=migration"
DELETE_JOB = "kubectl delete job -l app.kubernetes.io/component=migration"
DESCRIBE = "kubectl describe pod -l app.kubernetes.io/component=migration"


@dataclass
class Release:
    """The release `shop` in the namespace of a shop."""

    shop: Shop
    chart: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Helm in the network of the cluster."""
        variables = [f"{name}={value}" for name, value in helm_environment(self.chart.parent).items()]
        return inside("env", *variables, helm(), f"--namespace={self.shop.name}", *arguments)

    def __call__(self, *arguments: str) -> str:
        """Run Helm, assert that it succeeds, and return its standard output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.shop.describe()}"
        return done.stdout

    def upgrade(self, tag: str, *options: str) -> str:
        return self(*self._upgrade(tag, *options))

    def fail_to_upgrade(self, tag: str, *options: str) -> str:
        done = self.run(*self._upgrade(tag, *options))
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _upgrade(self, tag: str, *options: str) -> tuple[str, ...]:
        image = (f"--set-string=image.repository={REPOSITORY}", f"--set-string=image.tag={tag}")
        return ("upgrade", "--install", "shop", str(self.chart), *image, *options)

    def jobs(self) -> list[dict[str, str]]:
        """Return the Jobs of the release: their names, unique ids and images."""
        found = self.shop.kubectl.get("jobs", MIGRATION)["items"]
        return [
            {
                "name": job["metadata"]["name"],
                "uid": job["metadata"]["uid"],
                "image": job["spec"]["template"]["spec"]["containers"][0]["image"],
            }
            for job in found
            if "deletionTimestamp" not in job["metadata"]
        ]

    def job(self) -> dict[str, str]:
        """Return the only Job."""
        (job,) = self.jobs()
        return job

    def migrated_to(self) -> str:
        return self.shop.execute("SELECT version_num FROM alembic_version")

    def await_only_pods_of(self, tag: str) -> None:
        """Wait until the server runs in pods of this image only, and serves."""
        shop = self.shop
        shop.await_rollout()
        shop.await_true(lambda: len(shop.pods("shop")) == len(shop.new_pods(tag)) > 0)


@pytest.fixture
def release(shop: Shop, tmp_path: Path) -> Release:
    return Release(shop, copy_charts(tmp_path / "helm"))


@pytest.fixture
def installed(release: Release) -> Release:
    """The release with the older image."""
    release.upgrade(OLD, "--wait", f"--timeout={LONG}")
    return release


def test_an_installation_migrates_before_its_servers_start_and_helm_waits_for_both(release: Release) -> None:
    notes = release("install", "shop", str(release.chart), *release._upgrade(OLD)[4:], "--wait", f"--timeout={LONG}")
    assert "A Job migrates, and the pods wait for it" in notes
    release.shop.serves()
    release.shop.await_job(release.job()["name"], "Complete")
    (wait,) = {
        status["state"]["terminated"]["exitCode"]
        for pod in release.shop.pods("shop")
        for status in pod["status"]["initContainerStatuses"]
    }
    assert wait == 0


def test_an_upgrade_migrates_in_a_new_job_and_loses_no_request(installed: Release) -> None:
    first = installed.job()
    with installed.shop.client("/items") as client:
        installed.upgrade(SLOW, "--wait", f"--timeout={LONG}")
    assert installed.job()["name"] != first["name"]
    assert installed.job()["image"].endswith(SLOW)
    installed.shop.serves()
    assert installed.migrated_to() == "0003"
    assert client.failures == []
    assert client.answers.total() > 100


def test_an_upgrade_that_changes_only_the_server_runs_no_job(installed: Release) -> None:
    first = installed.job()
    installed.upgrade(OLD, "--set=replicas=1", "--wait", f"--timeout={LONG}")
    assert installed.job() == first
    assert len(installed.shop.new_pods(OLD)) == 1


def test_an_upgrade_brings_a_job_back_that_has_reached_its_time_to_live(release: Release) -> None:
    short = "--set=gate.migration.ttlSecondsAfterFinished=1"
    release.upgrade(NEW, short, "--wait", f"--timeout={LONG}")
    release.shop.await_true(lambda: release.jobs() == [])
    release.upgrade(NEW, short, "--set=replicas=1", "--wait", f"--timeout={LONG}")
    release.shop.serves()


def test_the_job_of_a_release_is_no_leftover(installed: Release) -> None:
    installed("uninstall", "shop", "--wait", f"--timeout={LONG}")
    assert installed.jobs() == []
    installed.shop.await_true(lambda: installed.shop.pods() == [])
    # The database keeps its stamp, and the next installation has nothing to migrate.
    installed.upgrade(OLD, "--wait", f"--timeout={LONG}")
    installed.shop.serves()


# --- a migration that fails


@pytest.fixture
def failed(installed: Release) -> Release:
    """The release after an upgrade whose migration has failed, without --atomic."""
    installed.shop.execute("CREATE TABLE blocker ()")
    error = installed.fail_to_upgrade(FAILING, "--wait", f"--timeout={SHORT}")
    assert "deadline exceeded" in error or "timed out" in error
    return installed


def test_a_failed_migration_leaves_the_old_servers_and_says_why(failed: Release) -> None:
    shop = failed.shop
    assert shop.await_job(failed.job()["name"], "Failed")["reason"] == "PodFailurePolicy"
    assert DESCRIBE in PAGES["helm"]
    assert "The upgrade failed in revision 0003" in shop.kubectl(*DESCRIBE.split()[1:])
    assert failed.migrated_to() == "0002"
    assert len(json.loads(shop.get("/items"))) == 2
    assert all(pod["status"]["phase"] == "Pending" for pod in shop.new_pods(FAILING))


def test_a_corrected_image_migrates_in_a_job_of_its_own(failed: Release) -> None:
    failed_job = failed.job()
    failed.upgrade(NEW, "--wait", f"--timeout={LONG}")
    # Helm compares with the last release that succeeded, so it leaves the Job of the failed one to Kubernetes.
    (job,) = (each for each in failed.jobs() if each != failed_job)
    assert job["image"].endswith(f":{NEW}")
    failed.shop.await_job(job["name"], "Complete")
    assert failed.shop.kubectl.get("job", failed_job["name"])["spec"]["ttlSecondsAfterFinished"] == 86400
    failed.await_only_pods_of(NEW)
    failed.shop.serves()


def test_the_same_image_is_tried_again_as_the_docs_say(failed: Release) -> None:
    failed.shop.execute("DROP TABLE blocker")
    failed_job = failed.job()
    assert DELETE_JOB in PAGES["helm"]
    failed.shop.kubectl(*DELETE_JOB.split()[1:])
    failed.upgrade(FAILING, "--wait", f"--timeout={LONG}")
    assert failed.job()["name"] == failed_job["name"]
    failed.await_only_pods_of(FAILING)
    failed.shop.serves()


def test_an_atomic_upgrade_whose_migration_fails_is_rolled_back(installed: Release) -> None:
    installed.shop.execute("CREATE TABLE blocker ()")
    error = installed.fail_to_upgrade(FAILING, "--atomic", f"--timeout={SHORT}")
    assert "rolled back due to atomic being set" in error
    installed.await_only_pods_of(OLD)
    installed.shop.serves()
    assert installed.job()["image"].endswith(f":{OLD}")
    assert installed.migrated_to() == "0002"


def test_an_atomic_upgrade_that_is_shorter_than_its_migration_cancels_it(installed: Release) -> None:
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(installed.fail_to_upgrade, HELD, "--atomic", f"--timeout={SHORT}")
        installed.shop.await_true(lambda: installed.shop.sleeping)
        assert "rolled back due to atomic being set" in failing.result()
    installed.shop.await_true(lambda: not installed.shop.sleeping)
    installed.await_only_pods_of(OLD)
    installed.shop.serves()
    assert installed.migrated_to() == "0002"


def test_an_atomic_installation_whose_migration_fails_leaves_nothing(release: Release) -> None:
    release.shop.execute("CREATE TABLE blocker ()")
    release.fail_to_upgrade(FAILING, "--atomic", f"--timeout={SHORT}")
    release.shop.await_true(lambda: release.shop.pods() == [])
    assert (release.jobs(), release.shop.kubectl.exists("deployment", "shop")) == ([], False)


# --- versions that meet


def test_a_rollback_runs_the_old_servers_on_the_newer_schema(installed: Release) -> None:
    installed.upgrade(NEW, "--wait", f"--timeout={LONG}")
    installed("rollback", "shop", "1", "--wait", f"--timeout={LONG}")
    installed.await_only_pods_of(OLD)
    installed.shop.serves("AHEAD")
    installed.shop.await_job(installed.job()["name"], "Complete")
    assert installed.job()["image"].endswith(f":{OLD}")
    assert installed.migrated_to() == "0003"


def test_an_upgrade_in_the_middle_of_a_migration_cancels_it_and_migrates(installed: Release) -> None:
    installed.upgrade(HELD)
    installed.shop.await_true(lambda: installed.shop.sleeping)
    installed.upgrade(NEW, "--wait", f"--timeout={LONG}")
    assert not installed.shop.sleeping
    installed.await_only_pods_of(NEW)
    installed.shop.serves()
    assert installed.migrated_to() == "0003"


def test_servers_wait_for_a_pipeline_that_migrates(release: Release) -> None:
    release.upgrade(NEW, "--set=gate.migration.enabled=false")
    shop = release.shop
    shop.await_true(lambda: len(shop.pods("shop")) == 2)
    for pod in shop.pods("shop"):
        shop.await_event(pod["metadata"]["name"], "wait", "gate.waiting", verdict="EMPTY")
    assert release.jobs() == []
    shop.migrate(NEW)
    shop.await_rollout()
    shop.serves()
