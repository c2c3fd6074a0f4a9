"""The gate: attempts to pass, and the placeholder that answers on the server's port meanwhile."""

from __future__ import annotations

import os

from gate.errors import GateError
from gate.readiness.placeholder import Placeholder
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.waiting.attempt import Attempt
from gate.waiting.stay import stay, survives
from gate.waiting.termination_log import TerminationLog


def pass_gate(arguments: Arguments, termination: TerminationLog) -> None:
    """Return when the schema fits, or the policy lets the server start without that.

    The placeholder ends before this returns, so that the port is free for the server. Raises every `GateError` that
    ends the waiting.
    """
    placeholder = Placeholder()
    try:
        _run(Attempt(arguments, termination, placeholder))
    finally:
        placeholder.stop()


def _run(attempt: Attempt) -> None:
    try:
        attempt.run()
    except GateError as failure:
        arguments = attempt.arguments
        stays = arguments.command == "run" and settings.stays_on_failure(os.environ, arguments.flags)
        if not stays or not survives(failure):
            raise
        stay(attempt, failure)
