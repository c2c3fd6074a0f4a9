"""deploy/alerts.yaml, checked and run by promtool on what servers report minute by minute."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from demo.embedded_postgres import free_port
from gate.drift.comparison import Drift, Verdict
from tests.conftest import GateRunner, TestDatabase
from tests.support.alerts import RULES_FILE, Rule, rules

NEVER = "NaN"


def promtool(*arguments: str, text: str = "") -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool, which is in Debian's package prometheus")
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Phase:
    """What a server reports for some minutes; `away`: without a successful check of the database."""

    minutes: int
    verdict: Verdict | None = Verdict.CURRENT
    ready: bool = True
    missing: int = 0
    away: bool = False

    def samples(self, minute: int, waited: int) -> dict[str, str]:
        """Return the metrics of a minute, without the verdict."""
        seen = 60 * minute if self.away else 5
        return {
            "gate_schema_ready": str(int(self.ready)),
            "gate_waiting_seconds": str(waited),
            "gate_seconds_since_seen": NEVER if self.verdict is None else str(seen),
            "gate_missing_items": NEVER if self.verdict is None else str(self.missing),
        }


def current(minutes: int) -> Phase:
    return Phase(minutes)


def away(minutes: int) -> Phase:
    return Phase(minutes, away=True)


def never_seen(minutes: int) -> Phase:
    return Phase(minutes, None, ready=False)


def drifted(minutes: int, verdict: Verdict = Verdict.BEHIND) -> Phase:
    return Phase(minutes, verdict, ready=False)


def incomplete(minutes: int, *, ready: bool) -> Phase:
    return Phase(minutes, Verdict.INCOMPLETE, ready=ready, missing=3)


def migrated_by_a_newer_image(minutes: int, verdict: Verdict = Verdict.UNKNOWN) -> Phase:
    return Phase(minutes, verdict)


def series(number: int, phases: tuple[Phase, ...]) -> list[dict[str, str]]:
    """Return the series of one server in promtool's notation, a sample for each minute."""
    labels = f'job="shop",namespace="prod",instance="10.0.0.{number}:8080",pod="shop-{number}"'
    values: dict[str, list[str]] = {}
    waited = 0
    for phase in phases:
        fits = phase.verdict is not None and Drift(phase.verdict, (), ()).fits
        for minute in range(phase.minutes):
            waited = 0 if fits else waited + 60
            for name, value in phase.samples(minute, waited).items():
                values.setdefault(f"{name}{{{labels}}}", []).append(value)
            for verdict in Verdict:
                name = f'gate_schema_verdict{{{labels},verdict="{verdict}"}}'
                values.setdefault(name, []).append(str(int(verdict is phase.verdict)))
    return [{"series": name, "values": " ".join(samples)} for name, samples in values.items()]


