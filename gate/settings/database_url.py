"""A database URL in any form that SQLAlchemy or libpq accepts -> what gate needs of it; no password is shown.

SQLAlchemy's parser is more lenient than libpq's (a stray `%`, a `/` in the password), so gate parses the URL as
SQLAlchemy does and passes single parameters to libpq.
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
"""Engines that gate connects to with psycopg."""


class UrlSource(NamedTuple):
    """Where a URL comes from: the text of a variable, or the file whose path the variable contains."""

    variable: str
    text: str = ""
    path: str = ""

    def __repr__(self) -> str:
        """Leave out the text, which may contain a password."""
        return f"UrlSource({self.variable!r}, path={self.path!r})"


class DatabaseUrl(NamedTuple):
    """One parsed database URL.

    `engine`: the scheme without the driver; `display`: the database's name for messages, without a password;
    `conninfo`: libpq's parameters for gate's own connection, empty for other engines than PostgreSQL; `verbatim`: the
    URL as given, for the migration; `secrets`: every spelling of the passwords, to be redacted.
    """

    engine: str
    display: str
    conninfo: dict[str, str]
    verbatim: str
    secrets: frozenset[str]

    def __repr__(self) -> str:
        """Leave out everything that contains a password."""
        return f"DatabaseUrl({self.engine!r}, {self.display!r})"


def parse(text: str, variable: str) -> DatabaseUrl:
    """Parse a URL and register its passwords for redaction.

    Raises `BadSettings`, which names the variable and quotes nothing of the URL that may be secret.
    """
    match = _URL.match(text)
    if not is_text(text):
        raise BadSettings(f"{variable} is not UTF-8 text; write other bytes as %XX.")
    if not match:
        raise BadSettings(f"{variable} is not a database URL; write postgresql://user:password@host:5432/database.")
    redaction.remember(_secrets(match, {}))
    engine = match["engine"].lower()
    if engine not in POSTGRESQL:
        _split_hosts(match["hosts"], variable)
        display = f"{'an' if engine[0] in 'aeiou' else 'a'} {engine} database"
        return DatabaseUrl(engine, display, {}, text, _secrets(match, {}))
    conninfo = _conninfo(match, variable)
    secrets = _secrets(match, conninfo)
    redaction.forget(_secrets(match, {}) - secrets)
    return DatabaseUrl(engine, _display(conninfo), conninfo, text, secrets)


def from_environment(environment: dict[str, str]) -> DatabaseUrl:
    """Return the database of libpq's `PG*` variables; libpq itself reads them when it connects."""
    variables = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "service": "PGSERVICE"}
    parameters = {key: environment[name] for key, name in variables.items() if environment.get(name)}
    secrets = spellings(environment.get("PGPASSWORD", ""))
    redaction.remember(secrets)
    return DatabaseUrl("postgresql", _display(parameters), {}, "", secrets)


_URL = re.compile(
    r"(?P<engine>[a-z][a-z0-9_]*)(?:\+(?P<driver>[\w.]+))?://"
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?\Z",
    re.IGNORECASE | re.DOTALL,
)
"""The pattern of `sqlalchemy.engine.url`, with several hosts."""


def _conninfo(match: re.Match[str], variable: str) -> dict[str, str]:
    """Translate a URL into libpq's parameters; those of the query override those before it."""
    conninfo: dict[str, str] = {}
    if match["user"]:
        conninfo["user"] = unquote(match["user"])
    if match["password"]:
        conninfo["password"] = unquote(match["password"])
    if match["database"]:
        conninfo["dbname"] = unquote(match["database"])
    if "@" in (match["database"] or ""):
        raise BadSettings(f"{variable}: {ESCAPING}")
    hosts, ports = _split_hosts(match["hosts"], variable)
    _add_query(conninfo, hosts, ports, match["query"] or "", variable)
    if any(hosts):
        conninfo["host"] = ",".join(hosts)
    if any(ports):
        conninfo["port"] = ",".join(ports)
    return conninfo


_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?\Z")

ESCAPING = "in a password or a name, write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25."


