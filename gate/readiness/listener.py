"""Listening on a port: for the placeholder, whose child inherits the socket, and for `gate serve`."""

from __future__ import annotations

import errno
import socket
from importlib.util import find_spec

from gate.errors import BadSettings, ResourceShortage

BACKLOG = 128
"""Connections that the kernel keeps until they are accepted."""


def listen(address: tuple[str, int], setting: str) -> socket.socket:
    """Listen on a host and port; without a host, on every IPv4 and IPv6 address.

    Raises `BadSettings` that names `setting`, the variable or flag with the address.
    """
    host, port = address
    try:
        return _dual_stack(port) if not host and socket.has_dualstack_ipv6() else _single_stack(host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceShortage.of(error) or BadSettings(
            f"{setting}: gate cannot listen on {host or '*'}:{port}: {reason}. Free the port or name another."
        ) from None


def _single_stack(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _dual_stack(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:  # the kernel has IPv6, this network namespace has not
            raise
    return _single_stack("", port)


def require_http_extra(setting: str) -> None:
    """Raise `BadSettings` if the extra `http` is not installed; `setting` is the variable or command that needs it."""
    missing = [name for name in ("uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise BadSettings(f"{setting} needs {' and '.join(missing)}: install schema-gate[http].")
