"""The requests that gate passes to the process that upgrades, and to the one from which that is forked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from gate.image.revision_graph import ALL_HEADS

TENANT_VARIABLE = "GATE_TENANT"
"""The variable in which env.py, or GATE_UPGRADE_COMMAND, gets the schema that it upgrades, one of GATE_SCHEMAS."""


class UpgradeRequest(NamedTuple):
    """The request to `gate.migration.child.upgrade`.

    `ini`, `toml`, `section`: as in `Configuration`; `fence`, `tag`: as in `Lock`; `x`, `version_table`: as in `Plan`;
    `schema`: where gate found the version table under the lock, or where Alembic would create it, "" = it has none;
    `clock`: the descriptors of a `StatementClock`; `table_lock_timeout`, `targets`: as in `Plan`; `schema_argument`:
    as in `Plan`, "" without GATE_SCHEMAS; `report_imports`: report which modules the dry run has imported; `dry_run`:
    as in `Plan`.
    """

    ini: str
    toml: str
    section: str
    x: list[str]
    fence: str
    tag: str
    version_table: str
    schema: str
    clock: Sequence[int] = ()
    table_lock_timeout: float = 0
    targets: list[str] = [ALL_HEADS]  # noqa: RUF012 - nothing mutates the default
    schema_argument: str = ""
    report_imports: bool = False
    dry_run: bool = True

    def to_json(self) -> str:
        """Encode the request as a command-line argument; every user can read those, so it contains no URL."""
        return json.dumps(self._asdict())


class TemplateRequest(NamedTuple):
    """The request to `gate.migration.child.template`.

    `ini`, `toml`, `section`: as in `Configuration`; `targets`: as in `Plan`; `modules`: what to import beyond what
    every upgrade imports, with `path` as sys.path.
    """

    ini: str
    toml: str
    section: str
    targets: list[str]
    modules: list[str] = []  # noqa: RUF012 - nothing mutates the default
    path: list[str] = []  # noqa: RUF012 - likewise

    def to_json(self) -> str:
        """Encode the request as a command-line argument; every user can read those, so it contains no URL."""
        return json.dumps(self._asdict())
