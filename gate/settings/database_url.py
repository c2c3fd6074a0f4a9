"""A database URL in any form that SQLAlchemy or libpq accepts -> what gate needs of it; no password is shown.

A URL has one reading, SQLAlchemy's (`make_url` and the dialect's `create_connect_args`): parameters behind the `?`
replace what is before it. gate passes single parameters to libpq. What SQLAlchemy cannot read, such as several
`host:port` before the `/`, is read as libpq does.
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
    URL as given, for the migration; `secrets`: every spelling of the passwords, to be redacted;
    `sqlalchemy_spelling`: another form of this address, where libpq reads the given one and SQLAlchemy does not.
    """

    engine: str
    display: str
    conninfo: dict[str, str]
    verbatim: str
    secrets: frozenset[str]
    sqlalchemy_spelling: str = ""

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
        _address(match["hosts"], variable)
        display = f"{'an' if engine[0] in 'aeiou' else 'a'} {engine} database"
        return DatabaseUrl(engine, display, {}, text, _secrets(match, {}))
    conninfo, spelling = _conninfo(match, variable)
    secrets = _secrets(match, conninfo)
    redaction.forget(_secrets(match, {}) - secrets)
    return DatabaseUrl(engine, _display(conninfo), conninfo, text, secrets, spelling)


def from_environment(environment: dict[str, str]) -> DatabaseUrl:
    """Return the database of libpq's `PG*` variables; libpq itself reads them when it connects."""
    variables = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "service": "PGSERVICE"}
    parameters = {key: environment[name] for key, name in variables.items() if environment.get(name)}
    secrets = spellings(environment.get("PGPASSWORD", ""))
    redaction.remember(secrets)
    return DatabaseUrl("postgresql", _display(parameters), {}, "", secrets)


_URL = re.compile(
    r"(?P<engine>[a-z][a-z0-9_]*)(?:\+(?P<driver>[\w.]+))?://"
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>[^\n]*))?\Z",
    re.IGNORECASE,
)
"""The pattern of `sqlalchemy.engine.url`, with several hosts; it reads the last `@` before the first `/` or `:`."""

_SWALLOWED_ADDRESS = re.compile(r"\d*/[^?]*\?.*=", re.DOTALL)
"""A "password" that is a port, a database and the beginning of the parameters: an `@` follows that is not escaped."""

ESCAPING = "in a password or a name, write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25."


class _Address(NamedTuple):
    """Hosts and ports as libpq's parameters take them, None where a URL names none.

    `malformed`: SQLAlchemy refuses the URL; `encoded`: SQLAlchemy takes the percent-encoding in the host literally.
    """

    host: str | None = None
    port: str | None = None
    malformed: bool = False
    encoded: bool = False

    @property
    def spelling(self) -> str:
        """How SQLAlchemy must be given this address, "" if it reads the given URL."""
        if not (self.malformed or self.encoded):
            return ""
        named = {"host": self.host, "port": (self.port or "").strip(",") and self.port}
        parameters = "&".join(f"{key}={value}" for key, value in named.items() if value)
        return f"postgresql://USER:PASSWORD@/DATABASE?{parameters}".rstrip("?")


def _conninfo(match: re.Match[str], variable: str) -> tuple[dict[str, str], str]:
    """Translate a URL into libpq's parameters, as SQLAlchemy's dialect does: those of the query replace the others.

    The second value is the spelling that SQLAlchemy reads, "" if it reads this one.
    """
    if "@" in (match["database"] or "") or "?" in (match["user"] or ""):
        raise BadSettings(f"{variable}: {ESCAPING}")
    if match["user"] is not None and _SWALLOWED_ADDRESS.match(match["password"] or ""):
        raise BadSettings(f"{variable}: SQLAlchemy takes all that is before the @ for user and password; {ESCAPING}")
    driver = (match["driver"] or "").lower()
    named = {"user": match["user"], "password": match["password"], "dbname": match["database"]}
    conninfo = {key: unquote(value) for key, value in named.items() if value}
    query = _query(match["query"] or "", variable)
    address = _address(match["hosts"], variable)
    address = _replaced(address, query.pop("host", []), query.pop("port", []), driver, variable)
    address = _socket_file(address, query.pop("unix_sock", []), driver, variable)
    for key, values in query.items():
        _add_parameter(conninfo, key, values, match["query"] or "", variable)
    if driver == "pg8000":  # it reads no PG* variable, and never tries a socket by itself
        address = address._replace(host=address.host or "localhost", port=address.port or DEFAULT_PORT)
        conninfo |= {"dbname": conninfo.get("dbname", conninfo["user"])} if "user" in conninfo else {}
    conninfo |= {key: value for key, value in (("host", address.host), ("port", address.port)) if value}
    return conninfo, address.spelling


def _query(text: str, variable: str) -> dict[str, list[str]]:
    """Return the parameters; SQLAlchemy drops each one without a value, which matters for the address."""
    query: dict[str, list[str]] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        if value or key not in _ADDRESS_PARAMETERS:
            query.setdefault(key, []).append(value)
    for key, values in query.items():
        if len(values) > 1 and key not in {"host", "port"}:
            raise BadSettings(f"{variable} gives {_parameter_name(key, text)} more than once; remove all but one.")
    return query


_ADDRESS_PARAMETERS = frozenset({"host", "port", "user", "username", "password", "dbname", "database", "unix_sock"})

DEFAULT_PORT = "5432"

_ONE_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\],]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d*))?\Z", re.ASCII)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?\Z", re.ASCII)


