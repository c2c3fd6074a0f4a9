"""The options of each command. The only module of the command line that imports argparse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from gate import __version__, redaction
from gate.cli.histories import split_histories
from gate.errors import BadUsage
from gate.settings.arguments import COMMANDS, DEFAULT_PORT, Arguments
from gate.settings.reader import parse_address
from gate.settings.variables import SETTINGS, Setting

INSPECTION_SETTINGS = frozenset(
    "DATABASE_URL DATABASE_URL_FILE ALEMBIC_CONFIG GATE_VERSION_TABLE GATE_VERSION_TABLE_SCHEMA GATE_EXPECTED"
    " GATE_CONNECT_TIMEOUT GATE_QUERY_TIMEOUT GATE_TARGET GATE_SCHEMAS GATE_SCHEMAS_MAY_BE_EMPTY".split()
)
MIGRATION_SETTINGS = frozenset(
    "MIGRATION_DATABASE_URL MIGRATION_DATABASE_URL_FILE GATE_LOCK GATE_MIGRATION_LOCK_TIMEOUT GATE_MIGRATION_TIMEOUT"
    " GATE_UPGRADE_COMMAND GATE_POST_DEPLOY GATE_SCHEMA_ARGUMENT".split()
)
TABLE_LOCK_SETTINGS = frozenset({"GATE_TABLE_LOCK_TIMEOUT", "GATE_TABLE_LOCK_RETRIES"})
RUN_SETTINGS = frozenset({"RUN_MIGRATIONS", "GATE_ON_FAILURE"})
PLAN_SETTINGS = frozenset({"GATE_ON_UNKNOWN", "GATE_ON_UNSTAMPED", "GATE_BYPASS"})
ALL_SETTINGS = frozenset(setting.variable for setting in SETTINGS)
COMMAND_SETTINGS = {
    "run": ALL_SETTINGS - {"GATE_TTL"},
    "wait": ALL_SETTINGS - {"GATE_TTL"} - RUN_SETTINGS - MIGRATION_SETTINGS - TABLE_LOCK_SETTINGS,
    "migrate": ALL_SETTINGS - {"GATE_TTL", "GATE_ON_INCOMPLETE"} - RUN_SETTINGS,
    "plan": INSPECTION_SETTINGS | (MIGRATION_SETTINGS - {"GATE_MIGRATION_LOCK_TIMEOUT", "GATE_LOCK"}) | PLAN_SETTINGS,
    "check": INSPECTION_SETTINGS | {"MIGRATION_DATABASE_URL", "MIGRATION_DATABASE_URL_FILE"},
    "heads": frozenset({"ALEMBIC_CONFIG", "GATE_TARGET"}),
    "expect": frozenset({"ALEMBIC_CONFIG", "GATE_EXPECTED"}),
    "serve": INSPECTION_SETTINGS | {"GATE_TTL", "GATE_LOG_FORMAT", "GATE_LOG_LEVEL"},
}
"""The settings that each command reads, and so the flags that it takes."""


MAX_JOBS = 100
"""Each takes three connections, and a server allows a hundred by default."""

OPERANDS = {"run": " -- CMD [ARG...]", "expect": " [MODULE:ATTRIBUTE...]"}
"""What follows the options of a command."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{redaction.hide_in_message(message)}. `{self.prog} --help` shows the options.")


def _wide_formatter(prog: str) -> argparse.HelpFormatter:
    """Format each option in one line, whatever the width of the terminal."""
    return argparse.HelpFormatter(prog, max_help_position=36, width=180)


def parse_options(words: Sequence[str]) -> Arguments:
    """Read a command with options; raises `BadUsage`."""
    namespace, unknown = _parser(words).parse_known_args(words)
    if unknown:
        raise BadUsage(_unknown_words(namespace.command, unknown, words))
    given = {name: value for name, value in vars(namespace).items() if value is not None}
    fields = {name: value for name, value in given.items() if name in Arguments._fields}
    for name in fields.keys() & {"x", "exclude", "models"}:
        fields[name] = tuple(fields[name])
    histories = split_histories(given.pop("config", ()), given.pop("section", ()))
    return Arguments(
        **fields, histories=histories, flags={name: given[name] for name in given.keys() - Arguments._fields}
    )


def help_text() -> str:
    """Return what `gate --help` prints."""
    return _parser(()).format_help().rstrip()


