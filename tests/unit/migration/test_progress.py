"""The reports of the upgrade's processes, and the error in which a failed upgrade ends."""

from __future__ import annotations

from typing import Any

import pytest

from gate.drift.comparison import Drift, Verdict
from gate.errors import BadSettings, MigrationFailed
from gate.migration.progress import Progress

STARTED = {"type": "started", "revision": "a2", "step": 1}
FAILED = {
    "type": "failed",
    "kind": "migration",
    "revision": "a2",
    "message": "ValueError: no good",
    "location": "/app/versions/a2.py, line 7",
    "sqlstate": None,
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
    assert (made.step, made.revision, made.in_revision) == (1, "a2", " in revision a2 (1/2)")


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
