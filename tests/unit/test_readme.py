"""The README cannot fall behind the code: every table of it is read and compared."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from gate import errors
from gate.asgi import Ready
from gate.cli.serve import Metrics
from gate.drift.comparison import Drift, Verdict
from gate.drift.decision import decide
from gate.errors import GateError
from gate.readiness.answer import Readiness, fields
from gate.settings.arguments import COMMANDS
from gate.settings.settings import Decision, Policy
from gate.settings.variables import SETTINGS
from tests.support.programs import GATE_COMMAND, start

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SOURCE = {path.stem: path.read_text() for path in (ROOT / "gate").rglob("*.py") if path.stem != "__init__"}

OTHERS = {"--build", "--check-heads", "--from-literal", "--init", "--profile", "--rm", "--wait"}
"""Flags of Alembic, Docker, kubectl and Helm that the README tells."""

NO_ERRORS = {"0", "1", "128+n"}
"""Exit codes that no error class stands for: passed, drift, a signal."""

POLICY_OF = {Verdict.UNKNOWN: "GATE_ON_UNKNOWN", Verdict.UNSTAMPED: "GATE_ON_UNSTAMPED"}


def table(*heading: str) -> list[list[str]]:
    """The rows of the table whose heading begins so."""
    lines = README.splitlines()
    found = [at for at, line in enumerate(lines) if cells(line)[: len(heading)] == list(heading)]
    assert len(found) == 1, f"{len(found)} tables with the heading {heading}"
    rows = []
    for line in lines[found[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_settings_are_those_of_the_code() -> None:
    told = [tuple(row) for row in table("variable", "flag", "default", "meaning")]
    assert told == [(f"`{s.variable}`", f"`{s.flag}`" if s.flag else "", s.default, s.meaning) for s in SETTINGS]


def test_commands_are_those_of_the_code() -> None:
    told = {re.findall(r"gate (\w+)", command)[0]: meaning for command, meaning in table("command")}
    assert told == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_the_help_is_told(command: str) -> None:
    usage = start([*GATE_COMMAND, command, "--help"], {}, ROOT).wait()
    assert usage.code == 0
    options = usage.out.split("options:")[1]
    flags = {flag for line in options.splitlines() for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line[:28])}
    assert flags >= {"--help", "--config", "-c"}
    assert {flag for flag in flags if not re.search(rf"`{flag}\b", README)} == set()


def test_no_flag_is_told_that_no_command_takes() -> None:
    helps = "".join(start([*GATE_COMMAND, command, "--help"], {}, ROOT).wait().out for command in COMMANDS)
    told = set(re.findall(r"`[^`]*?(--[a-z][\w-]*)", README))
    assert {flag for flag in told if not re.search(rf"{flag}\b", helps)} == OTHERS


def test_exit_codes_are_those_of_the_code() -> None:
    told = [row[0] for row in table("code")]
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GateError)]
    assert len(told) == len(set(told))
    assert set(told) == {str(each.exit_code) for each in classes} | NO_ERRORS


def test_every_verdict_is_explained() -> None:
    assert [row[0] for row in table("verdict", "what gate found")] == [f"`{verdict}`" for verdict in Verdict]


@pytest.mark.parametrize("verdict", Verdict)
def test_decisions_are_those_of_the_code(verdict: Verdict) -> None:
    rows = {row[0]: row[1:] for row in table("verdict", "`gate check`")}
    check, waiting, migrating = rows[f"`{verdict}`"]
    assert check == ("0" if Drift(verdict, (), ()).fits else "1")
    for cell, policy in ((waiting, Policy()), (migrating, Policy(migrating=True))):
        assert re.split(r"\W", cell)[0] == decide(verdict, policy)
        assert variables(cell) == ({POLICY_OF[verdict]} if depends_on_policy(verdict, policy) else set())


def variables(cell: str) -> set[str]:
    return set(re.findall(r"GATE_\w+", cell))


def depends_on_policy(verdict: Verdict, policy: Policy) -> bool:
    wishes = (Decision.GO, Decision.WAIT, Decision.REFUSE)
    found = {
        decide(verdict, Policy(policy.migrating, unknown, unstamped)) for unknown, unstamped in product(wishes, wishes)
    }
    return len(found) > 1


def test_events_are_those_of_the_code() -> None:
    modules = {f"gate.{name}" for name in SOURCE}
    logged = {event for text in SOURCE.values() for event in re.findall(r'"(gate\.[a-z_]+)"', text)}
    assert {row[0].strip("`") for row in table("event")} == logged - modules


def test_log_lines_that_are_shown_have_events_of_the_code() -> None:
    shown = {
        event
        for block in re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
        for event in events(block)
    }
    assert {"gate.waiting", "gate.revision_applied", "gate.starting"} <= shown
    rooms = {f"gate.{room}" for room in SOURCE} | {"gate.guard", "gate.report"}
    assert {event for event in shown - rooms if f'"{event}"' not in "".join(SOURCE.values())} == set()


def events(block: str) -> list[str]:
    return re.findall(r"\bgate\.[a-z_]+", block)


def test_fields_of_the_readiness_answer_are_those_of_the_code() -> None:
    told = [name for names, _ in table("field of the answer") for name in re.findall(r"`(\w+)`", names)]
    assert told == list(fields(Readiness(Drift(Verdict.BEHIND, (), ()), age=0, away=0, migrating="somebody")))


def test_metrics_are_those_of_the_code() -> None:
    told = {re.findall(r"`(\w+)", metric)[0]: meaning for metric, meaning in table("metric of `gate serve`")}
    assert told == {each.name: each.documentation for each in Metrics(Ready("postgresql://127.0.0.1:1/none")).collect()}


def test_every_way_to_deploy_is_told() -> None:
    told = {re.findall(r"`(.+?)`", take)[0] for _, take, _ in table("you have", "take", "who migrates")}
    overlays = {f"k8s/overlays/{path.name}" for path in (ROOT / "k8s" / "overlays").iterdir()}
    assert told == overlays | {path.name for path in ROOT.glob("compose*.yaml")}