def _unknown_words(command: str, unknown: Sequence[str], words: Sequence[str]) -> str:
    shown, rest = (redaction.hide(" ".join(each)) for each in (unknown, words[words.index(unknown[0]) :]))
    remedy = f"Put the server's command after `--`: gate run -- {rest}. "
    remedy = remedy if command == "run" and not shown.startswith("-") else ""
    return f"gate {command} does not understand {shown!r}. {remedy}`gate {command} --help` shows the options."


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser. Only the commands among these words get their options, which saves time."""
    parser = _Parser(
        prog="gate", description="Start a server only when its database schema fits the code.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"gate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, meaning in COMMANDS.items():
        usage = f"gate {name} [options]" + OPERANDS.get(name, "")
        sub = commands.add_parser(
            name,
            help=meaning,
            description=meaning,
            usage=usage,
            allow_abbrev=False,
            formatter_class=_wide_formatter,
        )
        if name in words:
            _add_options(sub, name)
    return parser


def _add_options(parser: argparse.ArgumentParser, name: str) -> None:
    _add_configuration_options(parser)
    if name in {"run", "migrate", "plan", "expect"}:
        parser.add_argument("-x", action="append", metavar="ARG", help="argument for env.py, as for `alembic -x`")
    if name in {"run", "migrate"}:
        _add_schema_options(parser)
    if name == "plan":
        parser.add_argument("--sql", action="store_true", help="print the SQL of each revision; runs env.py offline")
    if name in {"plan", "check", "heads"}:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    if name == "check":
        parser.add_argument(
            "--busy", action="store_true", help="exit 75 while a migration is running, else 0, even after an error"
        )
    if name == "expect":
        _add_expect_options(parser)
    if name == "serve":
        parser.add_argument(
            "--listen",
            type=_address,
            metavar="[HOST]:PORT",
            help=f"address to serve on (default :{DEFAULT_PORT})",
        )
    _add_settings(parser, [setting for setting in SETTINGS if setting.variable in COMMAND_SETTINGS[name]])


def _add_settings(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    for setting in settings:
        if setting.flag and setting.metavar:
            parser.add_argument(setting.flag, metavar=setting.metavar, dest=setting.variable, help=_help(setting))
        elif setting.flag:
            parser.add_argument(
                setting.flag, action="store_const", const="1", dest=setting.variable, help=_help(setting)
            )
    others = [s.variable for s in settings if not s.flag and s.variable != "ALEMBIC_CONFIG"]
    parser.epilog = f"Variables without a flag: {', '.join(others)}." if others else None


def _add_configuration_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        metavar="FILE",
        help="Alembic's configuration file (ALEMBIC_CONFIG); several ini files are several histories",
    )
    parser.add_argument(
        "-n",
        "--name",
        action="append",
        dest="section",
        metavar="SECTION",
        help="section of alembic.ini to use (default: alembic); several sections are several histories",
    )


def _add_expect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        type=_models,
        metavar="MODULE:ATTRIBUTE",
        help="MetaData, declarative base or a sequence of them (default: target_metadata of env.py)",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="leave out these tables or columns: table, schema.table or table.column, with * and ?",
    )
    parser.add_argument(
        "--check", action="store_true", dest="verify", help="write nothing; exit 1 if the file is stale"
    )
    parser.add_argument("--no-env-py", action="store_true", help="do not run env.py; needs MODULE:ATTRIBUTE")
    parser.add_argument("--python", metavar="PATH", help="interpreter of the application (default: the one of gate)")


def _add_schema_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        type=_jobs,
        metavar="NUMBER",
        help=f"how many schemas of GATE_SCHEMAS to migrate at once, 1 to {MAX_JOBS} (default: 1)",
    )
    parser.add_argument("--first", metavar="SCHEMA", help="schema to migrate alone before the others")
    parser.add_argument("--keep-going", action="store_true", help="migrate the other schemas although one has failed")


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_JOBS)) and 0 < int(text) <= MAX_JOBS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_JOBS}")
    return int(text)


def _models(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise argparse.ArgumentTypeError(f"{text!r} is not MODULE:ATTRIBUTE, such as shop.models:Base")
    return text


def _address(text: str) -> tuple[str, int]:
    address = parse_address(text)
    if address is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not [host]:port, such as :8080")
    return address


def _help(setting: Setting) -> str:
    default = f"; default: {setting.default}" if setting.default else ""
    return f"{setting.meaning} ({setting.variable}{default})".replace("%", "%%").replace("`", "")
