"""The words of a command line -> arguments: a command as it is, anything more by the parser."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from gate.errors import BadUsage
from gate.variables import SETTINGS

COMMANDS = {
    "run": "pass the gate, then become CMD",
    "wait": "pass the gate without migrating, then exit 0",
    "migrate": "upgrade under the lock if anything is pending, then exit 0",
    "check": "one look, one verdict, an exit code",
    "heads": "what the image expects; needs no database",
    "serve": "the readiness endpoint as a process of its own (sidecar)",
}
DEFAULT_PORT = 8080


def parse(argv: Sequence[str]) -> SimpleNamespace:
    """Read one command with its options.

    Gives `command`, `server` (what stands behind `--`), `flags` (settings by variable) and each option by its name;
    raises `BadUsage`.
    """
    own, server = _split(argv)
    own = _command_first(own)
    arguments = SimpleNamespace(command=own[0], **defaults(own[0])) if _is_bare(own) else _parsed(own)
    arguments.server = _server(arguments.command, server)
    arguments.flags = _flags(arguments)
    return arguments


def _command_first(words: list[str]) -> list[str]:
    """-c and -n may stand before the command, as `alembic` has them."""
    at = 0
    while at < len(words) and words[at].startswith(("-c", "--config", "-n", "--name")):
        at += 2 if words[at] in {"-c", "--config", "-n", "--name"} else 1
    return [*words[at : at + 1], *words[:at], *words[at + 1 :]] if at < len(words) else words


def _is_bare(words: list[str]) -> bool:
    """As most calls are: importing argparse would cost a look a twentieth of its time."""
    return len(words) == 1 and words[0] in COMMANDS


def _parsed(words: list[str]) -> SimpleNamespace:
    from gate.command_parser import parsed  # noqa: PLC0415 - see above

    return parsed(words)


def defaults(name: str) -> dict[str, Any]:
    """What the options of a command are when they are not given; settings come from the environment then."""
    found: dict[str, Any] = {"config": [], "name": None}
    if name in {"run", "migrate"}:
        found["x"] = []
    if name in {"check", "heads"}:
        found["json"] = False
    if name == "check":
        found["busy"] = False
    if name == "serve":
        found["listen"] = ("", DEFAULT_PORT)
    return found


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


def _flags(arguments: SimpleNamespace) -> dict[str, str]:
    """The settings that were given as flags, by variable."""
    given = ((s.variable, getattr(arguments, s.variable, None)) for s in SETTINGS)
    return {variable: value for variable, value in given if value is not None}
