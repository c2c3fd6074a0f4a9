"""`gate run`, `gate wait` and `gate migrate`: pass the gate, then become the server or end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace

from gate import handoff, log, settings, signals
from gate.command_line import COMMANDS
from gate.errors import GateError, Interrupted
from gate.passage import Passage
from gate.termination import TerminationLog


def guard(arguments: SimpleNamespace) -> int:
    """Pass the gate and become the server (does not return), or give the exit code."""
    log.configure(settings.log_format(os.environ, arguments.flags))
    signals.answer()
    termination = TerminationLog(os.environ.get("GATE_TERMINATION_LOG"))
    try:
        if arguments.command == "run":
            handoff.find(arguments.server[0])
        if brings_the_schema(arguments.server):
            termination.clear()
        else:
            _pass(arguments, termination)
        if arguments.command == "run":
            _become(arguments.server)
    except GateError as error:
        return _failed(error, arguments.command, termination)
    except Interrupted as signalled:
        text = f"gate was asked to end by signal {signalled.signal_number} and ends; the server was not started."
        log.emit("warning", "gate.ended", text, exit_code=signalled.exit_code)
        return signalled.exit_code
    return 0


def brings_the_schema(server: Sequence[str]) -> bool:
    """Whether this is `gate migrate`, say, in an image whose entrypoint is gate: it would wait for itself for ever."""
    program, *words = os.path.basename(server[0]) if server else "", *server[1:2]
    return bool(words) and (program == "alembic" or (program == "gate" and words[0] in COMMANDS))


def _become(server: Sequence[str]) -> None:
    why = ", which deals with the schema itself: nothing is checked" if brings_the_schema(server) else ""
    log.emit("info", "gate.starting", f"gate starts {server[0]}{why}.", command=server[0])
    handoff.become(server)


def _pass(arguments: SimpleNamespace, termination: TerminationLog) -> None:
    if settings.bypassed(os.environ):
        log.emit("critical", "gate.bypassed", "GATE_BYPASS is set: nothing is checked and nothing migrated.")
    else:
        Passage(arguments, termination).pass_the_gate()
    termination.clear()


def _failed(error: GateError, name: str, termination: TerminationLog) -> int:
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
