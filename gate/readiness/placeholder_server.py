"""The child that answers while gate waits: `python -m gate.hold_server FD PARENT HEALTH_PATH`.

Liveness is 200: nothing is killed. Everything else is 503 with the drift; a browser gets a page that says no more than
that the service is being updated. What to say comes as JSON lines on standard input, whose end is this process's end.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from html import escape
from typing import Any

from gate.process.descendants import die_with
from gate.readiness.answer import PATH, RETRY_AFTER, Receive, Scope, Send, prefers_text
from gate.readiness.http_server import Server

MAX_DESCRIPTORS = 512
"""What a flood can cost at the most; the connections are bounded far below."""

MAX_LINE_LENGTH = 1 << 20
"""Bytes of what the parent tells: ten ids of 64 characters, each twelve bytes in JSON, four times over."""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="{after}">
<title>Back soon</title><body><h1>Back soon</h1>
<p>This service is being updated. This page looks again by itself.</p>{more}
"""


class PlaceholderApplication:
    """The answers; `state` is replaced as the parent tells."""

    def __init__(self, health_path: str) -> None:
        self._health_path = health_path
        self.state: dict[str, Any] = {"status": "not ready", "detail": "not ready: gate has just started"}

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        alive = scope["path"] == self._health_path
        kind, body = ("application/json", '{"status": "ok"}') if alive else self._not_ready(scope["path"], accept)
        content = body.encode()
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
            *([] if alive else [(b"retry-after", str(RETRY_AFTER).encode())]),
        ]
        await send({"type": "http.response.start", "status": 200 if alive else 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})

    def _not_ready(self, path: str, accept: str) -> tuple[str, str]:
        if "text/html" in accept:
            more = f"<pre>{escape(str(self.state['detail']))}</pre>" if path == PATH else ""
            return "text/html; charset=utf-8", PAGE.format(after=RETRY_AFTER, more=more)
        if prefers_text(accept):
            return "text/plain; charset=utf-8", f"{self.state['detail']}\n"
        return "application/json", json.dumps(self.state)


async def _read_states(holding: PlaceholderApplication) -> None:
    """Take in what it tells; without it the answers would be old for ever, so any end of this is the process's."""
    try:
        reader = asyncio.StreamReader(limit=MAX_LINE_LENGTH)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            holding.state = json.loads(line)
    finally:
        os._exit(0)


async def _serve(descriptor: int, health_path: str) -> None:
    holding = PlaceholderApplication(health_path)
    listening = asyncio.create_task(_read_states(holding))
    await Server(holding, "critical").serve([socket.socket(fileno=descriptor)])
    listening.cancel()


def main() -> None:
    """Serve until the parent ends this process."""
    import resource  # noqa: PLC0415 - only here

    die_with(int(sys.argv[2]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_DESCRIPTORS, hard), hard))
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[3]))


if __name__ == "__main__":
    main()
