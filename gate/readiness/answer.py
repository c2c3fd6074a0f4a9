"""What was last seen -> HTTP status and body; nothing in it is a secret or a file's name.

UNKNOWN is ready: otherwise one migration would take every old pod out of service at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

from gate.drift.comparison import Drift
from gate.text import first_ids

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/health/ready"

_NOTHING = re.compile(r"(?i)q=0(?:\.0*)?")
"""The weight of what is not acceptable (RFC 9110, 12.4.2)."""

RETRY_AFTER = 5
"""Seconds after which it is worth asking again."""


class Readiness(NamedTuple):
    """One verdict on readiness.

    `drift` None = nothing was ever seen; `age`: seconds since it was seen; `away`: seconds for which the database or
    the scripts could not be looked at since, None = the last look succeeded; `migrating`: who is, as a sentence;
    `held`: gate stands in front of the server, whatever the verdict.
    """

    drift: Drift | None = None
    age: float | None = None
    away: float | None = None
    reason: str = "nothing was seen yet"
    migrating: str | None = None
    held: bool = False

    @property
    def ready(self) -> bool:
        """Whether requests may be sent here."""
        return self.drift is not None and self.drift.fits and not self.held

    @property
    def line(self) -> str:
        """One line for people and probes."""
        if self.drift is None:
            return f"not ready: {self.reason}"
        stands = f" (database away for {self.away:.0f} s, the last verdict stands)" if self.away is not None else ""
        return f"{self.drift}{stands}"


class Answer(NamedTuple):
    """One HTTP answer."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    body: bytes


def answer(readiness: Readiness, method: str = "GET", accept: str = "") -> Answer:
    """Answer `GET` or `HEAD` in JSON, or in plain text to who asks for that; 405 to everything else."""
    if method not in {"GET", "HEAD"}:
        return _answer(
            HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", b"GET or HEAD\n", ("allow", "GET, HEAD")
        )
    status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
    if prefers_text(accept):
        kind, body = "text/plain; charset=utf-8", f"{readiness.line}\n".encode()
    else:
        kind, body = "application/json", json.dumps(fields(readiness)).encode()
    retry = () if readiness.ready else (("retry-after", str(RETRY_AFTER)),)
    return _answer(status, kind, b"" if method == "HEAD" else body, *retry, length=len(body))


def _answer(status: HTTPStatus, kind: str, body: bytes, *more: tuple[str, str], length: int | None = None) -> Answer:
    size = len(body) if length is None else length
    headers = (("content-type", kind), ("content-length", str(size)), ("cache-control", "no-store"), *more)
    return Answer(status, headers, body)


def prefers_text(accept: str) -> bool:
    """Whether who sends this `Accept` asks for plain text and not for JSON; what has the weight 0 is not asked for."""
    if "text/plain" not in accept.lower():
        return False  # nearly everybody, at every request
    kinds = {kind.strip().lower() for kind, *given in (part.split(";") for part in accept.split(",")) if _weighs(given)}
    return "text/plain" in kinds and "application/json" not in kinds


def _weighs(parameters: Collection[str]) -> bool:
    return not any(_NOTHING.fullmatch(each.strip()) for each in parameters)


def fields(readiness: Readiness) -> dict[str, object]:
    """What the answer says, as JSON has it."""
    drift = readiness.drift
    found: dict[str, object] = {"status": "ready" if readiness.ready else "not ready", "detail": readiness.line}
    if drift is not None:
        found |= {
            "verdict": drift.verdict,
            "stamped": first_ids(drift.stamped),
            "expected": first_ids(drift.expected),
            "pending": len(drift.pending),
            "seen_seconds_ago": None if readiness.age is None else round(readiness.age, 1),
            "database_away_seconds": None if readiness.away is None else round(readiness.away, 1),
        }
    if readiness.migrating:
        found["migrating"] = readiness.migrating
    return found