def _split_hosts(text: str, variable: str) -> tuple[list[str], list[str]]:
    """Split `host:port,host:port` into hosts and ports; a port is "" where none is given."""
    hosts, ports = [], []
    for part in text.split(",") if text else []:
        match = _HOST.match(part)
        if not match or "@" in part:
            raise BadSettings(f"{variable}: the part between // and the next / is not host:port; {ESCAPING}")
        hosts.append(unquote(match["host"]).strip("[]"))
        ports.append(match["port"] or "")
    return hosts, ports


def _add_query(conninfo: dict[str, str], hosts: list[str], ports: list[str], query: str, variable: str) -> None:
    """Add the parameters of the query to the parameters, hosts and ports before it."""
    for key, value in parse_qsl(query, keep_blank_values=True):
        match key:
            case "host" if not value.startswith("/"):
                more_hosts, more_ports = _split_hosts(value, variable)
                hosts.extend(more_hosts)
                ports.extend(more_ports)
            case "host":
                hosts.append(value)
                ports.append("")
            case "port":
                ports[:] = value.split(",")
            case "ssl" | "sslmode":
                conninfo["sslmode"] = _sslmode(value, variable)
            case "direct_tls" if value.lower() in {"1", "true", "yes", "on"}:
                conninfo.setdefault("sslmode", "require")
            case _ if (name := ALIASES.get(key, key)) in LIBPQ_PARAMETERS:
                conninfo[name] = value
            case _ if key not in DRIVER_PARAMETERS:
                raise BadSettings(
                    f"{variable}: libpq and the PostgreSQL drivers do not know {_parameter_name(key, query)}; "
                    "correct or remove it."
                )


def _parameter_name(key: str, query: str) -> str:
    """Name a parameter, unless the key may be a part of a password that contains a `?`."""
    return "a parameter after the ?" if "@" in query or not key.isidentifier() else f"the parameter {key!r}"


def _sslmode(value: str, variable: str) -> str:
    mode = SSL_ALIASES.get(value.lower(), value)
    if mode not in SSL_MODES:
        raise BadSettings(f"{variable}: ssl/sslmode must be one of {', '.join(sorted(SSL_MODES))}.")
    return mode


def _display(conninfo: dict[str, str]) -> str:
    if "service" in conninfo and "host" not in conninfo:
        return f"service {conninfo['service']}"
    hosts = conninfo.get("host") or conninfo.get("hostaddr") or "local socket"
    ports = conninfo.get("port", "").split(",")
    # One port holds for all hosts (libpq); nine are as many hosts as are worth showing.
    addresses = [f"{h}:{p}" if p else h for h, p in zip(hosts.split(","), ports * 9, strict=False)]
    return f"{','.join(addresses)}/{conninfo.get('dbname', '')}".rstrip("/")


def _secrets(match: re.Match[str], conninfo: dict[str, str]) -> frozenset[str]:
    """Return every spelling of the passwords; a password that equals a name of `conninfo` is not redacted."""
    names = {conninfo.get(key) for key in ("user", "host", "dbname")}
    secrets = spellings(match["password"] or "")
    for key, value in parse_qsl(match["query"] or ""):
        if "password" in key or key == "passwd":
            secrets |= spellings(value)
    return frozenset(secrets - names)


LIBPQ_PARAMETERS = frozenset(
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

DRIVER_PARAMETERS = frozenset(
    """
    async_fallback autocommit async_creator_fn command_timeout cursor_factory direct_tls executemany_mode
    max_cacheable_statement_size max_cached_statement_lifetime prepare_threshold prepared_statement_cache_size
    prepared_statement_name_func row_factory server_settings statement_cache_size tcp_keepalive timeout
    unix_sock use_native_hstore
    """.split()
)
"""Parameters of asyncpg, psycopg2, pg8000 and SQLAlchemy's dialects that affect neither the address nor TLS; gate's
own connection ignores them."""

ALIASES = {"username": "user", "database": "dbname"}
"""Drivers' names of libpq's parameters."""

SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
"""libpq's values of `sslmode`."""

SSL_ALIASES = {
    "true": "require",
    "1": "require",
    "yes": "require",
    "on": "require",
    "false": "disable",
    "0": "disable",
}
"""asyncpg's values of `ssl`."""