def _address(text: str, variable: str) -> _Address:
    """Return the address between `//` and the next `/`: `host`, `host:port`, `[ipv6]:port`.

    Several ports are libpq's form alone. SQLAlchemy takes percent-encoding in a host literally, so no host is so named.
    """
    one = _ONE_HOST.match(text)
    if one and "@" not in text:
        host, port = one["ipv6"] or one["host"] or "", one["port"] or ""
        _check_ports([port], variable)
        decoded = unquote(host)
        # SQLAlchemy refuses a colon without a port
        return _Address(decoded or None, port or None, malformed=one["port"] == "", encoded=decoded != host)
    hosts, ports = [], []
    for part in text.split(","):
        match = _HOST.match(part)
        if not match or "@" in part:
            raise BadSettings(f"{variable}: the part between // and the next / is not host:port; {ESCAPING}")
        hosts.append(unquote(match["host"]).strip("[]"))
        ports.append(match["port"] or "")
    _check_ports(ports, variable)
    return _Address(",".join(hosts), ",".join(ports) if any(ports) else None, malformed=True)


def _check_ports(ports: list[str], variable: str) -> None:
    for port in ports:
        if port and not (
            port.isascii() and port.isdecimal() and len(port) <= MAX_PORT_DIGITS and 0 < int(port) < 1 << 16
        ):
            raise BadSettings(f"{variable}: a port must be a number from 1 to 65535.")


MAX_PORT_DIGITS = 5

_HOST_PORT = re.compile(r"([a-zA-Z0-9\-.]*):(\d*)\Z", re.ASCII)
"""One `host=name:port` behind the `?`, as `PGDialect._split_multihost_from_url` recognises it."""


def _replaced(address: _Address, hosts: list[str], ports: list[str], driver: str, variable: str) -> _Address:
    """Return the address after `host` and `port` of the query have replaced it (`PGDialect._split_multihost_from_url`).

    Either `host=a,b&port=1,2`, or `host=a:1&host=b:2`. A single host without a port keeps the port before the `?`.
    """
    if not hosts and not ports:
        return address
    if len(hosts) > 1:
        names, numbers = _split_tokens(hosts, ports, variable)
    else:
        names = hosts[0].split(",") if hosts else []
        numbers = (ports[0].split(",") if len(ports) == 1 else ports) if ports else []
        if not ports and len(names) == 1 and (match := _HOST_PORT.match(names[0])):
            names, numbers = [match[1]], [match[2]]
    _check_ports(numbers, variable)
    if any(":" in name and "/" not in name and name.count(":") == 1 for name in names) or "@" in "".join(names):
        raise BadSettings(f"{variable}: write the parameter host as host=a,b&port=1,2 or as host=a:1&host=b:2.")
    if (numbers and names and len(numbers) != len(names)) or (len(numbers) > 1 and not names):
        raise BadSettings(f"{variable}: the parameters host and port must name as many ports as hosts.")
    if driver == "pg8000":
        _check_pg8000(names, hosts, variable)
    if len(names) > 1 and driver == "asyncpg" and not (all(names) and all(numbers) and numbers):
        raise BadSettings(f"{variable}: asyncpg needs a host and a port for each of several: host=a:1&host=b:2.")
    host = ",".join(names) if names else address.host
    port = ",".join(numbers) if any(numbers) else address.port
    if len(names) > 1 and not any(numbers):
        port = "," * (len(names) - 1)
    if driver == "asyncpg" and len(names) == 1 and SOCKET_NAME in (host or ""):
        return _socket_file(address, [host or ""], "pg8000", variable)
    return _Address(host, port, address.malformed, address.encoded and not names)


def _split_tokens(hosts: list[str], ports: list[str], variable: str) -> tuple[list[str], list[str]]:
    if ports or any(host.count(":") > 1 for host in hosts):
        raise BadSettings(f"{variable}: write the parameter host as host=a,b&port=1,2 or as host=a:1&host=b:2.")
    pairs = [host.partition(":") for host in hosts]
    return [name for name, _, _ in pairs], [number for _, _, number in pairs]


def _check_pg8000(names: list[str], hosts: list[str], variable: str) -> None:
    """Raise `BadSettings` for what pg8000 would take for one name: it knows one host, and a socket as `unix_sock`."""
    if any("/" in name for name in names):
        raise BadSettings(
            f"{variable}: pg8000 takes a socket as unix_sock=/FOLDER/{SOCKET_NAME}{DEFAULT_PORT}, not as host."
        )
    if len(names) > 1 or (names and names != hosts):
        raise BadSettings(f"{variable}: pg8000 connects to one host; write host=HOST&port=PORT.")


SOCKET_NAME = ".s.PGSQL."
"""The beginning of a socket's file name; the port follows."""


def _socket_file(address: _Address, paths: list[str], driver: str, variable: str) -> _Address:
    """Return the address of pg8000's `unix_sock`, which precedes a host: libpq takes the folder and the port."""
    if not paths:
        return address
    folder, _, name = paths[0].rpartition("/")
    port = name.removeprefix(SOCKET_NAME)
    if driver != "pg8000":
        raise BadSettings(f"{variable}: unix_sock is a parameter of pg8000; write host=/FOLDER instead.")
    if not paths[0].startswith("/") or name == port or not port.isdecimal():
        raise BadSettings(
            f"{variable}: gate connects to a socket through libpq, which needs a file name {SOCKET_NAME}PORT; write "
            f"unix_sock=/FOLDER/{SOCKET_NAME}{DEFAULT_PORT}."
        )
    _check_ports([port], variable)
    return _Address(folder or "/", port, address.malformed)


def _add_parameter(conninfo: dict[str, str], key: str, values: list[str], query: str, variable: str) -> None:
    value = values[0]
    match key:
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
    use_native_hstore
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
