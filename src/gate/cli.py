"""The command line: arguments in, an exit code out."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from gate import __version__
from gate.errors import BadUsage, GateError, Interrupted
from gate.foreign import printable
from gate.settings import SETTINGS, Setting, listening_address
from gate.urls import hide

Arguments = argparse.Namespace

COMMANDS = {
    "run": "pass the gate, then become CMD",
    "wait": "pass the gate without migrating, then exit 0",
    "migrate": "upgrade under the lock if anything is pending, then exit 0",
    "check": "one look, one verdict, an exit code",
    "heads": "what the image expects; needs no database",
    "serve": "the readiness endpoint as a process of its own (sidecar)",
}
MIGRATING_ONLY = frozenset({"GATE_LOCK_TIMEOUT", "GATE_MIGRATION_TIMEOUT", "GATE_UPGRADE_COMMAND"})
DEFAULT_PORT = 8080
LOOKING = frozenset({"GATE_VERSION_TABLE", "GATE_VERSION_TABLE_SCHEMA", "GATE_CONNECT_TIMEOUT", "GATE_QUERY_TIMEOUT"})


def main() -> NoReturn:
    """Run gate and end the process, also while a look hangs in a thread."""
    warnings.simplefilter("ignore")  # a library's advice to developers is no line for an operator
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # one that was closed before the start is None
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
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
    _say(
        f"this is a bug in gate {__version__}: {type(error).__name__} in {place}: {text}. "
        "Please report it; GATE_BYPASS=1 is the way out."
    )
    return GateError.exit_code


def command(argv: Sequence[str]) -> int:
    """Parse and run one command; give its exit code."""
    own, server = _split(argv)
    try:
        arguments = _parser(own).parse_args(own)
        arguments.server = _server(arguments.command, server)
        arguments.flags = _flags(arguments)
    except BadUsage as error:
        _say(str(error))
        return error.exit_code
    return _doer(arguments.command)(arguments)


def _doer(name: str) -> Callable[[Arguments], int]:
    if name in {"check", "heads"}:
        gc.disable()  # what ends at once need not tidy up
        from gate import report  # noqa: PLC0415 - a look needs nothing of what waiting and migrating need

        return {"check": report.check, "heads": report.heads}[name]
    if name == "serve":
        return _serve
    from gate import signals  # noqa: PLC0415 - likewise

    signals.answer()  # before anything slow is loaded: PID 1 is deaf until then
    from gate import guard  # noqa: PLC0415 - likewise

    return guard.guard


def _serve(arguments: Arguments) -> int:
    from gate.hold import require_http  # noqa: PLC0415 - the extra may not be installed

    try:
        require_http("gate serve")
        from gate.serve import serve  # noqa: PLC0415 - likewise

        return serve(arguments)
    except GateError as error:
        _say(hide(str(error)))
        return error.exit_code


def _split(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Everything behind the first `--` is the server's, untouched."""
    words = list(argv)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _server(name: str, server: list[str] | None) -> list[str]:
    if name == "run" and not server:
        raise BadUsage("gate run needs the command to become behind `--`: gate run -- CMD [ARG...].")
    if name != "run" and server is not None:
        raise BadUsage(f"gate {name} starts no command; only `gate run -- CMD` takes one.")
    return server or []


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{message}. `{self.prog} --help` shows what is understood.")


def _one_line(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=28, width=170)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """What these words may mean: the options of a command that is not among them are never asked for."""
    parser = _Parser(prog="gate", description="Start a server only when its database schema fits.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"gate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, meaning in COMMANDS.items():
        usage = f"gate {name} [options]" + (" -- CMD [ARG...]" if name == "run" else "")
        sub = commands.add_parser(
            name,
            help=meaning,
            description=meaning,
            usage=usage,
            allow_abbrev=False,
            formatter_class=_one_line,
        )
        if name in words:
            _add_options(sub, name)
    return parser


def _add_options(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="Alembic's configuration file (ALEMBIC_CONFIG)",
    )
    parser.add_argument("-n", "--name", metavar="SECTION", help="section of alembic.ini to use (default: alembic)")
    if name in {"run", "migrate"}:
        parser.add_argument(
            "-x", action="append", default=[], metavar="ARG", help="argument for env.py, as `alembic -x`"
        )
    if name in {"check", "heads"}:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    if name == "check":
        parser.add_argument("--busy", action="store_true", help="75 if a migrator is at work, else 0, errors included")
    if name == "serve":
        parser.add_argument(
            "--listen",
            type=_address,
            default=("", DEFAULT_PORT),
            metavar="[HOST]:PORT",
            help=f"(default :{DEFAULT_PORT})",
        )
    for setting in SETTINGS:
        if setting.flag and _takes(name, setting.variable):
            parser.add_argument(setting.flag, metavar="V", dest=setting.variable, help=_help(setting))


def _address(text: str) -> tuple[str, int]:
    found = listening_address(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not [host]:port, such as :8080")
    return found


def _takes(name: str, variable: str) -> bool:
    if name in {"check", "heads"}:
        return name == "check" and variable in LOOKING
    if name == "serve":
        return variable in LOOKING | {"GATE_LOG_FORMAT", "GATE_LOG_LEVEL"}
    if name == "wait":
        return variable not in MIGRATING_ONLY | {"GATE_ON_FAILURE"}
    return name == "run" or variable != "GATE_ON_FAILURE"


def _help(setting: Setting) -> str:
    default = f"default {setting.default}, " if setting.default else ""
    return f"{setting.meaning} ({default}{setting.variable})".replace("%", "%%").replace("`", "")


def _flags(arguments: Arguments) -> dict[str, str]:
    """The settings that were given as flags, by variable."""
    given = ((s.variable, getattr(arguments, s.variable, None)) for s in SETTINGS)
    return {variable: value for variable, value in given if value is not None}


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"gate: {printable(line)}", file=sys.stderr)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever closed the pipe has read enough
            stream.flush()
    os._exit(code)
