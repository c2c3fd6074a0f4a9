"""What several acceptance tests need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.support.pooler import PoolerMaker, poolers


@pytest.fixture
def pooler(tmp_path: Path, database: TestDatabase) -> Iterator[PoolerMaker]:
    """PgBouncers in front of this test's server."""
    with poolers(tmp_path, database.server) as make:
        yield make
