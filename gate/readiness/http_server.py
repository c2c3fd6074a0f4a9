"""HTTP by uvicorn, for `gate serve` and for the placeholder. The only module that imports uvicorn.

A flood of connections, unfinished requests and slow readers hold a bounded number of connections for a bounded time,
so that probes are answered meanwhile. No request writes to the log.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gate.process.signals import TERMINATION_SIGNALS, first_of
from gate.readiness.listener import BACKLOG

MAX_CONNECTIONS = 256
"""Open connections; a further one replaces the one that has been waiting for a request for longest."""

ACCEPT_BATCH = 32
"""Connections that asyncio accepts in one turn of the event loop, before `MAX_CONNECTIONS` can take effect."""

KEEP_ALIVE_TIMEOUT = 5
"""Seconds for which an idle connection is kept open for a further request."""

REQUEST_TIMEOUT = 6.0
"""Seconds within which a request must arrive and its answer must be read."""

_connections: dict[Connection, None] = {}
"""Open connections, the one that has been waiting for a request for longest first; a process has one server."""


class Connection(H11Protocol):
    """A connection that is aborted unless a request is answered on it every `REQUEST_TIMEOUT` seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Register the connection, and abort the one that has been waiting for longest if there are too many."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_TIMEOUT, transport.abort)
        _connections[self] = None
        if len(_connections) > MAX_CONNECTIONS:
            oldest = next(iter(_connections))
            del _connections[oldest]
            oldest.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request with 400, instead of any answer that the application is still making.

        uvicorn lets the application send its answer after that, or starts a 400 after another answer. h11 refuses
        both (`LocalProtocolError`), and uvicorn logs a traceback.
        """
        if self.cycle is not None:
            self.cycle.disconnected = True
        is_unanswered = self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}
        try:
            if is_unanswered:
                super().send_400_response(msg)
        except h11.LocalProtocolError:  # the request was of a kind whose answer may have no such body
            is_unanswered = False
        if not is_unanswered:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Restart the time-out for the next request."""
        self._timer.cancel()
        self._timer = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)
        if self in _connections:
            _connections[self] = _connections.pop(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._timer.cancel()
        _connections.pop(self, None)
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Serves one application until a signal, which it then raises again for the handler that was there before."""

    def __init__(self, application: Any) -> None:
        # uvicorn and asyncio log what clients do, such as requests that they break off; gate's own log is structlog's.
        logging.disable(logging.CRITICAL)
        config = uvicorn.Config(
            application, loop="asyncio", http=Connection, ws="none", lifespan="off", access_log=False,
            log_config=None, log_level="critical", backlog=ACCEPT_BATCH, timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
            h11_max_incomplete_event_size=16384, server_header=False,
        )  # fmt: skip
        super().__init__(config)
        self._ended_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept. A connection that fails is its client's business: asyncio does not log it."""
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)  # uvicorn has set ACCEPT_BATCH, asyncio's number of accepts in a turn

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember the first signal."""
        self._ended_by = first_of(sig)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at any termination signal, not only at uvicorn's SIGINT and SIGTERM, and then raise it again.

        As process 1, `gate serve` has a handler for each of them: without one, the kernel drops a signal to process 1.
        """
        handled = [number for number in TERMINATION_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self._ended_by is not None:
            signal.raise_signal(self._ended_by)
