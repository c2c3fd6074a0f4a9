"""argv -> `Arguments`: a command without options is read here, options by argparse."""

from __future__ import annotations

from collections.abc import Sequence

from gate.errors import BadUsage
from gate.settings.arguments import COMMANDS, Arguments


def parse(argv: Sequence[str]) -> Arguments:
    """Read one command with its options; raises `BadUsage`."""
    own, server = _split(argv)
    own = _command_first(own)
    arguments = Arguments(own[0]) if _is_bare(own) else _parse_options(own)
    return arguments._replace(server=_server(arguments.command, server))


def _command_first(words: list[str]) -> list[str]:
    """-c and -n may come before the command, as in `alembic`."""
    at = 0
    while at < len(words) and words[at].startswith(("-c", "--config", "-n", "--name")):
        at += 2 if words[at] in {"-c", "--config", "-n", "--name"} else 1
    return [*words[at : at + 1], *words[:at], *words[at + 1 :]] if at < len(words) else words


def _is_bare(words: list[str]) -> bool:
    """Whether a command stands alone, as most do: importing argparse costs a check a twentieth of its time."""
    return len(words) == 1 and words[0] in COMMANDS


def _parse_options(words: list[str]) -> Arguments:
    from gate.cli.parser import parse_options  # noqa: PLC0415 - see above

    return parse_options(words)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Everything behind the first `--` is the server's, untouched."""
    words = list(argv)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _server(command: str, server: list[str] | None) -> tuple[str, ...]:
    if command == "run" and not server:
        raise BadUsage("gate run needs the server's command behind `--`: gate run -- CMD [ARG...].")
    if command != "run" and server is not None:
        raise BadUsage(f"gate {command} starts no command; only `gate run -- CMD` takes one.")
    return tuple(server or ())
