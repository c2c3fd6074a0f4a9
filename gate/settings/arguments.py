"""One command line as a value, and the commands that there are."""

from __future__ import annotations

from typing import NamedTuple

COMMANDS = {
    "run": "pass the gate, then become CMD",
    "wait": "pass the gate without migrating, then exit 0",
    "migrate": "upgrade under the lock if anything is pending, then exit 0",
    "check": "check the schema once: one verdict, an exit code",
    "heads": "print the heads that the image expects; needs no database",
    "serve": "serve the readiness endpoint as a process of its own (sidecar)",
}
DEFAULT_PORT = 8080


class Arguments(NamedTuple):
    """What one command line asks for.

    `config`: Alembic's configuration files (-c); `name`: the section of alembic.ini (-n); `x`: arguments for env.py
    (-x); `listen`: host ("" = every address) and port; `server`: the words behind `--`; `flags`: the settings that
    were given as flags, by variable.
    """

    command: str
    config: tuple[str, ...] = ()
    name: str | None = None
    x: tuple[str, ...] = ()
    json: bool = False
    busy: bool = False
    listen: tuple[str, int] = ("", DEFAULT_PORT)
    server: tuple[str, ...] = ()
    flags: dict[str, str] = {}  # noqa: RUF012 - never changed; a NamedTuple's fields belong to each instance
