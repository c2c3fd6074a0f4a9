"""One command line as a value, and the commands that there are."""

from __future__ import annotations

from typing import NamedTuple

COMMANDS = {
    "run": "wait until the schema fits, or upgrade it, then replace gate with CMD",
    "wait": "wait until the schema fits, then exit 0; never migrates",
    "migrate": "upgrade under the lock if anything is pending, then exit 0",
    "check": "check the schema once, print the verdict and exit with its code",
    "heads": "print the heads that the image expects; needs no database",
    "serve": "serve the readiness endpoint in a process of its own (sidecar)",
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
