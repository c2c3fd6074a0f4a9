"""`gate`: arguments in, an exit code out."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from gate import __version__
from gate.cli.arguments import parse
from gate.errors import BadUsage, GateError, Interrupted, ResourceShortage
from gate.process import gc_tuning, stdio
from gate.redaction import hide_in_message, learn, learn_from, shorten
from gate.settings.arguments import Arguments


def main() -> NoReturn:
    """Run gate and end the process, even while an inspection hangs in a thread."""
    warnings.simplefilter("ignore")  # a library's deprecation warnings are not for operators
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        stdio.open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a caller may have replaced the stream by any object
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    gc_tuning.collect_rarely()
    try:
        code = command(sys.argv[1:])
    except Interrupted as interruption:  # before a command could handle it
        stdio.print_error(f"received signal {interruption.signal_number} and ends.")
        code = interruption.exit_code
    except KeyboardInterrupt:
        code = _end_by_interrupt()
    except Exception as error:  # noqa: BLE001 - the last resort: report a bug as a bug
        code = _report_shortage(error) or _report_bug(error)
    _exit(code)


def _end_by_interrupt() -> int:
    """Ignore further interrupts, which would print a traceback, and return the exit code."""
    import signal  # noqa: PLC0415 - a check needs it only here

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 128 + signal.SIGINT


def _report_shortage(error: Exception) -> int:
    """Report a shortage around gate that no command has recognised; 0 if the error is no shortage."""
    shortage = ResourceShortage.of(error)
    if shortage is None:
        return 0
    stdio.print_error(str(shortage))
    return shortage.exit_code


def _report_bug(error: Exception) -> int:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    location = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    text = shorten(str(error), 300)
    stdio.print_error(
        f"this is a bug in gate {__version__}: {type(error).__name__} in {location}: {text}. "
        "Please report it. Until it is fixed, GATE_BYPASS=1 starts the server without a check."
    )
    return GateError.exit_code


def command(argv: Sequence[str]) -> int:
    """Parse and run one command, and return its exit code. Without any words, print the help and return 2."""
    if not argv:
        from gate.cli.parser import help_text  # noqa: PLC0415 - argparse costs a check 5 % of its time

        stdio.print_result(help_text())
        return BadUsage.exit_code
    learn_from("surroundings", _surrounding_passwords)
    try:
        arguments = parse(argv)
    except BadUsage as error:
        learn()
        stdio.print_error(hide_in_message(str(error)))
        return error.exit_code
    return _command_function(arguments.command, several=len(arguments.histories) > 1)(arguments)


def _surrounding_passwords() -> frozenset[str]:
    """The passwords of the environment and the arguments, also where an error comes before the settings are read."""
    from gate.settings.secret_sources import secrets_around  # noqa: PLC0415 - a check that succeeds redacts nothing

    return secrets_around()


def _command_function(name: str, *, several: bool) -> Callable[[Arguments], int]:
    if name in {"check", "heads"} and not several:
        from gate.cli import check  # noqa: PLC0415 - a check needs none of the modules for waiting and migrating

        return {"check": check.check, "heads": check.heads}[name]
    from gate.process import signals  # noqa: PLC0415 - likewise

    # Before any slow import: the kernel drops signals for which PID 1 has no handler (pid_namespaces(7)).
    signals.install_handlers()
    if name == "serve":
        return _serve
    if name == "expect":
        from gate.cli.expect import expect  # noqa: PLC0415 - likewise

        return expect
    if name in {"check", "heads", "plan"}:
        return _reporting_function(name, several=several)
    from gate.cli import run  # noqa: PLC0415 - likewise

    return run.run_gate


def _reporting_function(name: str, *, several: bool) -> Callable[[Arguments], int]:
    if several:
        from gate.cli import several as of_several  # noqa: PLC0415 - most images have one history

        return {"check": of_several.check_all, "heads": of_several.heads_of_all, "plan": of_several.plan_all}[name]
    from gate.cli import plan  # noqa: PLC0415 - a check loads none of it

    return plan.plan


def _serve(arguments: Arguments) -> int:
    from gate.readiness.listener import require_http_extra  # noqa: PLC0415 - the extra may not be installed

    try:
        require_http_extra("gate serve")
        from gate.cli.serve import serve  # noqa: PLC0415 - likewise

        return serve(arguments)
    except GateError as error:
        stdio.print_error(*hide_in_message(str(error)).splitlines())
        return error.exit_code
    except Interrupted as interruption:
        return interruption.exit_code


def _exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader of the pipe may be gone
            stream.flush()
    os._exit(code)
