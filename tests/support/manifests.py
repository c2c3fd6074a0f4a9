"""The overlays in k8s/ as kustomize builds them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.containers import ROOT
from tests.support.go_tools import go_tool

Resource = dict[str, Any]


def kustomize() -> str:
    """Return the path of kustomize, which has `edit`; `kubectl kustomize` does not."""
    return go_tool("sigs.k8s.io/kustomize/kustomize/v5", "v5.5.0")


@cache
def build_overlay(folder: Path) -> tuple[Resource, ...]:
    """Build the resources of an overlay with kubectl or, if it is missing, with kustomize."""
    command = ("kubectl", "kustomize") if shutil.which("kubectl") else (kustomize(), "build")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def overlay(name: str) -> tuple[Resource, ...]:
    return build_overlay(ROOT / "k8s" / "overlays" / name)


def resource_of_kind(resources: tuple[Resource, ...], kind: str) -> Resource:
    return next(resource for resource in resources if resource["kind"] == kind)


def pod_specs(resources: tuple[Resource, ...]) -> list[Resource]:
    return [resource["spec"]["template"]["spec"] for resource in resources if "template" in resource["spec"]]


def containers_of(pod: Resource) -> list[Resource]:
    return [*pod.get("initContainers", []), *pod["containers"]]
