"""A TCP proxy that can freeze its open connections: they hang without an error, while new connections work.

A frozen connection still reads, so the kernel acknowledges all that is sent on it, keep-alives too.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Link:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    frozen: threading.Event = field(default_factory=threading.Event)


class FreezableProxy:
    """A TCP proxy on loopback to one port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets = ExitStack()
        self._links: list[_Link] = []
        self.is_open = True
        """Whether new connections are forwarded. If false, they are accepted and receive nothing."""

        self._listener = self._sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Stop forwarding on all open connections, without closing them."""
        for link in self._links:
            link.frozen.set()

    def freeze_newest(self) -> None:
        """Stop forwarding on the connection that was opened last."""
        self._links[-1].frozen.set()

    def lose_server(self, *, newest: bool = False) -> None:
        """Close the server's end of all open connections, or of the newest: their clients hear nothing of it."""
        for link in self._links[-1:] if newest else self._links:
            link.frozen.set()
            with suppress(OSError):
                link.server.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Answer both ends of all open connections with RST."""
        for link in self._links:
            link.frozen.set()
            for end in (link.client, link.server):
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)  # wakes the thread that reads
                    end.close()

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
            server = self._sockets.enter_context(socket.create_connection(("127.0.0.1", self._target)))
        except OSError:  # the server is down just now
            client.close()
            return
        link = _Link(client, server)
        self._links.append(link)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=_forward, args=(*pair, link.frozen), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, frozen: threading.Event) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if not frozen.is_set():
                target.sendall(data)
        if not frozen.is_set():
            target.shutdown(socket.SHUT_WR)


@contextmanager
def freezable_proxy(port: int) -> Iterator[FreezableProxy]:
    """Run a proxy to `port` of this machine."""
    proxy = FreezableProxy(port)
    yield proxy
    proxy.close()
