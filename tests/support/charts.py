"""The charts in deploy/helm, and what Helm renders of the example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.containers import ROOT
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
