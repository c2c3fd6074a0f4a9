"""The reports of the upgrade's processes, and the error in which a failed upgrade ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gate import log
from gate.drift.comparison import Drift, Verdict
from gate.errors import BadSettings, MigrationFailed
from gate.migration.progress import Progress, command_line, shell_hint

STARTED = {"type": "started", "revision": "a2", "step": 1}
FAILED = {
    "type": "failed",
    "kind": "migration",
    "revision": "a2",
    "message": "ValueError: no good",
    "location": "/app/versions/a2.py, line 7",
    "sqlstate": None,
    "lost": False,
    "conflict": "",
}


def progress(*reports: dict[str, Any]) -> Progress:
    made = Progress(Drift(Verdict.BEHIND, ("a1",), ("a3",), ("a2", "a3")), total=2)
    for report in reports:
        made.receive(dict(report))
    return made


def test_only_the_start_of_a_revision_is_worth_publishing() -> None:
    made = progress()
    applied = {"type": "applied", "revision": "a2", "step": 1, "seconds": 0.1}
    assert [made.receive(dict(report)) for report in (STARTED, applied, {"type": "done"})] == [True, False, False]
    assert (made.step, made.revision, made.in_revision) == (1, "a2", " after revision a2 (1/2)")


def test_the_time_limit_covers_the_dry_run_of_env_py_too() -> None:
    made = progress()
    began = made.began
    for report in ({"type": "verifying"}, {"type": "verified"}, STARTED):
        made.receive(dict(report))
    assert made.began == began


@pytest.mark.parametrize(
    ("reports", "command", "message"),
    [
        (
            [STARTED, FAILED],
            (),
            "The upgrade failed in revision a2 (1/2): ValueError: no good (/app/versions/a2.py, line 7).",
        ),
        (
            [{"type": "not_executable", "reason": "No such file"}],
            ("x", "y"),
            "(`x y`) cannot be executed: No such file.",
        ),
        (
            [STARTED, {"type": "exited", "exit_code": -9, "killed": 0}],
            (),
            "was killed by SIGKILL in revision a2 (1/2).",
        ),
        (
            [STARTED, {"type": "exited", "exit_code": 3, "killed": 0}],
            (),
            "ended with exit code 3 in revision a2 (1/2).",
        ),
        ([{"type": "exited", "exit_code": 0, "killed": 0}], (), "exit code 0, but the upgrade had not finished."),
    ],
    ids=["an error", "no such command", "a signal", "an exit code", "no end"],
)
def test_a_failed_upgrade_is_named_with_its_revision_and_cause(
    reports: list[dict[str, Any]], command: tuple[str, ...], message: str
) -> None:
    with pytest.raises(MigrationFailed) as failure:
        progress(*reports).raise_for_failure(0, command)
    assert message in str(failure.value)


def test_the_supervisors_own_exit_code_counts_only_if_it_reported_none() -> None:
    with pytest.raises(MigrationFailed, match="SIGKILL"):
        progress(STARTED).raise_for_failure(-9, ())
    progress({"type": "done"}, {"type": "exited", "exit_code": 0, "killed": 0}).raise_for_failure(-9, ())


def test_what_the_fence_refuses_is_a_wrong_setting_until_a_revision_has_started() -> None:
    refusal = {**FAILED, "kind": "database", "message": "env.py connects to database x."}
    with pytest.raises(BadSettings, match=r"env.py connects to database x. Nothing was applied."):
        progress(refusal).raise_for_failure(0, ())
    with pytest.raises(MigrationFailed, match="database x"):
        progress(STARTED, refusal).raise_for_failure(0, ())


@pytest.mark.parametrize(
    ("message", "started", "applied"),
    [
        ("Add price", "Applying 1/2 a2 Add price.", "Applied 1/2 a2 Add price in 0.1 s."),
        ("Add price.", "Applying 1/2 a2 Add price.", "Applied 1/2 a2 Add price in 0.1 s."),
        ("Why not?", "Applying 1/2 a2 Why not?", "Applied 1/2 a2 Why not? in 0.1 s."),
        ("", "Applying 1/2 a2.", "Applied 1/2 a2 in 0.1 s."),
    ],
)
def test_a_full_stop_of_the_docstring_is_not_doubled(
    message: str, started: str, applied: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure("json", "info")
    drift = Drift(Verdict.BEHIND, ("a1",), ("a3",), ("a2", "a3"), messages={"a2": message})
    made = Progress(drift, total=2)
    for report in (STARTED, {"type": "applied", "revision": "a2", "step": 1, "seconds": 0.1}):
        made.receive(dict(report))
    lines = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert lines == [started, applied]


def test_a_failure_after_a_revision_is_not_put_on_it() -> None:
    applied = {"type": "applied", "revision": "a2", "step": 1, "seconds": 0.1}
    with pytest.raises(MigrationFailed, match=r"The upgrade failed after revision a2 \(1/2\): ValueError: no good \("):
        progress(STARTED, applied, FAILED).raise_for_failure(0, ())


@pytest.mark.parametrize(
    ("location", "end"),
    [(None, "ValueError: no good."), ("/app/a2.py, line 7", "ValueError: no good (/app/a2.py, line 7).")],
)
def test_a_full_stop_of_an_error_is_not_doubled(location: str | None, end: str) -> None:
    failed = {**FAILED, "message": "ValueError: no good.", "location": location}
    with pytest.raises(MigrationFailed) as failure:
        progress(STARTED, failed).raise_for_failure(0, ())
    assert str(failure.value).endswith(end)


def test_a_long_error_is_shortened_visibly_and_keeps_its_location() -> None:
    with pytest.raises(MigrationFailed) as failure:
        progress(STARTED, {**FAILED, "message": "x" * 10_000}).raise_for_failure(0, ())
    assert str(failure.value).endswith("x… (/app/versions/a2.py, line 7).")


def test_an_upgrade_command_is_shown_as_it_could_be_typed_again() -> None:
    assert command_line(["sh", "-c", "./up.sh again"]) == "sh -c './up.sh again'"
    assert "s3cret" not in command_line(["up", "postgresql://u:s3cret@h/d it's"])


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["./up.sh", "$DATABASE_URL"], "$DATABASE_URL"),
        (["alembic", "upgrade", "heads", "||", "true"], "||"),
        (["alembic", "upgrade", "heads", ">", "log"], ">"),
        (["alembic", "upgrade", "heads", "&&", "seed"], "&&"),
        (["up", "`date`"], "`date`"),
        (["up", "$(date)"], "$(date)"),
        (["~/up"], "~/up"),
        (["cd", "/app"], "cd"),
        (["PYTHONPATH=.", "alembic", "upgrade", "heads"], "PYTHONPATH=."),
        (["up", "*.sql"], "*.sql"),
    ],
)
def test_a_failed_upgrade_command_that_was_meant_for_a_shell_says_so(command: list[str], word: str) -> None:
    with pytest.raises(MigrationFailed) as failure:
        progress({"type": "exited", "exit_code": 1, "killed": 0}).raise_for_failure(0, command)
    assert f"without a shell, so {word} is passed on as it is; for a shell: sh -c '...'." in str(failure.value)


@pytest.mark.parametrize(
    "command", [["alembic", "upgrade", "heads"], ["sh", "-c", "a && b"], ["/bin/bash", "-c", "$X"], ["flask", "db"], []]
)
def test_other_commands_get_no_hint_about_a_shell(command: list[str]) -> None:
    assert shell_hint(command) == ""


@pytest.mark.parametrize("started", [[], [STARTED]], ids=["in env.py", "in a revision"])
@pytest.mark.parametrize(
    "message", ["RuntimeError: Working outside of application context.", "RuntimeError: Not within an app context"]
)
def test_a_missing_application_context_is_answered_with_the_setting(
    started: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(MigrationFailed, match=r"GATE_UPGRADE_COMMAND .*`flask db upgrade`"):
        progress(*started, {**FAILED, "message": message}).raise_for_failure(1, ())
