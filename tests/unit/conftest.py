"""What one unit test tells gate stays in that test; drawn cases are as many as GATE_TEST_EXAMPLES says."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from gate import redaction

hypothesis.settings.register_profile(
    "gate",
    max_examples=int(os.environ.get("GATE_TEST_EXAMPLES", "100")),
    deadline=None,  # another worker may have both cores just then
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("gate")


@pytest.fixture(autouse=True)
def no_password_of_another_test() -> Iterator[None]:
    """`hide` knows every password that came by in its process; in tests those are made up by the hundred."""
    redaction._known.clear()
    yield
    redaction._known.clear()
