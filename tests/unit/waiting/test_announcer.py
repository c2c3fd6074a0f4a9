"""How often a waiting gate repeats a line, and what each line says."""

from __future__ import annotations

import json

import pytest

from gate import log
from gate.database.stamp import Stamp
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspection
from gate.errors import DatabaseUnavailable
from gate.waiting.announcer import Announcer
from gate.waiting.backoff import Pause
from gate.waiting.outcome import Outcome
from gate.waiting.termination_log import TerminationLog

BEHIND = Inspection(Stamp("shop", "public", ("a1",)), Drift(Verdict.BEHIND, ("a1",), ("a2",), ("a2",)))


@pytest.fixture
def announcer() -> Announcer:
    log.configure("json")
    return Announcer(TerminationLog(None))


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


def test_an_unchanged_finding_is_repeated_at_growing_intervals_and_at_least_each_minute(
    announcer: Announcer, capfd: pytest.CaptureFixture[str]
) -> None:
    for second in range(301):
        announcer.announce(Outcome(BEHIND), Pause(second, 1.5))
    assert [line["elapsed"] for line in lines(capfd)] == [0, 5, 15, 35, 75, 135, 195, 255]


def test_a_change_is_announced_at_once_and_resets_the_interval(
    announcer: Announcer, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = BEHIND._replace(drift=Drift(Verdict.BEHIND, ("a2",), ("a3",), ("a3",)))
    for second in range(40):
        announcer.announce(Outcome(BEHIND if second < 20 else changed), Pause(second, 1))
    assert [line["elapsed"] for line in lines(capfd)] == [0, 5, 15, 20, 25, 35]


def test_each_line_has_the_fields_that_machines_read(announcer: Announcer, capfd: pytest.CaptureFixture[str]) -> None:
    announcer.announce(Outcome(BEHIND), Pause(312.34, 9.123))
    [line] = lines(capfd)
    assert {key: value for key, value in line.items() if key not in {"timestamp", "message"}} == {
        "level": "critical",
        "event": "gate.waiting",
        "verdict": "BEHIND",
        "drift": "drift: db=a1 expected=a2",
        "stamped": ["a1"],
        "expected": ["a2"],
        "pending": 1,
        "next_revisions": ["a2"],
        "database": "shop",
        "elapsed": 312.3,
        "next_look": 9.12,
    }
    assert "does not start the server. It has waited for 312 s. Next check in 9.1 s." in str(line["message"])


def test_an_error_that_names_another_address_each_time_is_no_change(
    announcer: Announcer, capfd: pytest.CaptureFixture[str]
) -> None:
    for second in range(10):
        error = DatabaseUnavailable("Nothing listens (db:5432/shop).", f"connection to 10.0.0.{second} failed")
        announcer.announce(Outcome(error), Pause(second, 1))
    assert [line["elapsed"] for line in lines(capfd)] == [0, 5]
