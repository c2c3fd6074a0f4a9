"""A TCP proxy that freezes, resets, truncates and delays what passes through it.

A frozen connection still reads, so the kernel acknowledges all that is sent on it, keep-alives too.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class _Link:
    """One connection through the proxy. `kept`: what was read while it was frozen, with its target."""

    client: socket.socket
    server: socket.socket
    frozen: threading.Event = field(default_factory=threading.Event)
    cut: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    kept: list[tuple[socket.socket, bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forward(self, target: socket.socket, data: bytes) -> None:
        """Forward one message, or what the fault of this connection leaves of it; b"": the end of the stream."""
        with self.lock:
            if self.lost.is_set():
                return
            if self.frozen.is_set():
                self.kept.append((target, data))
            elif self.cut.is_set() and data:
                target.sendall(data[: len(data) // 2])
                self.end()
            else:
                _send(target, data)

    def thaw(self) -> None:
        """Forward what was kept, and then all that follows."""
        with self.lock:
            self.frozen.clear()
            for target, data in self.kept:
                with suppress(OSError):
                    _send(target, data)
            self.kept.clear()

    def reset(self) -> None:
        """Answer both ends with RST."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads
                end.close()

    def end(self) -> None:
        """Close both ends after what was sent on them."""
        self.lost.set()
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class _Trap:
    """A fault that a message causes, as `FaultyProxy.on_message` describes it."""

    text: bytes
    fault: Callable[[], None]
    skipped: int
    is_forwarded: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def springs(self, data: bytes) -> bool:
        """Whether this message causes the fault; counts it."""
        with self._lock:
            self.skipped -= self.text in data
            return self.text in data and self.skipped == -1


def _send(target: socket.socket, data: bytes) -> None:
    if data:
        target.sendall(data)
    else:
        target.shutdown(socket.SHUT_WR)


class FaultyProxy:
    """A TCP proxy on loopback to one port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        """The port of the server to which new connections lead."""
        self._sockets = ExitStack()
        self._links: list[_Link] = []
        self._trap: _Trap | None = None
        self.is_open = True
        """Whether new connections are forwarded. If false, they are accepted and receive nothing."""
        self.new_connections: Callable[[], None] | None = None
        """A fault of each new connection, before anything is forwarded on it."""
        self.delay = 0.0
        """Seconds that each message is late."""

        self._listener = self._sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Stop forwarding on all open connections, without closing them."""
        for link in self._links:
            link.frozen.set()

    def thaw(self) -> None:
        """Forward what the frozen connections have kept, and forward again."""
        for link in self._links:
            link.thaw()

    def freeze_newest(self) -> None:
        """Stop forwarding on the connection that was opened last."""
        self._links[-1].frozen.set()

    def lose_server(self, *, newest: bool = False) -> None:
        """Close the server's end of all open connections, or of the newest: their clients hear nothing of it."""
        for link in self._links[-1:] if newest else self._links:
            link.lost.set()
            with suppress(OSError):
                link.server.shutdown(socket.SHUT_RDWR)

    def reset(self, *, newest: bool = False) -> None:
        """Answer both ends of all open connections, or of the newest, with RST."""
        for link in self._links[-1:] if newest else self._links:
            link.lost.set()
            link.reset()

    def truncate(self) -> None:
        """Cut the next message of each open connection in its middle, in either direction, and close both ends."""
        for link in self._links:
            link.cut.set()

    def on_message(
        self, text: bytes, fault: Callable[[], None], *, skipped: int = 0, is_forwarded: bool = False
    ) -> None:
        """Let a fault occur once, when a client sends the text.

        `skipped`: how many messages with the text pass before; `is_forwarded`: the message is forwarded before the
        fault, which then affects its answer.
        """
        self._trap = _Trap(text, fault, skipped, is_forwarded)

    def close(self) -> None:
        """Close every socket."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._sockets.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._sockets.enter_context(self._listener.accept()[0])
                if self.is_open:
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = self._sockets.enter_context(socket.create_connection(("127.0.0.1", self.target)))
        except OSError:  # the server is down just now
            client.close()
            return
        link = _Link(client, server)
        self._links.append(link)
        if self.new_connections:
            self.new_connections()
        for pair in ((client, server), (server, client)):
            threading.Thread(target=self._forward, args=(link, *pair), daemon=True).start()

    def _forward(self, link: _Link, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            data = b"-"
            while data:
                data = source.recv(1 << 16)
                time.sleep(self.delay)
                trap = self._trap if source is link.client else None
                fault = trap.fault if trap and trap.springs(data) else None
                if trap and fault and not trap.is_forwarded:
                    fault()
                link.forward(target, data)
                if trap and fault and trap.is_forwarded:
                    fault()


@contextmanager
def faulty_proxy(port: int) -> Iterator[FaultyProxy]:
    """Run a proxy to `port` of this machine."""
    proxy = FaultyProxy(port)
    yield proxy
    proxy.close()
