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
from gate.foreign import is_text
from gate.redaction import spellings
from gate.url_parameters import PERCENT, hosts_and_ports, take_parameters

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

    @property
    def is_postgresql(self) -> bool:
        """Whether gate speaks to it by psycopg."""
        return self.engine in POSTGRESQL

    @property
    def is_mysql(self) -> bool:
        """Whether it is a MySQL or a MariaDB."""
        return self.engine in {"mysql", "mariadb"}


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
    take_parameters(found, hosts, ports, match["query"] or "", variable)
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
