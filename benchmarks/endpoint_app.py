"""Two endpoints on one server: gate's readiness endpoint and an empty one."""

from __future__ import annotations

import os

from gate.asgi import Ready
from gate.readiness.answer import Receive, Scope, Send

ready = Ready(ttl=float(os.environ.get("BENCH_TTL", "1")))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await (ready if scope["path"] == "/ready" else empty)(scope, receive, send)


async def empty(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
