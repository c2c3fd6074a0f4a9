"""argv -> `Arguments`. A command without options is read here, options are read by argparse."""

from __future__ import annotations

from collections.abc import Sequence

from gate.errors import BadUsage
from gate.settings.arguments import COMMANDS, Arguments


def parse(argv: Sequence[str]) -> Arguments:
    """Read one command, its options and the server's command; raises `BadUsage`."""
    own, server = _split_server(argv)
    own = command_first(own)
    arguments = Arguments(own[0]) if _is_bare(own) else _parse_options(own)
    return arguments._replace(server=_checked_server(arguments.command, server))


def command_first(words: list[str]) -> list[str]:
    """Move the command to the front: -c and -n may come before it, as in `alembic`."""
    index = 0
    while index < len(words) and words[index].startswith(("-c", "--config", "-n", "--name")):
        index += 2 if words[index] in {"-c", "--config", "-n", "--name"} else 1
    return [*words[index : index + 1], *words[:index], *words[index + 1 :]] if index < len(words) else words


def _is_bare(words: list[str]) -> bool:
    """Whether this is a command without options, as in most calls. Importing argparse costs a check 5 % of its time."""
    return len(words) == 1 and words[0] in COMMANDS


def _parse_options(words: list[str]) -> Arguments:
    from gate.cli.parser import parse_options  # noqa: PLC0415 - only for options, see `_is_bare`

    return parse_options(words)


def _split_server(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Split at the first `--`: the words after it are the server's command. None = there is no `--`."""
    words = list(argv)
    if "--" not in words:
        return words, None
    index = words.index("--")
    return words[:index], words[index + 1 :]


def _checked_server(command: str, server: list[str] | None) -> tuple[str, ...]:
    if command == "run" and not server:
        raise BadUsage("gate run needs the server's command after `--`: gate run -- CMD [ARG...].")
    if command != "run" and server is not None:
        raise BadUsage(f"gate {command} takes no command after `--`; only `gate run -- CMD` does.")
    return tuple(server or ())
