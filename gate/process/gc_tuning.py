"""Collecting garbage: hardly ever while gate starts, as usual once it stays."""

from __future__ import annotations

import gc

STARTUP_THRESHOLD = 100_000
"""New objects between two collections. Nearly all that a start makes is modules, which stay; mypy does the same."""

DEFAULT_THRESHOLD = gc.get_threshold()


def collect_rarely() -> None:
    """For a start, or a look that ends at once."""
    gc.set_threshold(STARTUP_THRESHOLD)


def collect_normally() -> None:
    """For whoever stays: an exception that goes round in a circle keeps the socket of a connection that hung."""
    gc.freeze()
    gc.set_threshold(*DEFAULT_THRESHOLD)
