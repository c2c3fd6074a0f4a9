"""One structured event for one thing that happened: one line, no secret, whatever it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from gate import log
from gate.drift.comparison import Verdict
from gate.settings import database_url

HOSTILE = "x\n\r\x1b[2K\x00\x07\u2028\u202elevel=info\ud800"
STYLES = ("json", "console")


def emitted(capfd: pytest.CaptureFixture[str], style: str, level: str, message: str, **fields: object) -> str:
    log.configure(style)
    log.emit(level, "gate.tested", message, **fields)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.rstrip("\n")


def as_json(capfd: pytest.CaptureFixture[str], level: str, message: str, **fields: object) -> dict[str, Any]:
    found = json.loads(emitted(capfd, "json", level, message, **fields))
    assert isinstance(found, dict)
    return found


def test_an_event_in_json_has_its_name_level_moment_message_and_fields(capfd: pytest.CaptureFixture[str]) -> None:
    found = as_json(capfd, "critical", "It waits.", verdict=Verdict.BEHIND, pending=2, stamped=["a1"], none=None)
    moment = found.pop("timestamp")
    assert moment.endswith("Z")
    assert found == {
        "event": "gate.tested",
        "level": "critical",
        "message": "It waits.",
        "verdict": "BEHIND",
        "pending": 2,
        "stamped": ["a1"],
    }


def test_a_person_reads_moment_level_event_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    moment, level, event, message = emitted(capfd, "console", "warning", "It waits.", pending=2).split(maxsplit=3)
    assert len(moment.split(":")) == 3
    assert (level, event, message) == ("WARNING", "gate.tested:", "It waits.")


def test_away_from_a_terminal_auto_means_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert json.loads(emitted(capfd, "auto", "info", "It waits."))["message"] == "It waits."


@pytest.mark.parametrize("style", STYLES)
def test_no_text_can_forge_a_line_or_steer_a_terminal(capfd: pytest.CaptureFixture[str], style: str) -> None:
    line = emitted(capfd, style, "info", HOSTILE, stamped=[HOSTILE], database=HOSTILE)
    assert line.isprintable()


def test_in_json_hostile_text_reads_back_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    assert as_json(capfd, "info", HOSTILE, stamped=[HOSTILE])["message"] == HOSTILE


SECRET = "S3cr3tW0rd"
LEAK = f"connecting to postgresql://app:{SECRET}@db/shop with password={SECRET} failed"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": LEAK},
        {"lines": ["x", LEAK]},
        {"lines": ("x", (LEAK,))},
        {"migrating": {"host": LEAK}},
        {"error": ValueError(LEAK)},
    ],
    ids=["message", "text", "list", "nested tuple", "dict", "exception"],
)
def test_no_password_is_logged_wherever_it_stands(
    capfd: pytest.CaptureFixture[str], style: str, fields: dict[str, object]
) -> None:
    assert SECRET not in emitted(capfd, style, "error", LEAK, **fields)


@pytest.mark.parametrize("style", STYLES)
def test_a_password_that_was_told_is_hidden_even_where_nothing_marks_it(
    capfd: pytest.CaptureFixture[str], style: str
) -> None:
    for password in ("told-to-test-log", "told-to-test-log-and-longer"):
        database_url.parse(f"postgresql://app:{password}@db/shop", "DATABASE_URL")
    text = "told-to-test-log and told-to-test-log-and-longer"
    line = emitted(capfd, style, "error", text, database=text, migrating={"host": text})
    assert "told" not in line
    assert "*** and ***" in line


@pytest.mark.parametrize(
    ("threshold", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_only_what_is_as_grave_as_wished_is_logged(
    capfd: pytest.CaptureFixture[str], threshold: str, shown: list[str]
) -> None:
    log.configure("json", threshold)
    for level in log.LEVELS:
        log.emit(level, "gate.tested", "It waits.")
    assert [json.loads(line)["level"] for line in capfd.readouterr().err.splitlines()] == shown


def test_a_closed_standard_error_never_breaks_the_gate() -> None:
    program = (
        "import os; from gate import log; log.configure('json'); os.close(2)\n"
        "log.emit('critical', 'gate.tested', 'nobody hears it'); os.write(1, b'went on')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"went on")
