"""The alerting rules in deploy/alerts.yaml."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.support.docs import ROOT

RULES_FILE = ROOT / "deploy" / "alerts.yaml"

Rule = dict[str, Any]


def rules() -> list[Rule]:
    groups = yaml.safe_load(RULES_FILE.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_of(rule: Rule) -> set[str]:
    """Return the metrics of gate that the expression of a rule names."""
    return set(re.findall(r"\bgate_\w+", rule["expr"]))


def labels_of(rule: Rule) -> list[tuple[str, str]]:
    """Return each label that the expression of a rule selects by, with its value."""
    return [
        (label, value)
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"])
        for label, value in re.findall(r'(\w+)="([^"]*)"', selector)
    ]
