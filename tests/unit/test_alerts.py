"""deploy/alerts.yaml cannot fall behind the metrics of `gate serve`, nor docs/alerts.md behind the rules."""

from __future__ import annotations

import re

import pytest

from gate.asgi import Ready
from gate.cli.serve import Metrics
from gate.drift.comparison import Verdict
from gate.readiness.cache import CURRENT_TTL_FACTOR
from gate.settings.variables import SETTINGS
from tests.support.alerts import RULES_FILE, Rule, labels_of, metrics_of, rules
from tests.support.docs import PAGES, blocks, sections, table

METRICS = {
    metric.name: metric for metric in Metrics({"alembic": Ready("postgresql://127.0.0.1:1/none").cache}).collect()
}
RULES = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])


@RULES
def test_a_rule_names_metrics_and_verdicts_that_there_are(rule: Rule) -> None:
    assert metrics_of(rule)
    assert metrics_of(rule) <= METRICS.keys()
    for label, value in labels_of(rule):
        assert label == "verdict"
        assert Verdict(value)


@RULES
def test_an_alert_is_raised_for_a_workload_and_not_for_each_pod(rule: Rule) -> None:
    aggregation = re.match(r"(?:max|count) without \(([\w, ]+)\) \(", rule["expr"])
    assert aggregation is not None
    assert {"instance", "pod"} <= set(aggregation[1].split(", "))


@RULES
def test_an_alert_says_what_happened_and_what_to_do(rule: Rule) -> None:
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert "{{ $labels.job }}" in annotations["summary"]
    assert "{{ $labels.job }}" in annotations["description"]
    assert len(annotations["summary"]) < 130
    assert not {"pod", "instance"} & set(re.findall(r"\$labels\.(\w+)", str(annotations)))


@RULES
def test_the_runbook_of_an_alert_is_a_section_of_the_docs(rule: Rule) -> None:
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    assert rule["alert"] in sections(PAGES["alerts"], 3)


def test_the_docs_list_every_alert_and_no_other() -> None:
    assert [(row[0].strip("`"), row[1]) for row in table("alert", "severity")] == [
        (rule["alert"], rule["labels"]["severity"]) for rule in rules()
    ]
    assert {title for title in sections(PAGES["alerts"], 3) if title.startswith("Gate")} == {
        rule["alert"] for rule in rules()
    }


def test_a_verdict_that_is_reused_does_not_look_like_a_database_that_is_away() -> None:
    ttl = next(float(setting.default) for setting in SETTINGS if setting.variable == "GATE_TTL")
    limits = [float(limit) for limit in re.findall(r"gate_seconds_since_seen [<>] (\d+)", RULES_FILE.read_text())]
    assert len(limits) == 2
    assert min(limits) > 2 * CURRENT_TTL_FACTOR * ttl


def test_log_based_alerts_name_events_of_the_code() -> None:
    events = {row[0].strip("`") for row in table("event")}
    selected = re.findall(r'event=~?"([^"]+)"', "".join(blocks(PAGES["alerts"], "yaml")))
    named = {event for each in selected for event in each.split("|")}
    assert {"gate.waiting", "gate.failed"} <= named <= events
