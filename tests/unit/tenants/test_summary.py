"""What has become of many schemas: short sentences, and one error with the gravest exit code."""

from __future__ import annotations

import pytest

from gate.errors import BadSettings, DatabaseLost, DatabaseUnavailable, GateError, MigrationFailed, ResourceShortage
from gate.tenants.summary import Summary


def failed(**errors: GateError) -> Summary:
    return Summary(1000, migrated=["a", "b"], failures=errors)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([MigrationFailed("m")], 65),
        ([DatabaseLost("l"), MigrationFailed("m"), BadSettings("s")], 65),
        ([DatabaseLost("l"), BadSettings("s")], 78),
        ([DatabaseUnavailable("u"), DatabaseLost("l")], 69),
        ([ResourceShortage("r")], 69),
    ],
)
def test_the_gravest_failure_decides_the_exit_code(errors: list[GateError], code: int) -> None:
    error = failed(**{f"t{number}": each for number, each in enumerate(errors)}).error(keep_going=True)
    assert error
    assert error.exit_code == code
    assert all(f"t{number}" in str(error) for number in range(len(errors)))


def test_an_unavailable_database_is_waited_for_and_a_lost_one_is_not() -> None:
    assert isinstance(failed(t=DatabaseUnavailable("u")).error(keep_going=False), DatabaseUnavailable)
    assert not isinstance(failed(t=DatabaseLost("l")).error(keep_going=False), DatabaseUnavailable)


def test_without_a_failure_there_is_no_error() -> None:
    assert Summary(3, migrated=["a"]).error(keep_going=False) is None


def test_the_message_stays_short_with_ten_thousand_failures() -> None:
    error = failed(**{f"t{n}": MigrationFailed("broken " * 1000) for n in range(10_000)}).error(keep_going=True)
    assert error
    assert len(str(error)) < 4000
    assert "10,000 of 1,000 schemas failed: t0: broken" in str(error)
    assert "and 9987 more" in str(error)


def test_what_was_not_begun_is_counted_with_the_option_that_goes_on() -> None:
    summary = failed(t=MigrationFailed("broken"))
    summary.not_begun = 7
    assert "7 were not begun; with --keep-going" in str(summary.error(keep_going=False))
    assert "7 not begun" in summary.text(1)


def test_the_sentence_counts_only_what_there_is() -> None:
    assert Summary(2, migrated=["a", "b"]).text(1.23) == "gate migrated 2 of 2 schemas in 1.2 s."
    summary = Summary(9, migrated=["a"], by_others=["b"], dropped=["c"], busy={"d"}, failures={"e": GateError("x")})
    assert summary.text(2) == (
        "gate migrated 1 of 9 schemas in 2.0 s, 1 failed, 1 migrated by another gate, 1 dropped meanwhile, 1 being "
        "migrated by another gate."
    )


def test_names_and_errors_cannot_add_lines() -> None:
    error = Summary(1, failures={"a\nb": MigrationFailed("one\ntwo")}).error(keep_going=True)
    assert "\n" not in str(error)
