"""A way to a server that can freeze: what is connected hangs from then on, and nobody is told; new connections work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


class Way:
    """A TCP proxy on loopback."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._ends = ExitStack()
        self._frozen = threading.Event()
        self.is_open = True
        """Whether new connections are led on; else they are accepted and hear nothing."""

        self._door = self._ends.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._welcome, daemon=True).start()

    def freeze(self) -> None:
        """Let whatever is connected hang for ever."""
        self._frozen.set()
        self._frozen = threading.Event()

    def close(self) -> None:
        """Close every socket."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._ends.close()

    def _welcome(self) -> None:
        with suppress(OSError):
            while True:
                client = self._ends.enter_context(self._door.accept()[0])
                if self.is_open:
                    server = self._ends.enter_context(socket.create_connection(("127.0.0.1", self._to)))
                    for ends in ((client, server), (server, client)):
                        threading.Thread(target=_pass_on, args=(*ends, self._frozen), daemon=True).start()


def _pass_on(source: socket.socket, to: socket.socket, frozen: threading.Event) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            if not frozen.is_set():
                to.sendall(content)
        if not frozen.is_set():
            to.shutdown(socket.SHUT_WR)


@contextmanager
def way_to(port: int) -> Iterator[Way]:
    """Lead to that port of this machine."""
    way = Way(port)
    yield way
    way.close()
