"""`gate`: arguments in, an exit code out."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import NoReturn

from gate import __version__, garbage, streams
from gate.command_line import parse
from gate.errors import BadUsage, GateError, Interrupted
from gate.redaction import hide


def main() -> NoReturn:
    """Run gate and end the process, also while a look hangs in a thread."""
    warnings.simplefilter("ignore")  # a library's advice to developers is no line for an operator
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        streams.open_closed()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # whatever a caller has put there
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    garbage.collect_seldom()
    try:
        code = command(sys.argv[1:])
    except Interrupted as signalled:
        code = signalled.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - the last resort: a bug, told as one
        code = _bug(error)
    _leave(code)


def _bug(error: Exception) -> int:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    text = " ".join(hide(str(error)).split())[:300]
    streams.say(
        f"this is a bug in gate {__version__}: {type(error).__name__} in {place}: {text}. "
        "Please report it; GATE_BYPASS=1 is the way out."
    )
    return GateError.exit_code


def command(argv: Sequence[str]) -> int:
    """Parse and run one command; give its exit code."""
    try:
        arguments = parse(argv)
    except BadUsage as error:
        streams.say(str(error))
        return error.exit_code
    return _doer(arguments.command)(arguments)


def _doer(name: str) -> Callable[[SimpleNamespace], int]:
    if name in {"check", "heads"}:
        from gate import report  # noqa: PLC0415 - a look needs nothing of what waiting and migrating need

        return {"check": report.check, "heads": report.heads}[name]
    from gate import signals  # noqa: PLC0415 - likewise

    signals.answer()  # before anything slow is loaded: PID 1 is deaf until then
    if name == "serve":
        return _serve
    from gate import guard  # noqa: PLC0415 - likewise

    return guard.guard


def _serve(arguments: SimpleNamespace) -> int:
    from gate.hold import require_http  # noqa: PLC0415 - the extra may not be installed

    try:
        require_http("gate serve")
        from gate.serve import serve  # noqa: PLC0415 - likewise

        return serve(arguments)
    except GateError as error:
        streams.say(*hide(str(error)).splitlines())
        return error.exit_code


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever closed the pipe has read enough
            stream.flush()
    os._exit(code)
