"""Database URLs as people write them -> what gate needs of them. Pure; it never shows a password.

Understood are SQLAlchemy's and libpq's forms with any driver suffix. SQLAlchemy reads a URL more leniently
than libpq does (a stray `%`, a `/` in the password), so gate reads it as SQLAlchemy does and hands libpq
single parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

from gate.errors import BadSettings

POSTGRESQL = frozenset({"postgresql", "postgres", "cockroachdb"})
"""Schemes that psycopg connects to."""

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

_FORM = re.compile(
    r"(?P<engine>[a-z][a-z0-9_]*)(?:\+(?P<driver>[\w.]+))?://"
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?\Z",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?\Z")
_WORD = re.compile(r"\S+")
_BEFORE_PASSWORD = re.compile(r"://[^:/?#\s@]*:")
_PARAMETER = re.compile(
    r"(?i)(password['\"]?|passwd['\"]?|pwd['\"]?)(\s*[=:]\s*)(\"[^\"]*\"|'(?:[^'\\]|\\.)*'|[^\s&,;)]+)"
)

PERCENT = "in a password or a name write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25."

HIDDEN = "***"

SHORTEST = 3
"""A shorter secret is hidden only where passwords stand: elsewhere its letters say nothing about it."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """One database URL, read.

    `conninfo`: libpq parameters for gate's own connection (PostgreSQL only); `verbatim`: as given, for
    a migration; `secrets`: every spelling of the password, to be hidden in other people's texts.
    """

    engine: str
    display: str
    conninfo: dict[str, str] = field(repr=False, default_factory=dict)
    verbatim: str = field(repr=False, default="")
    secrets: frozenset[str] = field(repr=False, default=frozenset())

    @property
    def is_postgresql(self) -> bool:
        """Whether gate speaks to it by psycopg."""
        return self.engine in POSTGRESQL

    @property
    def is_mysql(self) -> bool:
        """Whether it is a MySQL or a MariaDB."""
        return self.engine in {"mysql", "mariadb"}


_parsed: set[str] = set()
"""Every password that came by in this process: `hide` knows the old one, too, after a rotation."""


def parse(text: str, variable: str) -> DatabaseUrl:
    """Read a URL, and never show its password again.

    Raises `BadSettings` with the variable's name and never with a part of the URL that could be secret.
    """
    match = _FORM.match(text)
    if not is_text(text):
        raise BadSettings(f"{variable} is no UTF-8 text; write other characters as %XX.")
    if not match:
        raise BadSettings(f"{variable} is no database URL; write it as postgresql://user:password@host:5432/database.")
    _parsed.update(_secrets(match, {}))
    engine = match["engine"].lower()
    if engine not in POSTGRESQL:
        return DatabaseUrl(engine, f"a {engine} database", verbatim=text, secrets=_secrets(match, {}))
    conninfo = _conninfo(match, variable)
    secrets = _secrets(match, conninfo)
    _parsed.difference_update(_secrets(match, {}) - secrets)
    return DatabaseUrl(engine, _display(conninfo), conninfo, text, secrets)


def is_text(text: str) -> bool:
    """Whether it can be sent to a server: Python keeps a byte that is no UTF-8 as half a surrogate."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def from_environment(names: dict[str, str]) -> DatabaseUrl:
    """The database of libpq's own variables, which libpq reads by itself when it connects."""
    pairs = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "service": "PGSERVICE"}
    known = {key: names[variable] for key, variable in pairs.items() if names.get(variable)}
    secrets = _spellings(names.get("PGPASSWORD", ""))
    _parsed.update(secrets)
    return DatabaseUrl("postgresql", _display(known), {}, "", secrets)


def hide(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """Hide in a foreign text these secrets, every password that was ever parsed, and what stands where passwords do."""
    for secret in sorted((s for s in secrets | _parsed if len(s) >= SHORTEST), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = _WORD.sub(_without_password, text)
    return _PARAMETER.sub(rf"\1\2{HIDDEN}", text)


def _without_password(word: re.Match[str]) -> str:
    """Without what stands between `://user:` and the last `@`; one search for each word, however long it is."""
    text = word[0]
    at = text.rfind("@")
    before = _BEFORE_PASSWORD.search(text, 0, max(at, 0))
    return f"{text[: before.end()]}{HIDDEN}{text[at:]}" if before else text


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
    hosts, ports = _hosts(match["hosts"], variable)
    _take_parameters(found, hosts, ports, match["query"] or "", variable)
    if any(hosts):
        found["host"] = ",".join(hosts)
    if any(ports):
        found["port"] = ",".join(ports)
    return found


def _hosts(text: str, variable: str) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for part in text.split(",") if text else []:
        match = _HOST.match(part)
        if not match or "@" in part:
            raise BadSettings(f"{variable}: what stands between // and the next / is not host:port; {PERCENT}")
        hosts.append(unquote(match["host"]).strip("[]"))
        ports.append(match["port"] or "")
    return hosts, ports


def _take_parameters(found: dict[str, str], hosts: list[str], ports: list[str], query: str, variable: str) -> None:
    for key, value in parse_qsl(query, keep_blank_values=True):
        match key:
            case "host" if not value.startswith("/"):
                more_hosts, more_ports = _hosts(value, variable)
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


def _display(conninfo: dict[str, str]) -> str:
    if "service" in conninfo and "host" not in conninfo:
        return f"service {conninfo['service']}"
    hosts = conninfo.get("host") or conninfo.get("hostaddr") or "local socket"
    ports = conninfo.get("port", "").split(",")
    places = [f"{h}:{p}" if p else h for h, p in zip(hosts.split(","), ports * 9, strict=False)]
    return f"{','.join(places)}/{conninfo.get('dbname', '')}".rstrip("/")


def _secrets(match: re.Match[str], conninfo: dict[str, str]) -> frozenset[str]:
    plain = {conninfo.get(key) for key in ("user", "host", "dbname")}
    spelt = _spellings(match["password"] or "")
    for key, value in parse_qsl(match["query"] or ""):
        if "password" in key or key == "passwd":
            spelt |= _spellings(value)
    return frozenset(spelt - plain)


def _spellings(password: str) -> frozenset[str]:
    if not password:
        return frozenset()
    decoded = unquote(password)
    content = decoded.encode("utf-8", "surrogateescape")
    encoded = {quote(content), quote(content, safe=""), quote(content, safe=" +"), quote_plus(content)}
    lower = {re.sub("%..", lambda hexadecimal: hexadecimal[0].lower(), spelling) for spelling in encoded}
    return frozenset({password, decoded, unquote_plus(password), repr(decoded)[1:-1], *encoded, *lower})
