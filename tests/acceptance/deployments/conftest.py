"""Fixtures of the container tests; each image is built once per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import PREVIOUS_DOCKERFILE, Containers, require_containers


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """The image of the example and a PostgreSQL container."""
    require_containers()
    session = Containers()
    try:
        session.build()
        session.start_postgres()
        yield session
    finally:
        session.remove()


@pytest.fixture(scope="session")
def older_image(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of the example without its last migration."""
    containers.build_from(
        PREVIOUS_DOCKERFILE.format(image=containers.image), containers.older_image, tmp_path_factory.mktemp("older")
    )
    return containers.older_image
