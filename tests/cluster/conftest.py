"""Fixtures of the tests in a real Kubernetes, which `make cluster` starts and ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Shop, inside
from tests.support.containers import require_containers


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster with the images and a PostgreSQL."""
    running = inside("kubectl", "get", "nodes")
    if running.returncode:
        pytest.fail(f"run these tests with `make cluster`: {running.stderr}")
    require_containers()
    cluster = Cluster()
    cluster.prepare(tmp_path_factory.mktemp("images"))
    return cluster


@pytest.fixture
def shop(cluster: Cluster, tmp_path: Path) -> Iterator[Shop]:
    """A namespace under the restricted standard, and a database."""
    shop = Shop(cluster, tmp_path)
    try:
        shop.create()
        yield shop
    finally:
        shop.remove()
