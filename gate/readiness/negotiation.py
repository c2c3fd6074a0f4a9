"""The `Accept` header of a request -> the content type of its answer (RFC 9110, section 12.5.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

JSON, TEXT, HTML = "application/json", "text/plain; charset=utf-8", "text/html; charset=utf-8"
"""Content types."""

MAX_ACCEPT_LENGTH = 4096
"""Characters of the header that are read; browsers send about 150."""

_WEIGHT = re.compile(r"q=([01](?:\.\d*)?)")
"""The weight of a media type, 1 unless it is given; 0 marks a type that is not acceptable."""


def preferred_type(accept: str, offers: Sequence[str]) -> str:
    """Return the offer that an `Accept` header prefers: the highest weight, then the most precise name, then the first.

    `*/*` names every offer. If the header accepts no offer, this is the first one: an answer that a client did not ask
    for says more than 406.
    """
    weights = _weights(accept[:MAX_ACCEPT_LENGTH].lower())
    # `max` returns the first of equals.
    return max(offers, key=lambda offer: _rank(offer.partition(";")[0], weights))


def _weights(accept: str) -> dict[str, float]:
    """Return the weight of each media range."""
    result: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        given = [float(match[1]) for each in parameters if (match := _WEIGHT.fullmatch(each))]
        result[name] = max(min([1.0, *given]), result.get(name, 0.0))
    return result


def _rank(media_type: str, weights: dict[str, float]) -> tuple[float, int]:
    """Return the weight of a type by the most precise range that names it, and how precise that is."""
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    found = next((name for name in ranges if name in weights), None)
    if found is None or not weights[found]:
        return 0.0, 0
    return weights[found], -ranges.index(found)
