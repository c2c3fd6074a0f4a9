"""The charts in deploy/helm, and what Helm renders of the example."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.containers import ROOT
from tests.support.go_tools import go_tool
from tests.support.manifests import Resource

CHARTS = ROOT / "deploy" / "helm"
RENDERED = CHARTS / "rendered.yaml"


def rendered() -> tuple[Resource, ...]:
    """Return the resources of the file that is kept beside the charts."""
    return tuple(yaml.safe_load_all(RENDERED.read_text()))


def values(chart: str) -> dict[str, Any]:
    """Return the default values of a chart."""
    found: dict[str, Any] = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    return found


def schema(chart: str) -> dict[str, Any]:
    """Return the schema of a chart's values."""
    found: dict[str, Any] = json.loads((CHARTS / chart / "values.schema.json").read_text())
    return found


def metadata(chart: str) -> dict[str, Any]:
    """Return Chart.yaml."""
    found: dict[str, Any] = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    return found


def template_names(folder: Path = CHARTS / "gate" / "templates") -> set[str]:
    """Return the names of the library's templates."""
    return {name for file in folder.glob("*.tpl") for name in re.findall(r'define "([\w.]+)"', file.read_text())}


def helm() -> str:
    """Return the path of Helm, which takes minutes to build once: only tests/cluster uses it."""
    return go_tool("helm.sh/helm/v3", "v3.22.0", "./cmd/helm")


def copy_charts(folder: Path) -> Path:
    """Copy the charts, bring the library to the example as a user does, and return the example's folder."""
    shutil.copytree(CHARTS, folder, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    example = folder / "shop"
    run_helm("dependency", "update", str(example), home=folder)
    return example


def run_helm(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Helm without a cluster."""
    return subprocess.run(
        [helm(), *arguments], env=helm_environment(home), capture_output=True, text=True, timeout=120, check=False
    )


def helm_environment(home: Path) -> dict[str, str]:
    """Return variables with which Helm writes nothing outside a folder."""
    folders = {f"HELM_{kind}_HOME": str(home / "home" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    return {"PATH": os.environ["PATH"], "HOME": str(home), **folders}
