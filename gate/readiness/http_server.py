"""HTTP by uvicorn, for `gate serve` and for the holding child. The only room that knows it.

A flood, half requests and slow readers cost a bounded number of connections, and who asks in the midst is answered.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gate.process.signals import TERMINATION_SIGNALS

MAX_CONNECTIONS = 256
"""Open at once: a further one takes the place of the one that has been waited for longest."""

ACCEPT_BATCH = 32
"""Accepted in one turn of the event loop: a few turns' worth are not counted yet, and must not cost all descriptors."""

BACKLOG = 128
"""Connections that the kernel keeps until they are accepted."""

KEEP_ALIVE_TIMEOUT = 5
"""Seconds for which a connection is kept for a further request."""

REQUEST_TIMEOUT = 6.0
"""Seconds in which a request must have come and its answer be taken."""

_open: dict[Connection, None] = {}
"""Those that still owe a request, in the order in which they began to; there is one server in a process."""


class Connection(H11Protocol):
    """One connection, given up when no request is answered on it in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take it in, in place of the oldest if there are too many."""
        super().connection_made(transport)
        self._given_up = self.loop.call_later(REQUEST_TIMEOUT, transport.abort)
        _open[self] = None
        if len(_open) > MAX_CONNECTIONS:
            oldest = next(iter(_open))
            del _open[oldest]
            oldest.transport.abort()

    def on_response_complete(self) -> None:
        """A further request has as long again."""
        self._given_up.cancel()
        self._given_up = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)
        if self in _open:
            _open[self] = _open.pop(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._given_up.cancel()
        _open.pop(self, None)
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Serves one application until a signal, and then hands that on to who listened before."""

    def __init__(self, application: Any, log_level: str) -> None:
        config = uvicorn.Config(
            application, loop="asyncio", http=Connection, ws="none", lifespan="off", access_log=False,
            log_level=log_level, backlog=ACCEPT_BATCH, timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
            h11_max_incomplete_event_size=16384, server_header=False,
        )  # fmt: skip
        super().__init__(config)
        self._ended_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; what goes wrong on a connection is its peer's business and no line of log."""
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember the first signal."""
        self._ended_by = self._ended_by or sig
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at each signal that means so; process 1 survives one that is raised again without a handler."""
        heard = [number for number in TERMINATION_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._ended_by is not None:
            signal.raise_signal(self._ended_by)
