"""The placeholder's child process: `python -m gate.readiness.placeholder_server DESCRIPTOR PARENT HEALTH_PATH`.

The liveness path is answered with 200, so that nothing kills the container. All other paths are answered with 503 and
the drift; a browser gets a page that says only that the service is being updated. Each line on standard input is a new
state as JSON; at its end this process exits.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
from html import escape
from http import HTTPStatus
from typing import Any

from gate.process.descendants import die_with
from gate.process.stdio import print_error
from gate.process.threads import BackgroundCall
from gate.readiness.answer import (
    HTML,
    JSON,
    READINESS_PATH,
    RETRY_AFTER,
    TEXT,
    Receive,
    Scope,
    Send,
    accept_header,
    alive,
    make_answer,
    prefers_text,
    send_answer,
)
from gate.readiness.bug_report import BugReports
from gate.readiness.http_server import Server

MAX_DESCRIPTORS = 512
"""Limits what a flood can cost; `http_server.MAX_CONNECTIONS` limits the connections far below it."""

MAX_LINE_LENGTH = 1 << 20
"""Bytes of one state: four lists of ten ids of 64 characters, each of at most twelve bytes in JSON, fit many times."""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="{after}">
<title>Back soon</title><body><h1>Back soon</h1>
<p>This service is being updated. This page reloads by itself.</p>{more}
"""


class PlaceholderApplication:
    """The ASGI application of the placeholder; `state` is the latest state that the parent has sent."""

    def __init__(self, health_path: str) -> None:
        self._health_path = health_path
        self.state: dict[str, Any] = {"status": "not ready", "detail": "not ready: gate has just started"}

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] == self._health_path:
            await send_answer(send, alive(scope["method"]))
            return
        kind, text = self._not_ready(scope["path"], accept_header(scope))
        retry = ("retry-after", str(RETRY_AFTER))
        status = HTTPStatus.SERVICE_UNAVAILABLE
        await send_answer(send, make_answer(status, kind, text.encode(), retry, method=scope["method"]))

    def _not_ready(self, path: str, accept: str) -> tuple[str, str]:
        """Return the content type and the body."""
        if "text/html" in accept:
            more = f"<pre>{escape(str(self.state['detail']))}</pre>" if path == READINESS_PATH else ""
            return HTML, PAGE.format(after=RETRY_AFTER, more=more)
        if prefers_text(accept):
            return TEXT, f"{self.state['detail']}\n"
        return JSON, json.dumps(self.state)


async def _receive_states(application: PlaceholderApplication) -> None:
    """Take in each state from standard input.

    Ends the process when that ends or fails, since the answers would be out of date from then on.
    """
    try:
        reader = asyncio.StreamReader(limit=MAX_LINE_LENGTH)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            application.state = json.loads(line)
    finally:
        os._exit(0)


async def _serve(descriptor: int, health_path: str) -> None:
    application = PlaceholderApplication(health_path)
    receiving = asyncio.create_task(_receive_states(application))
    # In a thread, since a write to a full pipe blocks.
    bugs = BugReports(lambda text: BackgroundCall(lambda: print_error(text)))
    await Server(bugs.watch(application)).serve([socket.socket(fileno=descriptor)])
    receiving.cancel()


def main() -> None:
    """Serve until the parent ends this process."""
    die_with(int(sys.argv[2]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_DESCRIPTORS, hard), hard))
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[3]))


if __name__ == "__main__":
    main()