Servers = tuple[tuple[Phase, ...], ...]
Check = Callable[[Servers, dict[str, object]], None]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Run a test of promtool on what the servers report."""

    def run(servers: Servers, test: dict[str, object]) -> None:
        inputs = [each for number, phases in enumerate(servers, 1) for each in series(number, phases)]
        tests = [{"interval": "1m", "input_series": inputs, **test}]
        file = tmp_path / "test.yaml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": tests}))
        promtool("test", "rules", str(file))

    return run


@pytest.fixture
def raised(check: Check) -> Callable[..., None]:
    """Check which alerts are raised in the last minute of what the servers report."""

    def run(*servers: tuple[Phase, ...], alerts: tuple[str, ...]) -> None:
        (minutes,) = {sum(phase.minutes for phase in phases) for phases in servers}
        expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]
        query = 'count by (alertname) (ALERTS{alertstate="firing"})'
        check(servers, {"promql_expr_test": [{"expr": query, "eval_time": f"{minutes - 1}m", "exp_samples": expected}]})

    return run


Raised = Callable[..., None]


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES_FILE))


def test_a_server_on_a_current_schema_raises_nothing(raised: Raised) -> None:
    raised((current(600),), (current(600),), alerts=())


@pytest.mark.parametrize("verdict", [Verdict.BEHIND, Verdict.EMPTY, Verdict.DIVERGED])
def test_a_server_that_waits_for_a_migration_is_reported_after_a_quarter_of_an_hour(
    raised: Raised, verdict: Verdict
) -> None:
    raised((current(14),), (drifted(14, verdict),), alerts=())
    raised((current(18),), (drifted(18, verdict),), alerts=("GateWaiting",))


def test_a_wait_that_has_ended_is_not_reported(raised: Raised) -> None:
    raised((drifted(60), current(2)), alerts=())


def test_a_server_that_loses_its_schema_is_reported_once(raised: Raised) -> None:
    raised((current(60), drifted(3)), alerts=())
    raised((current(60), drifted(8)), alerts=("GateSchemaDrift",))
    raised((current(60), drifted(120)), alerts=("GateSchemaDrift",))


def test_a_lost_schema_stays_reported_for_longer_than_a_day(raised: Raised) -> None:
    raised((current(60), drifted(60 * 30)), alerts=("GateWaiting",))


@pytest.mark.parametrize("ready", [False, True])
def test_a_database_that_lacks_what_the_code_needs_is_reported_also_of_servers_that_are_ready(
    raised: Raised,
    ready: bool,  # noqa: FBT001 - parametrized
) -> None:
    raised((current(60), incomplete(3, ready=ready)), alerts=())
    raised((current(60), incomplete(60, ready=ready)), alerts=("GateSchemaIncomplete",))
    raised((incomplete(60, ready=ready),), alerts=("GateSchemaIncomplete",))


def test_what_is_missing_beside_a_pending_migration_is_only_a_wait(raised: Raised) -> None:
    raised((Phase(60, Verdict.BEHIND, ready=False, missing=2),), alerts=("GateWaiting",))


def test_a_database_that_goes_away_is_reported_after_some_minutes(raised: Raised) -> None:
    raised((current(60), away(4)), alerts=())
    raised((current(60), away(10)), alerts=("GateDatabaseNotSeen",))
    raised((current(60), away(60)), alerts=("GateDatabaseNotSeen",))
    raised((current(60), away(60), current(2)), alerts=())


def test_a_database_that_was_never_reached_is_reported_and_not_as_a_wait(raised: Raised) -> None:
    raised((never_seen(2),), alerts=())
    raised((never_seen(60),), alerts=("GateDatabaseNotSeen",))


def test_a_server_whose_image_does_not_know_the_schema_is_reported_after_hours(raised: Raised) -> None:
    raised((current(60), migrated_by_a_newer_image(60)), alerts=())
    raised((current(60), migrated_by_a_newer_image(180)), alerts=("GateSchemaUnknown",))
    raised((current(60), migrated_by_a_newer_image(600, Verdict.AHEAD)), alerts=())


def test_a_rollout_with_a_quick_migration_raises_nothing(raised: Raised) -> None:
    old, new = (current(60), migrated_by_a_newer_image(20)), (drifted(10), current(70))
    raised(old, new, alerts=())


VALUES = {
    "GateWaiting": ((drifted(60),), "1h 0m 0s", 59),
    "GateSchemaDrift": ((current(30), drifted(30)), "2", 59),
    "GateSchemaIncomplete": ((incomplete(60, ready=True),), "3", 59),
    "GateDatabaseNotSeen": ((never_seen(60),), "2", 59),
    "GateSchemaUnknown": ((migrated_by_a_newer_image(180),), "2", 179),
}
"""Alert -> what two servers report, `$value` as the annotations show it, and the minute."""


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_many_servers_raise_one_alert_that_names_the_workload_and_the_number(check: Check, rule: Rule) -> None:
    phases, value, minute = VALUES[rule["alert"]]
    labels = {"job": "shop", "namespace": "prod", **rule["labels"]}
    alert = {"exp_labels": labels, "exp_annotations": rendered(rule, value)}
    expected = {"alertname": rule["alert"], "eval_time": f"{minute}m", "exp_alerts": [alert]}
    check((phases, phases), {"alert_rule_test": [expected]})


def rendered(rule: Rule, value: str) -> dict[str, str]:
    """Render the annotations as Prometheus does."""
    replacements = {"$labels.job": "shop", "$value": value, "$value | humanizeDuration": value}
    return {
        name: re.sub(r"\{\{ (.*?) \}\}", lambda variable: replacements[variable[1]], text)
        for name, text in rule["annotations"].items()
    }


@pytest.mark.parametrize("phase", [current(1), drifted(1), never_seen(1)], ids=["current", "drifted", "never seen"])
def test_what_the_rules_are_tested_on_is_what_gate_serve_reports(
    gate: GateRunner, database: TestDatabase, phase: Phase
) -> None:
    database.stamp("a3" if phase.ready else "a1")
    url = database.url if phase.verdict else database.server.url("no_such_database")
    port = free_port()
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}", DATABASE_URL=url)
    serving.await_event("gate.serving")
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    promtool("check", "metrics", text=text)
    reported = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    for name, value in phase.samples(0, 0).items():
        assert (reported[name] == NEVER) is (value == NEVER)
    assert float(reported["gate_schema_ready"]) == phase.ready
    assert (float(reported["gate_waiting_seconds"]) > 0) is not phase.ready
    verdicts = {verdict for verdict in Verdict if reported[f'gate_schema_verdict{{verdict="{verdict}"}}'] == "1.0"}
    assert verdicts == ({phase.verdict} if phase.verdict else set())
