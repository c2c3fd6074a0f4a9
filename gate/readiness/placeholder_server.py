"""The placeholder's child process: `python -m gate.readiness.placeholder_server DESCRIPTOR PARENT HEALTH_PATH PAGE`.

The liveness path is answered with 200, so that nothing kills the container. `/health/ready` is answered with 503 and
the drift. All other paths are answered with 503 and nothing internal: a page for browsers, a sentence for other
clients. Each line on standard input is a new state as JSON; at its end this process exits.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gate.errors import GateError
from gate.process.descendants import die_with
from gate.process.stdio import print_error
from gate.process.threads import BackgroundCall
from gate.readiness.answer import (
    READINESS_PATH,
    RETRY_AFTER,
    Answer,
    Receive,
    Scope,
    Send,
    accept_header,
    alive,
    make_answer,
    send_answer,
)
from gate.readiness.bug_report import BugReports
from gate.readiness.http_server import Server
from gate.readiness.negotiation import HTML, JSON, TEXT, preferred_type
from gate.readiness.page import UPDATING, Page, custom_page, own_page, read_page

MAX_DESCRIPTORS = 512
"""Limits what a flood can cost; `http_server.MAX_CONNECTIONS` limits the connections far below it."""

MAX_LINE_LENGTH = 1 << 20
"""Bytes of one state: four lists of ten ids of 64 characters, each of at most twelve bytes in JSON, fit many times."""

GENERIC = {"status": "not ready", "detail": f"{UPDATING} Try again in a few seconds."}
"""What every client may know."""


class PlaceholderApplication:
    """The ASGI application of the placeholder; `state` is the latest state that the parent has sent.

    `page`: the operator's page for visitors, None for gate's own.
    """

    def __init__(self, health_path: str, page: bytes | None = None) -> None:
        self._health_path = health_path
        self._page = page
        self.state: dict[str, Any] = {"status": "not ready", "detail": "not ready: gate has just started"}

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            is_alive = scope["path"] == self._health_path
            await send_answer(send, alive(scope["method"]) if is_alive else self._not_ready(scope))

    def _not_ready(self, scope: Scope) -> Answer:
        """Answer 503; only the readiness path says why."""
        method = scope["method"]
        shows_details = scope["path"] == READINESS_PATH
        shown = self.state if shows_details else GENERIC
        kind = preferred_type(accept_header(scope), (JSON, TEXT, HTML))
        headers = [("retry-after", str(RETRY_AFTER))]
        if kind == HTML:
            content, more = self._html(scope, str(shown["detail"]) if shows_details else "")
            headers += more
        else:
            content = (json.dumps(shown) if kind == JSON else f"{shown['detail']}\n").encode()
        return make_answer(HTTPStatus.SERVICE_UNAVAILABLE, kind, content, *headers, method=method)

    def _html(self, scope: Scope, details: str) -> Page:
        reloads = scope["method"] in {"GET", "HEAD"}
        query = scope.get("query_string", b"")
        if self._page is not None and not details:
            return custom_page(self._page, query, reloads=reloads)
        return own_page(query, details=details, reloads=reloads)


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


async def _serve(descriptor: int, health_path: str, page: bytes | None) -> None:
    application = PlaceholderApplication(health_path, page)
    receiving = asyncio.create_task(_receive_states(application))
    # In a thread, since a write to a full pipe blocks.
    bugs = BugReports(lambda text: BackgroundCall(lambda: print_error(text)))
    await Server(bugs.watch(application)).serve([socket.socket(fileno=descriptor)])
    receiving.cancel()


def _page(path: str) -> bytes | None:
    """Read the page, which the parent has checked. It may be gone since; gate's own page is better than no answer."""
    with suppress(GateError):
        return read_page(path) if path else None
    return None


def main() -> None:
    """Serve until the parent ends this process."""
    die_with(int(sys.argv[2]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_DESCRIPTORS, hard), hard))
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[3], _page(sys.argv[4])))


if __name__ == "__main__":
    main()
