"""GATE_ON_FAILURE=stay: gate keeps running after a failure, so that an updater can still deploy the fix."""

from __future__ import annotations

import os
from contextlib import suppress

from gate import log
from gate.errors import DatabaseLost, GateError, TimedOut
from gate.settings import settings
from gate.waiting import backoff
from gate.waiting.announcer import Announcer
from gate.waiting.attempt import Attempt
from gate.waiting.backoff import Pause
from gate.waiting.builder import STAY_ACTIVITY
from gate.waiting.outcome import Outcome, readiness, timeout_message

SURVIVED_EXIT_CODES = frozenset({65, 75, 76, 78})
"""The exit codes of the failures after which gate keeps running."""

MAX_STAY_PAUSE = 60.0
"""Seconds: the longest pause between two attempts."""


def survives(failure: GateError) -> bool:
    """Whether gate keeps running after this failure."""
    return failure.exit_code in SURVIVED_EXIT_CODES or isinstance(failure, DatabaseLost)


def stay(attempt: Attempt, failure: GateError) -> None:
    """Repeat the attempt that ended with `failure` until one passes.

    Raises `TimedOut`, and every failure that gate does not survive.
    """
    _log_staying(attempt, failure)
    _start_placeholder(attempt, failure)
    announcer = Announcer(attempt.termination, STAY_ACTIVITY)

    def report(outcome: Outcome | None, pause: Pause) -> None:
        assert outcome
        attempt.placeholder.publish(readiness(outcome))
        announcer.announce(outcome, pause)

    outcome = backoff.poll(
        lambda: _repeat(attempt),
        done=lambda outcome: outcome is None,
        max_pause=lambda: MAX_STAY_PAUSE,
        before_pause=report,
        timeout=attempt.deadline.remaining(),
    )
    if outcome:
        raise TimedOut(timeout_message(outcome, attempt.deadline.timeout))


def _repeat(attempt: Attempt) -> Outcome | None:
    """Run the attempt again, and return its failure; None if it passed."""
    try:
        attempt.run()
    except GateError as error:
        if not survives(error):
            raise
        if isinstance(error, DatabaseLost):
            _log_staying(attempt, error)
        return Outcome(error)
    return None


def _log_staying(attempt: Attempt, failure: GateError) -> None:
    again = "checks again without repeating the upgrade" if attempt.upgrade_began else "tries again"
    if isinstance(failure, DatabaseLost) and not attempt.inspect_only:
        again = f"migrates again (at most {attempt.retries_left + 1} more times)"
    text = (
        f"{Outcome(failure).description} {STAY_ACTIVITY}. It {again}, and starts the server when this is fixed and the "
        "schema fits."
    )
    attempt.termination.write(text)
    log.emit("critical", "gate.staying", text, kind=type(failure).__name__, section=failure.section or None)


def _start_placeholder(attempt: Attempt, failure: GateError) -> None:
    with suppress(GateError):  # a probe needs an answer even if another setting is wrong
        attempt.placeholder.start(*settings.placeholder_address(os.environ))
    attempt.placeholder.publish(readiness(Outcome(failure)))
