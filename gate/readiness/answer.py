"""Readiness -> HTTP answer. An answer contains no password, file name, host or role.

A stamp that the image does not know is ready, whatever is missing: otherwise one migration would take every old pod
out of service at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

from gate.database.missing import MAX_MISSING_SHOWN
from gate.drift.comparison import Drift
from gate.redaction import hide_in_message, hide_in_value
from gate.text import first_ids

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""The types of ASGI 3.0."""

READINESS_PATH = "/health/ready"

JSON, TEXT, HTML = "application/json", "text/plain; charset=utf-8", "text/html; charset=utf-8"
"""Content types."""

RETRY_AFTER = 5
"""Seconds after which a client should ask again."""

_ZERO_WEIGHT = re.compile(r"(?i)q=0(?:\.0*)?")
"""Marks a media type as not acceptable (RFC 9110, section 12.4.2)."""


class Readiness(NamedTuple):
    """Whether requests may be sent to this process, and why.

    `drift`: the last verdict, None if no check has succeeded yet. `age`: seconds since that verdict. `away`: seconds
    for which checks have failed since then, None if the last one succeeded. `reason`: why there is no verdict.
    `migrating`: who migrates, in words. `server_started`: false while gate still waits or migrates.
    """

    drift: Drift | None = None
    age: float | None = None
    away: float | None = None
    reason: str = "the schema has not been checked yet"
    migrating: str | None = None
    server_started: bool = True

    @property
    def ready(self) -> bool:
        """Whether requests may be sent here."""
        return self.drift is not None and self.drift.is_ready and self.server_started

    @property
    def line(self) -> str:
        """The verdict in one line, for people and for probes that ask for plain text."""
        if self.drift is None:
            return f"not ready: {self.reason}"
        away = f" (database away for {self.away:.0f} s; this is the last verdict)" if self.away is not None else ""
        return f"{self.drift.public_line}{away}"


def last_seen(migrator: str, age: float) -> str:
    """Describe a migrator that was seen `age` seconds ago, and may have ended since."""
    return f"when last seen, {age:.0f} s ago: {migrator}"


class Answer(NamedTuple):
    """An HTTP answer; names of headers are in lower case."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    body: bytes


def answer(readiness: Readiness, method: str = "GET", accept: str = "") -> Answer:
    """Answer `GET` and `HEAD` in JSON, or in plain text if the `Accept` header prefers it; 405 for other methods."""
    if method not in {"GET", "HEAD"}:
        return make_answer(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"GET or HEAD\n", ("allow", "GET, HEAD"))
    status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
    retry = () if readiness.ready else (("retry-after", str(RETRY_AFTER)),)
    if prefers_text(accept):
        return make_answer(status, TEXT, f"{hide_in_message(readiness.line)}\n".encode(), *retry, method=method)
    return make_answer(status, JSON, json.dumps(fields(readiness)).encode(), *retry, method=method)


def make_answer(
    status: HTTPStatus, content_type: str, body: bytes, *headers: tuple[str, str], method: str = "GET"
) -> Answer:
    """Make an answer that no cache stores; for `HEAD`, it has the headers of the body and not the body."""
    standard = (("content-type", content_type), ("content-length", str(len(body))), ("cache-control", "no-store"))
    return Answer(status, (*standard, *headers), b"" if method == "HEAD" else body)


def alive(method: str = "GET") -> Answer:
    """Answer a liveness probe: 200, whatever the verdict."""
    return make_answer(HTTPStatus.OK, JSON, b'{"status": "ok"}', method=method)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send an answer through ASGI."""
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def accept_header(scope: Scope) -> str:
    """Return the first `Accept` header of an ASGI request, "" without one."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")


def prefers_text(accept: str) -> bool:
    """Whether this `Accept` header lists plain text and not JSON; a type with the weight 0 counts as not listed."""
    if "text/plain" not in accept.lower():
        return False  # the common case, without a parse at each request
    types = {name.strip().lower() for name, *rest in (part.split(";") for part in accept.split(",")) if _weighs(rest)}
    return "text/plain" in types and "application/json" not in types


def _weighs(parameters: Collection[str]) -> bool:
    return not any(_ZERO_WEIGHT.fullmatch(each.strip()) for each in parameters)


def fields(readiness: Readiness) -> dict[str, object]:
    """The fields of the answer in JSON."""
    drift = readiness.drift
    result: dict[str, object] = {"status": "ready" if readiness.ready else "not ready", "detail": readiness.line}
    if drift is not None:
        result |= {
            "verdict": drift.verdict,
            "stamped": first_ids(drift.stamped),
            "expected": first_ids(drift.expected),
            "pending": len(drift.pending),
            "deferred": len(drift.deferred),
            "missing": [str(item) for item in drift.missing[:MAX_MISSING_SHOWN]],
            "missing_total": drift.missing_total,
            **({"schemas": drift.schemas.by_verdict()} if drift.schemas else {}),
            "seen_seconds_ago": None if readiness.age is None else round(readiness.age, 1),
            "database_away_seconds": None if readiness.away is None else round(readiness.away, 1),
        }
    if readiness.migrating:
        result["migrating"] = readiness.migrating
    return dict(hide_in_value(result))
