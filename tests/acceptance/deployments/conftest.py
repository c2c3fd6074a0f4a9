"""What the container tests share: each image is built once for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import OLDER, Containers, need_containers


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """The example's image and a PostgreSQL beside it."""
    need_containers()
    prepared = Containers()
    try:
        prepared.build()
        prepared.start_postgres()
        yield prepared
    finally:
        prepared.remove()


@pytest.fixture(scope="session")
def older_image(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example's image before its last migration."""
    containers.build_from(
        OLDER.format(image=containers.image), containers.older_image, tmp_path_factory.mktemp("older")
    )
    return containers.older_image
