"""A TCP proxy that can freeze its open connections: they hang without an error, while new connections work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


class FreezableProxy:
    """A TCP proxy on loopback to one port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets = ExitStack()
        self._frozen = threading.Event()
        self.is_open = True
        """Whether new connections are forwarded. If false, they are accepted and receive nothing."""

        self._listener = self._sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Stop forwarding on all open connections, without closing them."""
        self._frozen.set()
        self._frozen = threading.Event()

    def close(self) -> None:
        """Close every socket."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._sockets.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._sockets.enter_context(self._listener.accept()[0])
                if self.is_open:
                    server = self._sockets.enter_context(socket.create_connection(("127.0.0.1", self._target)))
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=_forward, args=(*pair, self._frozen), daemon=True).start()


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
