"""Database URLs as people write them -> what gate needs of them; no password is shown.

Understood are SQLAlchemy's and libpq's forms with any driver suffix. SQLAlchemy reads a URL more leniently
than libpq does (a stray `%`, a `/` in the password), so gate reads it as SQLAlchemy does and hands libpq
single parameters.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from gate import redaction
from gate.errors import BadSettings
from gate.redaction import spellings
from gate.text import is_text

POSTGRESQL = frozenset({"postgresql", "postgres", "cockroachdb"})
"""Schemes that psycopg connects to."""

_FORM = re.compile(
    r"(?P<engine>[a-z][a-z0-9_]*)(?:\+(?P<driver>[\w.]+))?://"
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?\Z",
    re.IGNORECASE | re.DOTALL,
)


class UrlSource(NamedTuple):
    """Where a URL comes from: the text itself, or the path of a file that holds it."""

    variable: str
    text: str = ""
    path: str = ""

    def __repr__(self) -> str:
        """Without the text, which holds a password."""
        return f"UrlSource({self.variable!r}, path={self.path!r})"


class DatabaseUrl(NamedTuple):
    """One database URL, read.

    `conninfo`: libpq parameters for gate's own connection (PostgreSQL only); `verbatim`: as given, for
    a migration; `secrets`: every spelling of the password, to be hidden in other people's texts.
    """

    engine: str
    display: str
    conninfo: dict[str, str]
    verbatim: str
    secrets: frozenset[str]

    def __repr__(self) -> str:
        """Without what holds a password."""
        return f"DatabaseUrl({self.engine!r}, {self.display!r})"


def parse(text: str, variable: str) -> DatabaseUrl:
    """Read a URL, and never show its password again.

    Raises `BadSettings` with the variable's name and never with a part of the URL that could be secret.
    """
    match = _FORM.match(text)
    if not is_text(text):
        raise BadSettings(f"{variable} is no UTF-8 text; write other characters as %XX.")
    if not match:
        raise BadSettings(f"{variable} is no database URL; write it as postgresql://user:password@host:5432/database.")
    redaction.remember(_secrets(match, {}))
    engine = match["engine"].lower()
    if engine not in POSTGRESQL:
        hosts_and_ports(match["hosts"], variable)
        display = f"{'an' if engine[0] in 'aeiou' else 'a'} {engine} database"
        return DatabaseUrl(engine, display, {}, text, _secrets(match, {}))
    conninfo = _conninfo(match, variable)
    secrets = _secrets(match, conninfo)
    redaction.forget(_secrets(match, {}) - secrets)
    return DatabaseUrl(engine, _display(conninfo), conninfo, text, secrets)


def from_environment(names: dict[str, str]) -> DatabaseUrl:
    """The database of libpq's own variables, which libpq reads by itself when it connects."""
    pairs = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "service": "PGSERVICE"}
    known = {key: names[variable] for key, variable in pairs.items() if names.get(variable)}
    secrets = spellings(names.get("PGPASSWORD", ""))
    redaction.remember(secrets)
    return DatabaseUrl("postgresql", _display(known), {}, "", secrets)


def _conninfo(match: re.Match[str], variable: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if match["user"]:
        found["user"] = unquote(match["user"])
    if match["password"]:
        found["password"] = unquote(match["password"])
    if match["database"]:
        found["dbname"] = unquote(match["database"])
    if "@" in (match["database"] or ""):
        raise BadSettings(f"{variable}: {PERCENT}")
    hosts, ports = hosts_and_ports(match["hosts"], variable)
    read_parameters(found, hosts, ports, match["query"] or "", variable)
    if any(hosts):
        found["host"] = ",".join(hosts)
    if any(ports):
        found["port"] = ",".join(ports)
    return found


def _display(conninfo: dict[str, str]) -> str:
    if "service" in conninfo and "host" not in conninfo:
        return f"service {conninfo['service']}"
    hosts = conninfo.get("host") or conninfo.get("hostaddr") or "local socket"
    ports = conninfo.get("port", "").split(",")
    places = [f"{h}:{p}" if p else h for h, p in zip(hosts.split(","), ports * 9, strict=False)]
    return f"{','.join(places)}/{conninfo.get('dbname', '')}".rstrip("/")


def _secrets(match: re.Match[str], conninfo: dict[str, str]) -> frozenset[str]:
    plain = {conninfo.get(key) for key in ("user", "host", "dbname")}
    spelt = spellings(match["password"] or "")
    for key, value in parse_qsl(match["query"] or ""):
        if "password" in key or key == "passwd":
            spelt |= spellings(value)
    return frozenset(spelt - plain)


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


def read_parameters(found: dict[str, str], hosts: list[str], ports: list[str], query: str, variable: str) -> None:
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
                raise BadSettings(
                    f"{variable}: {_parameter_name(key, query)} is not known to PostgreSQL's clients; correct it."
                )


def _parameter_name(key: str, query: str) -> str:
    """The parameter's name, unless it may be a part of a password with a `?` in it."""
    return "a parameter behind the ?" if "@" in query or not key.isidentifier() else f"the parameter {key!r}"


def _sslmode(value: str, variable: str) -> str:
    mode = SSL_WORDS.get(value.lower(), value)
    if mode not in SSL_MODES:
        raise BadSettings(f"{variable}: ssl/sslmode must be one of {', '.join(sorted(SSL_MODES))}.")
    return mode
