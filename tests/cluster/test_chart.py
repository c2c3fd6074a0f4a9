"""deploy/helm as Helm renders it: what it accepts, what it rejects, and when the Job gets another name.

These tests need no cluster. They are here because Helm takes minutes to build.
"""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.charts import CHARTS, copy_charts, rendered, run_helm
from tests.support.docs import PAGES, blocks
from tests.support.manifests import Resource, containers_of, resource_of_kind

pytestmark = pytest.mark.timeout(2400)  # the first test builds Helm

VERSION = "1.34.4"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with the library in it."""
    return copy_charts(tmp_path_factory.mktemp("helm") / "helm")


def render(
    chart: Path, values: dict[str, Any] | None = None, release: str = "shop", version: str = VERSION
) -> tuple[Resource, ...]:
    done = template(chart, values, release, version)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def rejected(chart: Path, values: dict[str, Any], version: str = VERSION) -> str:
    """Return the error with which Helm rejects values."""
    done = template(chart, values, "shop", version)
    assert done.returncode != 0
    error: str = done.stderr
    return error


def template(chart: Path, values: dict[str, Any] | None, release: str, version: str) -> Any:
    file = chart.parent / "values-of-the-test.yaml"
    file.write_text(json.dumps(values or {}))  # JSON is YAML
    options = (f"--kube-version={version}", f"--values={file}")
    return run_helm("template", release, str(chart), *options, home=chart.parent)


def job_of(resources: tuple[Resource, ...]) -> Resource:
    return resource_of_kind(resources, "Job")


def job_name(chart: Path, values: dict[str, Any] | None = None, release: str = "shop") -> str:
    return str(job_of(render(chart, values, release))["metadata"]["name"])


def test_helm_finds_nothing_to_complain_about(example: Path) -> None:
    for chart in (CHARTS / "gate", example):
        done = run_helm("lint", "--strict", "--kube-version=1.34.4", str(chart), home=example.parent)
        assert done.returncode == 0, done.stdout


def test_the_file_beside_the_charts_is_what_helm_renders(example: Path) -> None:
    assert render(example) == rendered()


def test_an_older_kubernetes_pauses_with_a_command(example: Path) -> None:
    (web,) = resource_of_kind(render(example, version="1.29.0"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert web["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    for resource in render(example, version="1.29.0"):
        kubernetes_validate.validate(deepcopy(resource), "1.29", strict=True)
    assert "incompatible with Kubernetes" in rejected(example, {}, version="1.28.0")


# --- the name of the Job


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "2.0.0"}},
        {"gate": {"env": {"GATE_QUERY_TIMEOUT": "30"}}},
        {"gate": {"migration": {"backoffLimit": 1}}},
        {"gate": {"migration": {"podAnnotations": {"again": "1"}}}},
    ],
)
def test_another_job_has_another_name(example: Path, values: dict[str, Any]) -> None:
    assert job_name(example, values) != job_name(example)


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 5},
        {"gate": {"probes": {"preStopSeconds": 9}}},
        {"gate": {"migration": {"annotations": {"argocd.argoproj.io/sync-wave": "-1"}}}},
    ],
)
def test_what_does_not_change_the_job_does_not_run_it_again(example: Path, values: dict[str, Any]) -> None:
    assert job_name(example, values) == job_name(example)


def test_a_new_version_of_the_chart_alone_does_not_run_the_job_again(example: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "shop"
    shutil.copytree(example, copy)
    chart = copy / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 0.1.0\n# ", "version: 0.2.0\n# "))
    assert job_of(render(copy))["metadata"]["labels"]["helm.sh/chart"] == "shop-0.2.0"
    assert job_name(copy) == job_name(example)


@pytest.mark.parametrize(
    ("release", "prefix"),
    [
        ("shop", "shop"),
        ("my-shop", "my-shop"),
        ("prod", "prod-shop"),
        ("shop.example.com", "shop-example-com"),
        ("s" * 43 + "-shop", "s" * 43),
        ("1", "1-shop"),
    ],
)
def test_the_name_of_the_job_is_a_label_whatever_the_release_is_called(
    example: Path, release: str, prefix: str
) -> None:
    resources = render(example, release=release)
    assert job_of(resources)["metadata"]["name"].rpartition("-migrate-")[0] == prefix
    assert len(job_of(resources)["metadata"]["name"]) <= 63
    for resource in resources:
        kubernetes_validate.validate(deepcopy(resource), kubernetes_validate.latest_version(), strict=True)


# --- values


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"gate": {"migraton": {"enabled": False}}}, "migraton"),
        ({"gate": {"migration": {"enabeld": False}}}, "enabeld"),
        ({"gate": {"env": {"GATE_QUERY_TIMEOUT": 30}}}, "got number, want string"),
        ({"gate": {"env": {"DATABASE_URL": "postgresql://shop:secret@host/shop"}}}, "DATABASE_URL"),
        ({"gate": {"migration": {"podSpec": {"restartPolicy": "Always"}}}}, "restartPolicy"),
        ({"gate": {"user": 0}}, "/user"),
        ({"gate": {"database": {"secretName": ""}}}, "/database/secretName"),
        ({"gate": {"migration": {"terminationGracePeriodSeconds": 1}}}, "terminationGracePeriodSeconds"),
        ({"image": {"tag": 1.1}}, "/image/tag"),
        ({"image": {"repository": ""}}, "/image/repository"),
        ({"replica": 3}, "replica"),
    ],
    ids=str,
)
def test_a_mistake_in_the_values_is_reported_by_name(example: Path, values: dict[str, Any], complaint: str) -> None:
    assert complaint in rejected(example, values)


@pytest.fixture
def without_a_schema_of_its_own(example: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy" / "shop"
    shutil.copytree(example, copy)
    (copy / "values.schema.json").unlink()
    return copy


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        ({"tag": "1.0.0"}, "set image.repository and image.tag, or gate.image"),
        ("registry.example.com/shop", "set image.repository and image.tag, or gate.image"),
        (None, "set image.repository and image.tag, or gate.image"),
        ({"repository": "registry.example.com/shop", "tag": 1.1}, "image.tag is the number 1.1: quote it"),
    ],
    ids=str,
)
def test_an_image_that_the_library_cannot_find_is_reported(
    without_a_schema_of_its_own: Path, image: object, complaint: str
) -> None:
    values = without_a_schema_of_its_own / "values.yaml"
    defaults = yaml.safe_load(values.read_text())
    values.write_text(json.dumps({**defaults, "image": image}))
    assert complaint in rejected(without_a_schema_of_its_own, {})


def test_all_containers_have_one_image_which_may_be_a_template_with_a_digest(example: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    resources = render(example, {"gate": {"image": "{{ .Values.image.repository }}@" + digest}})
    pods = [resource["spec"]["template"]["spec"] for resource in resources if "template" in resource["spec"]]
    images = {container["image"] for pod in pods for container in containers_of(pod)}
    assert images == {f"registry.example.com/shop@{digest}"}


def test_the_job_may_have_another_secret_more_settings_and_its_own_place(example: Path) -> None:
    migration = {
        "secretName": "{{ .Release.Name }}-owner",
        "env": {"GATE_TABLE_LOCK_TIMEOUT": "2", "GATE_ON_UNSTAMPED": "refuse"},
        "podSpec": {"nodeSelector": {"disk": "fast"}, "imagePullSecrets": [{"name": "registry"}]},
        "podLabels": {"team": "shop", "app.kubernetes.io/name": "shop"},
    }
    resources = render(example, {"gate": {"migration": migration, "env": {"GATE_POLL_MAX": "5"}}})
    template = job_of(resources)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (deployment,) = [resource["spec"] for resource in resources if resource["kind"] == "Deployment"]
    assert template["spec"]["volumes"][0]["secret"]["secretName"] == "shop-owner"
    assert deployment["template"]["spec"]["volumes"][0]["secret"]["secretName"] == "shop-database"
    assert settings(container) == {
        "DATABASE_URL_FILE": "/run/secrets/database/url", "GATE_ON_UNSTAMPED": "refuse", "GATE_POLL_MAX": "5",
        "GATE_TABLE_LOCK_TIMEOUT": "2",
    }  # fmt: skip
    assert settings(deployment["template"]["spec"]["initContainers"][0])["GATE_ON_UNSTAMPED"] == "wait"
    assert template["spec"]["nodeSelector"] == {"disk": "fast"}
    # The Service of the server must not find the Job.
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "shop-migrate"
    assert template["metadata"]["labels"]["team"] == "shop"


def settings(container: Resource) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.mark.parametrize(("ttl", "kept"), [(None, True), (0, False), (7, False)])
def test_the_job_is_kept_without_a_time_to_live(example: Path, ttl: int | None, kept: bool) -> None:  # noqa: FBT001 - parametrized
    spec = job_of(render(example, {"gate": {"migration": {"ttlSecondsAfterFinished": ttl}}}))["spec"]
    assert ("ttlSecondsAfterFinished" not in spec) is kept
    assert kept or spec["ttlSecondsAfterFinished"] == ttl


def test_a_pipeline_may_migrate_instead_of_the_job(example: Path) -> None:
    resources = render(example, {"gate": {"migration": {"enabled": False}}})
    assert {resource["kind"] for resource in resources if resource} == {"Deployment", "Service"}


# --- the chart of a user

LABELS = '{{ include "app.selectorLabels" . | fromYaml | toJson }}'


def test_a_chart_of_helm_create_takes_the_library_as_the_docs_say(tmp_path: Path) -> None:
    chart = tmp_path / "app"
    assert run_helm("create", str(chart), home=tmp_path).returncode == 0
    dependencies, job, fields = blocks(PAGES["helm"], "yaml")
    (chart / "Chart.yaml").write_text(f"{(chart / 'Chart.yaml').read_text()}\n{dependencies}")
    shutil.copytree(CHARTS / "gate", chart / "charts" / "gate")
    (chart / "templates" / "migration.yaml").write_text(job)
    fields = fields.replace("spec:\n", f"spec:\n  selector: {{matchLabels: {LABELS}}}\n", 1)
    fields = fields.replace("  template:\n", f"  template:\n    metadata: {{labels: {LABELS}}}\n", 1)
    header = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n"
    (chart / "templates" / "deployment.yaml").write_text(header + fields)
    done = run_helm("lint", "--strict", "--kube-version=1.34.4", str(chart), home=tmp_path)
    assert done.returncode == 0, done.stdout
    resources = tuple(each for each in render(chart, release="app") if each)
    assert job_of(resources)["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1.16.0"
    deployment, service = (resource_of_kind(resources, kind) for kind in ("Deployment", "Service"))
    (web,) = deployment["spec"]["template"]["spec"]["containers"]
    assert web["startupProbe"]["httpGet"]["path"] == "/health/ready"
    selector = service["spec"]["selector"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    # The Service must not find the Job.
    assert not selector.items() <= job_of(resources)["spec"]["template"]["metadata"]["labels"].items()
