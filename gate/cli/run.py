"""`gate run`, `gate wait` and `gate migrate`: pass the gate, then replace this process by the server or exit."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gate import log, redaction
from gate.cli.nested import manages_schema
from gate.errors import GateError, Interrupted, MigrationFailed, ResourceShortage
from gate.process import signals
from gate.process.exec import execute, find_command
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.waiting.gate import pass_gate
from gate.waiting.termination_log import TerminationLog


def run_gate(arguments: Arguments) -> int:
    """Pass the gate and return the exit code; `gate run` does not return but becomes the server."""
    try:
        return _run(arguments)
    except Interrupted as interruption:
        return _report_signal(interruption, starts_server=arguments.command == "run")


def _run(arguments: Arguments) -> int:
    log.configure(settings.log_format(os.environ, arguments.flags))
    termination = TerminationLog(os.environ.get("GATE_TERMINATION_LOG"))
    starts_server = arguments.command == "run"
    try:
        if starts_server:
            find_command(arguments.server[0])
        if manages_schema(arguments.server):
            termination.clear()
        else:
            _pass_unless_bypassed(arguments, termination)
        if starts_server:
            _execute_server(arguments.server)
    except (GateError, OSError, RuntimeError, MemoryError) as error:
        if interruption := signals.interruption():
            raise interruption from error  # the error comes from what a signal has interrupted
        failure = error if isinstance(error, GateError) else ResourceShortage.of(error)
        if failure is None:
            raise
        signals.finish()
        return _report_failure(failure, termination, starts_server=starts_server)
    return 0


def _execute_server(server: Sequence[str]) -> None:
    reason = " without a check, because this command manages the schema itself" if manages_schema(server) else ""
    log.emit("info", "gate.starting", f"gate starts {server[0]}{reason}.", command=server[0])
    execute(server)


def _pass_unless_bypassed(arguments: Arguments, termination: TerminationLog) -> None:
    if settings.bypassed(os.environ):
        text = "GATE_BYPASS is set: gate checks nothing and migrates nothing. Unset it once the cause is fixed."
        log.emit("critical", "gate.bypassed", text)
    else:
        pass_gate(arguments, termination)
    termination.clear()


def _report_failure(error: GateError, termination: TerminationLog, *, starts_server: bool) -> int:
    redaction.learn()
    text = error.line
    termination.write(text)
    log.emit(
        "critical",
        "gate.failed",
        f"{text}{_not_started(starts_server=starts_server)}",
        kind=type(error).__name__,
        section=error.section or None,
        exit_code=error.exit_code,
    )
    return error.exit_code


def _report_signal(interruption: Interrupted, *, starts_server: bool) -> int:
    redaction.learn()
    text = f"gate received signal {interruption.signal_number} and ends.{_not_started(starts_server=starts_server)}"
    if failure := _interrupted_failure(interruption):
        text = f"{text} Before the signal the migration had failed: {failure.line}"
    log.emit("warning", "gate.ended", text, exit_code=interruption.exit_code)
    return interruption.exit_code


def _interrupted_failure(interruption: Interrupted) -> MigrationFailed | None:
    """Return the failure whose report the signal has interrupted."""
    error: BaseException | None = interruption
    while error is not None and not isinstance(error, MigrationFailed):
        error = error.__context__
    return error


def _not_started(*, starts_server: bool) -> str:
    return " The server is not started." if starts_server else ""
