"""The words of a command line -> arguments. The only room that knows argparse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from gate import __version__
from gate.errors import BadUsage
from gate.setting_reader import listening_address
from gate.variables import SETTINGS, Setting

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


def parse(argv: Sequence[str]) -> Arguments:
    """Read one command with its options.

    Gives `command`, `server` (what stands behind `--`), `flags` (settings by variable) and each option by its name;
    raises `BadUsage`.
    """
    own, server = _split(argv)
    arguments = _parser(own).parse_args(own)
    arguments.server = _server(arguments.command, server)
    arguments.flags = _flags(arguments)
    return arguments


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
