"""deploy/helm without Helm: the chart keeps the promises of k8s/. tests/cluster renders it, and installs it."""

from __future__ import annotations

import re
from copy import deepcopy

import kubernetes_validate
import pytest

from tests.support.charts import CHARTS, metadata, rendered, schema, template_names, values
from tests.support.docs import PAGES, blocks, table
from tests.support.manifests import Resource, overlay, resource_of_kind

pytestmark = pytest.mark.xdist_group("manifests")


def without_labels(resource: Resource) -> Resource:
    """Return the specification of a resource without the labels of its pods, in which the chart differs."""
    spec: Resource = deepcopy(resource["spec"])
    spec["template"].pop("metadata")
    for container in [*spec["template"]["spec"].get("initContainers", []), *spec["template"]["spec"]["containers"]]:
        container["env"].sort(key=lambda variable: variable["name"])
    return spec


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_chart_renders_what_the_overlay_with_the_job_has(kind: str) -> None:
    assert without_labels(resource_of_kind(rendered(), kind)) == without_labels(resource_of_kind(overlay("job"), kind))


def test_the_service_sends_no_request_to_the_job() -> None:
    selector = resource_of_kind(rendered(), "Service")["spec"]["selector"]
    deployment, job = (resource_of_kind(rendered(), kind)["spec"] for kind in ("Deployment", "Job"))
    assert selector.items() <= deployment["template"]["metadata"]["labels"].items()
    assert deployment["selector"]["matchLabels"] == selector
    assert not selector.items() <= job["template"]["metadata"]["labels"].items()


def test_the_job_is_no_hook_and_its_name_ends_in_a_hash() -> None:
    job = resource_of_kind(rendered(), "Job")
    assert re.fullmatch(r"shop-migrate-[0-9a-f]{10}", job["metadata"]["name"])
    assert not any("annotations" in resource["metadata"] for resource in rendered())
    assert "helm.sh/hook" not in "".join(file.read_text() for file in CHARTS.rglob("*.tpl"))


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_the_chart_is_valid_for_kubernetes_1_29_and_the_newest(version: str) -> None:
    for resource in rendered():
        kubernetes_validate.validate(deepcopy(resource), version, strict=True)


def test_every_value_has_a_schema_and_every_property_a_default() -> None:
    assert differing(values("gate"), schema("gate")) == []
    assert schema("gate")["additionalProperties"] is False


def differing(defaults: object, described: Resource, path: str = "gate") -> list[str]:
    """Return the paths that only one of the values and their schema has; free-form objects have no properties."""
    if not isinstance(defaults, dict) or "properties" not in described or path == "gate.migration.podSpec":
        return []
    properties = {name: each for name, each in described["properties"].items() if name != "global"}
    found = [f"{path}.{name}" for name in properties.keys() ^ defaults.keys()]
    for name in properties.keys() & defaults.keys():
        found += differing(defaults[name], properties[name], f"{path}.{name}")
    return found


def test_the_example_uses_the_library_beside_it() -> None:
    (dependency,) = metadata("shop")["dependencies"]
    library = metadata("gate")
    assert (dependency["name"], dependency["version"]) == (library["name"], library["version"])
    assert (CHARTS / "shop" / dependency["repository"].removeprefix("file://")).resolve() == CHARTS / "gate"
    assert library["type"] == "library"
    assert library["kubeVersion"] == metadata("shop")["kubeVersion"]


def test_the_docs_describe_the_templates_that_the_example_includes() -> None:
    rows = table("template", "renders", text=PAGES["helm"])
    described = {name for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}
    shown = set(re.findall(r'include "([\w.]+)"', PAGES["helm"]))
    example = "".join(file.read_text() for file in (CHARTS / "shop" / "templates").iterdir())
    assert described == shown <= template_names()
    assert described <= set(re.findall(r'include "([\w.]+)"', example))


def test_the_docs_name_values_that_there_are() -> None:
    for name, *_ in table("value", "default", text=PAGES["helm"]):
        found: object = {"gate": values("gate")}
        for part in name.strip("`").split("."):
            assert isinstance(found, dict)
            found = found[part]


def test_the_page_shows_the_deployment_of_the_example() -> None:
    example = [line.strip() for line in (CHARTS / "shop" / "templates" / "deployment.yaml").read_text().splitlines()]
    shown = [block for block in blocks(PAGES["helm"], "yaml") if "initContainers" in block]
    missing = [line.strip() for line in shown[0].splitlines() if line.strip() not in example]
    assert missing == []
