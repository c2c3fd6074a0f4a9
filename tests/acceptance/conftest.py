"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.support.pooler import PoolerFactory, pooler_factory


@pytest.fixture
def pooler(tmp_path: Path, database: TestDatabase) -> Iterator[PoolerFactory]:
    """Starts PgBouncer in front of the PostgreSQL of the tests."""
    with pooler_factory(tmp_path, database.server) as start:
        yield start
