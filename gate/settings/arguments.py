"""The command line as a value, and the table of commands."""

from __future__ import annotations

from typing import NamedTuple

COMMANDS = {
    "run": "wait until the schema fits, or upgrade it, then become CMD",
    "wait": "wait until the schema fits, never migrate, then exit 0",
    "migrate": "upgrade under a lock if revisions are pending, then exit 0",
    "plan": "show what `gate migrate` would apply now, with --sql as SQL; changes nothing",
    "check": "check the schema once: print the verdict, exit 0 if it fits",
    "heads": "print the heads that the image expects; connects to no database",
    "expect": "at build time: record what the code needs of its database in gate-expected.json",
    "serve": "serve the readiness endpoint as a separate process (sidecar)",
}
"""Commands and their meanings, as `gate --help` and docs/commands.md show them."""

DEFAULT_PORT = 8080
"""TCP port of `gate serve` without `--listen`."""


class History(NamedTuple):
    """One Alembic configuration, and so one history of revisions with a version table of its own.

    `config`: its configuration files (`-c`); `section`: of alembic.ini (`-n`), None = `alembic`; `label`: what a
    message calls it, "" if the command line names only one history.
    """

    config: tuple[str, ...] = ()
    section: str | None = None
    label: str = ""


class Arguments(NamedTuple):
    """One parsed command line.

    `histories`: one for each section (`-n`) or configuration file (`-c`); `x`: arguments for env.py (`-x`); `json`:
    print JSON (`--json`); `sql`: print SQL (`--sql`); `busy`: report a running migration (`--busy`);
    `listen`: host ("" = all addresses) and port of `gate serve`; `models`: each MODULE:ATTRIBUTE, `exclude`: patterns
    of names, `verify`: only compare with the file (`--check`), `no_env_py`: do not run env.py, and `python`: the
    application's interpreter, of `gate expect`; `jobs`: how many schemas to migrate at once, `first`: the schema to
    migrate before the others, `keep_going`: go on with the others after one has failed; `server`: the command after
    `--`; `flags`: settings given as flags, by variable.
    """

    command: str
    histories: tuple[History, ...] = (History(),)
    x: tuple[str, ...] = ()
    json: bool = False
    sql: bool = False
    busy: bool = False
    listen: tuple[str, int] = ("", DEFAULT_PORT)
    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    verify: bool = False
    no_env_py: bool = False
    python: str | None = None
    jobs: int = 1
    first: str | None = None
    keep_going: bool = False
    server: tuple[str, ...] = ()
    flags: dict[str, str] = {}  # noqa: RUF012 - the parser always passes its own dict; nothing mutates the default
