"""`gate run`, `gate wait` and `gate migrate`: pass the gate, then become the server or end."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gate import log
from gate.errors import GateError, Interrupted
from gate.process import signals
from gate.process.exec import execute, find_command
from gate.settings import settings
from gate.settings.arguments import COMMANDS, Arguments
from gate.waiting.gate import Gate
from gate.waiting.termination_log import TerminationLog


def run_gate(arguments: Arguments) -> int:
    """Pass the gate and become the server (does not return), or give the exit code."""
    log.configure(settings.log_format(os.environ, arguments.flags))
    signals.install_handlers()
    termination = TerminationLog(os.environ.get("GATE_TERMINATION_LOG"))
    try:
        if arguments.command == "run":
            find_command(arguments.server[0])
        if handles_schema(arguments.server):
            termination.clear()
        else:
            _pass_gate(arguments, termination)
        if arguments.command == "run":
            _execute_server(arguments.server)
    except GateError as error:
        return _report_failure(error, arguments.command, termination)
    except Interrupted as signalled:
        text = f"gate was asked to end by signal {signalled.signal_number} and ends; the server was not started."
        log.emit("warning", "gate.ended", text, exit_code=signalled.exit_code)
        return signalled.exit_code
    return 0


def handles_schema(server: Sequence[str]) -> bool:
    """Whether this is `gate migrate`, say, in an image whose entrypoint is gate: it would wait for itself for ever."""
    program, *words = os.path.basename(server[0]) if server else "", *server[1:2]
    return bool(words) and (program == "alembic" or (program == "gate" and words[0] in COMMANDS))


def _execute_server(server: Sequence[str]) -> None:
    why = ", which deals with the schema itself: nothing is checked" if handles_schema(server) else ""
    log.emit("info", "gate.starting", f"gate starts {server[0]}{why}.", command=server[0])
    execute(server)


def _pass_gate(arguments: Arguments, termination: TerminationLog) -> None:
    if settings.bypassed(os.environ):
        log.emit("critical", "gate.bypassed", "GATE_BYPASS is set: nothing is checked and nothing migrated.")
    else:
        Gate(arguments, termination).run()
    termination.clear()


def _report_failure(error: GateError, name: str, termination: TerminationLog) -> int:
    text = " ".join(str(error).splitlines())
    termination.write(text)
    ends = "The server is not started." if name == "run" else ""
    log.emit(
        "critical",
        "gate.failed",
        f"{text} {ends}".rstrip(),
        kind=type(error).__name__,
        exit_code=error.exit_code,
    )
    return error.exit_code
