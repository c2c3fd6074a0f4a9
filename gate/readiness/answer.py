"""Readiness -> HTTP answer. An answer contains no password, URL, file name or role.

A stamp that the image does not know is ready, whatever is missing: otherwise one migration would take every old pod
out of service at once.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

from gate.database.missing import MAX_MISSING_SHOWN
from gate.drift.comparison import Drift
from gate.readiness.negotiation import JSON, TEXT, preferred_type
from gate.redaction import hide_in_message, hide_in_value
from gate.text import first_ids, printable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""The types of ASGI 3.0."""

READINESS_PATH = "/health/ready"

RETRY_AFTER = 5
"""Seconds after which a client should ask again."""


class Readiness(NamedTuple):
    """Whether requests may be sent to this process, and why.

    `drift`: the last verdict, None if no check has succeeded yet. `age`: seconds since that verdict. `away`: seconds
    for which checks have failed since then, None if the last one succeeded. `reason`: why there is no verdict.
    `migrating`: who migrates, in words. `section`: the history that this is about, where gate guards several, "" =
    there is only one. `server_started`: false while gate still waits or migrates.
    """

    drift: Drift | None = None
    age: float | None = None
    away: float | None = None
    reason: str = "the schema has not been checked yet"
    migrating: str | None = None
    section: str = ""
    server_started: bool = True

    @property
    def ready(self) -> bool:
        """Whether requests may be sent here."""
        return self.drift is not None and self.drift.is_ready and self.server_started

    @property
    def line(self) -> str:
        """The verdict in one line, for people and for probes that ask for plain text."""
        section = f"[{printable(self.section)}] " if self.section else ""
        if self.drift is None:
            return f"{section}not ready: {self.reason}"
        away = f" (database away for {self.away:.0f} s; this is the last verdict)" if self.away is not None else ""
        return f"{section}{self.drift.public_line}{away}"


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
    """Return the `Accept` header of an ASGI request, "" without one; several are one list (RFC 9110, section 5.2)."""
    return ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


def prefers_text(accept: str) -> bool:
    """Whether this `Accept` header prefers plain text to JSON."""
    # The common case, without a parse at each request.
    return "text/" in accept.lower() and preferred_type(accept, (JSON, TEXT)) == TEXT


def fields(readiness: Readiness) -> dict[str, object]:
    """The fields of the answer in JSON."""
    drift = readiness.drift
    result: dict[str, object] = {"status": "ready" if readiness.ready else "not ready", "detail": readiness.line}
    if readiness.section:
        result["section"] = readiness.section
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
