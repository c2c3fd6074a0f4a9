"""Resets global state between unit tests. GATE_TEST_EXAMPLES sets the number of Hypothesis examples."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from gate import log, redaction

hypothesis.settings.register_profile(
    "gate",
    max_examples=int(os.environ.get("GATE_TEST_EXAMPLES", "100")),
    deadline=None,  # a parallel worker may use both cores
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("gate")


@pytest.fixture(autouse=True)
def reset_known_passwords() -> Iterator[None]:
    """`redaction.hide` remembers every password of the process, and property-based tests generate hundreds."""
    redaction._known.clear()
    redaction._sources.clear()
    yield
    redaction._known.clear()
    redaction._sources.clear()


@pytest.fixture(autouse=True)
def reset_log() -> None:
    """The configuration of the log is global: a test may have chosen a level above that of the next one's events."""
    log.configure("json")
