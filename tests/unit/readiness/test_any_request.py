"""Any request to the readiness endpoints is answered, and JSON answers are valid JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gate import redaction
from gate.asgi import Ready
from gate.cli.serve import Sidecar
from gate.database.stamp import Stamp
from gate.drift import comparison
from gate.drift.inspector import Inspection
from gate.readiness import answer
from gate.readiness.placeholder_server import PlaceholderApplication
from gate.wsgi import Ready as WsgiReady
from tests.support.hostile_text import HOSTILE
from tests.support.strategies import IMAGE, ROW, TEXT

REQUEST = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "http", "http", "websocket", "lifespan"]),
        "method": st.sampled_from(["GET", "HEAD", "POST", "\xff", "get", ""]),
        "path": st.sampled_from(["/", "/health", "/health/ready", "/metrics", ""]) | TEXT,
        "headers": st.lists(
            st.tuples(
                st.sampled_from([b"accept", b"Accept", b"x"]),
                st.binary(max_size=20)
                | st.sampled_from([b"text/html", b"text/plain;q=0", b"*/*", b"application/json"]),
            ),
            max_size=3,
        ),
    }
)
INSPECTION = st.lists(st.sampled_from([*HOSTILE.values()]) | ROW, max_size=4).map(
    lambda rows: Inspection(Stamp("d", "s", tuple(rows)), comparison.compare(IMAGE, rows))
)


def send_request(application: Any, request: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(application(request, receive, send))
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@given(request=REQUEST, inspection=INSPECTION)
def test_any_request_is_answered_and_what_calls_itself_json_is_json(
    request: dict[str, Any], inspection: Inspection
) -> None:
    ready = Ready("postgresql://127.0.0.1:1/none", ttl=1000)
    ready.cache.record(inspection)
    placeholder = PlaceholderApplication("/health")
    placeholder.state = answer.fields(answer.Readiness(inspection.drift, migrating=HOSTILE["markup"]))
    for application in (ready, placeholder, Sidecar({"": ready})):
        status, headers, body = send_request(application, request)
        assert status in {0, 200, 404, 405, 503}
        assert status or request["type"] != "http"
        assert int(headers.get(b"content-length", b"0")) == len(body) or request["method"] == "HEAD"
        if body and headers[b"content-type"] == b"application/json":
            json.loads(body)
        if body and headers[b"content-type"].startswith(b"text/plain"):
            assert status == 200 or body.decode().rstrip("\n").isprintable()
        assert b"<script>alert" not in body or not headers[b"content-type"].startswith(b"text/html")


@given(request=REQUEST, inspection=INSPECTION)
def test_any_request_through_wsgi_is_answered(request: dict[str, Any], inspection: Inspection) -> None:
    ready = WsgiReady("postgresql://127.0.0.1:1/none", ttl=1000)
    ready.cache.record(inspection)
    started: list[Any] = []
    accept = b",".join(value for _, value in request["headers"]).decode("latin-1")
    environ = {"REQUEST_METHOD": request["method"], "HTTP_ACCEPT": accept, "PATH_INFO": request["path"]}
    body = b"".join(ready(environ, lambda *args: started.append(args)))
    status, headers = started[0]
    assert status.split()[0] in {"200", "405", "503"}
    if body and dict(headers)["content-type"] == "application/json":
        assert json.loads(body)["verdict"] == inspection.drift.verdict


def test_a_password_that_is_also_a_row_is_shown_in_no_http_answer() -> None:
    password = "s3cr@t-w0rd"
    redaction.remember({password})
    try:
        readiness = answer.Readiness(comparison.compare(IMAGE, [password]), age=0.0, migrating=f"{password} at a1")
        for accept in ("", "text/plain"):
            assert password.encode() not in answer.answer(readiness, accept=accept).body
    finally:
        redaction.forget({password})
