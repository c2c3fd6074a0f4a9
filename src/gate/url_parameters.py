"""What stands in a PostgreSQL URL behind `//` and behind `?` -> libpq's parameters."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from gate.errors import BadSettings

LIBPQ = frozenset(
    """
    host hostaddr port dbname user password passfile require_auth channel_binding connect_timeout
    client_encoding options application_name fallback_application_name keepalives keepalives_idle
    keepalives_interval keepalives_count tcp_user_timeout sslmode requiressl sslnegotiation sslcompression
    sslcert sslkey sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer
    ssl_min_protocol_version ssl_max_protocol_version min_protocol_version max_protocol_version krbsrvname
    gsslib gssencmode gssdelegation service servicefile target_session_attrs load_balance_hosts
    """.split()
)
"""libpq's connection parameters (PostgreSQL documentation, 32.1.2)."""

DRIVERS_OWN = frozenset(
    """
    async_fallback autocommit async_creator_fn command_timeout cursor_factory direct_tls executemany_mode
    max_cacheable_statement_size max_cached_statement_lifetime prepare_threshold prepared_statement_cache_size
    prepared_statement_name_func row_factory server_settings statement_cache_size tcp_keepalive timeout
    unix_sock use_native_hstore
    """.split()
)
"""Parameters of asyncpg, psycopg2, pg8000 and SQLAlchemy's dialects that say nothing about where and how safely."""

OTHER_NAMES = {"username": "user", "database": "dbname"}
"""Drivers' names of libpq's parameters."""

SSL_WORDS = {
    "true": "require",
    "1": "require",
    "yes": "require",
    "on": "require",
    "false": "disable",
    "0": "disable",
}
SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})

_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?\Z")

PERCENT = "in a password or a name write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25."


def hosts_and_ports(text: str, variable: str) -> tuple[list[str], list[str]]:
    """`host:port,host:port` as two lists; raises `BadSettings`."""
    hosts, ports = [], []
    for part in text.split(",") if text else []:
        match = _HOST.match(part)
        if not match or "@" in part:
            raise BadSettings(f"{variable}: what stands between // and the next / is not host:port; {PERCENT}")
        hosts.append(unquote(match["host"]).strip("[]"))
        ports.append(match["port"] or "")
    return hosts, ports


def take_parameters(found: dict[str, str], hosts: list[str], ports: list[str], query: str, variable: str) -> None:
    """Add what a query says to the parameters, hosts and ports that are known; raises `BadSettings`."""
    for key, value in parse_qsl(query, keep_blank_values=True):
        match key:
            case "host" if not value.startswith("/"):
                more_hosts, more_ports = hosts_and_ports(value, variable)
                hosts.extend(more_hosts)
                ports.extend(more_ports)
            case "host":
                hosts.append(value)
                ports.append("")
            case "port":
                ports[:] = value.split(",")
            case "ssl" | "sslmode":
                found["sslmode"] = _sslmode(value, variable)
            case "direct_tls" if value.lower() in {"1", "true", "yes", "on"}:
                found.setdefault("sslmode", "require")
            case _ if (name := OTHER_NAMES.get(key, key)) in LIBPQ:
                found[name] = value
            case _ if key not in DRIVERS_OWN:
                raise BadSettings(f"{variable}: {_named(key, query)} is not known to PostgreSQL's clients; correct it.")


def _named(key: str, query: str) -> str:
    """The parameter's name, unless it may be a part of a password with a `?` in it."""
    return "a parameter behind the ?" if "@" in query or not key.isidentifier() else f"the parameter {key!r}"


def _sslmode(value: str, variable: str) -> str:
    mode = SSL_WORDS.get(value.lower(), value)
    if mode not in SSL_MODES:
        raise BadSettings(f"{variable}: ssl/sslmode must be one of {', '.join(sorted(SSL_MODES))}.")
    return mode
