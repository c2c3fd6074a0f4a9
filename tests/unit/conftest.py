"""What one unit test tells gate stays in that test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gate import urls


@pytest.fixture(autouse=True)
def no_password_of_another_test() -> Iterator[None]:
    """`hide` knows every password that came by in its process; in tests those are made up by the hundred."""
    urls._parsed.clear()
    yield
    urls._parsed.clear()
