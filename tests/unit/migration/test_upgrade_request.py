"""What gate passes to the child that upgrades."""

from __future__ import annotations

import json

from gate.migration.upgrade_request import UpgradeRequest


def test_the_request_to_the_child_is_one_json_object_that_reads_back() -> None:
    request = UpgradeRequest(
        "alembic.ini",
        "pyproject.toml",
        "alembic",
        ["a=b c", "d"],
        "SELECT 1",
        "gate/cd1812d2 works",
        "alembic_version",
        "public",
        [9],
    )
    assert UpgradeRequest(**json.loads(request.to_json())) == request
