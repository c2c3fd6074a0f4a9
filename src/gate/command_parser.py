"""The options of a command, by argparse, which only this room knows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NoReturn

from gate import __version__
from gate.command_line import COMMANDS, DEFAULT_PORT, defaults
from gate.errors import BadUsage
from gate.setting_reader import listening_address
from gate.variables import SETTINGS, Setting

MIGRATING_ONLY = frozenset({"GATE_LOCK_TIMEOUT", "GATE_MIGRATION_TIMEOUT", "GATE_UPGRADE_COMMAND"})
LOOKING = frozenset({"GATE_VERSION_TABLE", "GATE_VERSION_TABLE_SCHEMA", "GATE_CONNECT_TIMEOUT", "GATE_QUERY_TIMEOUT"})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{message}. `{self.prog} --help` shows what is understood.")


def _one_line(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=28, width=170)


def parsed(words: Sequence[str]) -> SimpleNamespace:
    """Read them; raises `BadUsage`."""
    return _parser(words).parse_args(words, SimpleNamespace())


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
        metavar="FILE",
        help="Alembic's configuration file (ALEMBIC_CONFIG)",
    )
    parser.add_argument("-n", "--name", metavar="SECTION", help="section of alembic.ini to use (default: alembic)")
    if name in {"run", "migrate"}:
        parser.add_argument("-x", action="append", metavar="ARG", help="argument for env.py, as `alembic -x`")
    if name in {"check", "heads"}:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    if name == "check":
        parser.add_argument("--busy", action="store_true", help="75 if a migrator is at work, else 0, errors included")
    if name == "serve":
        parser.add_argument(
            "--listen",
            type=_address,
            metavar="[HOST]:PORT",
            help=f"(default :{DEFAULT_PORT})",
        )
    parser.set_defaults(**defaults(name))
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
