"""Lets the kernel of this machine notice that the server of a migration's connection is gone (hazards.md 6).

A driver that waits for an answer sends nothing. Without keep-alives it waits without end when a firewall or a NAT has
dropped the connection. Time-outs that the URL, a service file or the application sets are kept.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Any

OPTIONS = {
    "keepalives": (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    "keepalives_idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
    "keepalives_interval": (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
    "keepalives_count": (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    "tcp_user_timeout": (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 10_000),
}
"""libpq's parameter -> the socket option (tcp(7)) and its value: a lost server is noticed after some eleven seconds."""

SETS_KEEPALIVE_ITSELF = ("pg8000",)
"""Drivers that switch keep-alives on unless the application switches them off."""


def detect_lost_server(driver: Any) -> None:
    """Set the options on the socket of a driver's connection, where it can be had and is a TCP socket."""
    with suppress(Exception):  # a driver may be of any kind, and its socket is its own
        if (own := _python_socket(driver)) is not None:
            _set_options(own, _given(driver))
        elif (descriptor := _nonblocking_descriptor(driver)) is not None:
            with socket.socket(fileno=os.dup(descriptor)) as duplicate:
                _set_options(duplicate, _given(driver))


def _python_socket(driver: Any) -> Any:
    """The socket of pg8000, pymysql and mysql-connector; None from others."""
    holder = getattr(driver, "_socket", None)
    for candidate in (getattr(driver, "_usock", None), getattr(driver, "_sock", None), getattr(holder, "sock", None)):
        if hasattr(candidate, "setsockopt"):
            return candidate
    return None


def _nonblocking_descriptor(driver: Any) -> int | None:
    """The descriptor of asyncpg, aiomysql and asyncmy, of psycopg and psycopg2, or of mysqlclient.

    A `socket.socket` for the descriptor makes it non-blocking under `socket.setdefaulttimeout`. All but mysqlclient's
    are so already.
    """
    writer = getattr(driver, "_writer", None)
    transport = getattr(driver, "_transport", None) or getattr(writer, "transport", None)
    if transport is not None:
        return int(transport.get_extra_info("socket").fileno())
    if hasattr(driver, "info") or socket.getdefaulttimeout() is None:
        return int(driver.fileno())
    return None


def _given(driver: Any) -> Collection[str]:
    """The parameters of libpq that the URL or a service file gives."""
    info: Any = getattr(driver, "info", None)
    if hasattr(info, "get_parameters"):  # psycopg
        return set(info.get_parameters())
    if hasattr(info, "dsn_parameters"):  # psycopg2
        return set(info.dsn_parameters)
    return {"keepalives"} if type(driver).__module__.startswith(SETS_KEEPALIVE_ITSELF) else ()


def _set_options(connection: Any, given: Collection[str]) -> None:
    """Set each option that is not given and still has the kernel's default."""
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with socket.socket(connection.family) as fresh:
        for parameter, (level, name, value) in OPTIONS.items():
            option = getattr(socket, name, None)
            if option is None or parameter in given:
                continue
            if connection.getsockopt(level, option) == fresh.getsockopt(level, option):
                connection.setsockopt(level, option, value)
