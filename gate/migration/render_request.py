"""The request that gate passes to the process that renders SQL."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gate.migration.upgrade_request import UpgradeRequest


class RenderRequest(NamedTuple):
    """The request to `gate.migration.child.render`.

    `upgrade`: as for the upgrade, without a lock; `rows`: the stamped revisions; `skip`: revisions that are not run,
    since they have ended an earlier process; `engine`: as in `DatabaseUrl`; `database`: its name, for messages;
    `has_table`: whether the version table exists; `configured_schema`: its schema as configured, "" = not configured.
    """

    upgrade: UpgradeRequest
    rows: list[str]
    skip: list[str]
    engine: str
    database: str
    has_table: bool
    configured_schema: str

    @property
    def revision_argument(self) -> str:
        """The revisions as `alembic upgrade --sql` takes them, for an env.py that reads the command line."""
        target = " ".join(self.upgrade.targets)
        return f"{self.rows[0]}:{target}" if len(self.rows) == 1 else target

    def to_json(self) -> str:
        """Encode the request as a command-line argument; every user can read those, so it contains no URL."""
        return json.dumps({**self._asdict(), "upgrade": self.upgrade._asdict()})

    @classmethod
    def from_json(cls, text: str) -> RenderRequest:
        """Decode the request."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "upgrade": UpgradeRequest(**fields["upgrade"])})
