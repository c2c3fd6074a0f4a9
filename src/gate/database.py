"""Connecting to PostgreSQL with psycopg, and saying in plain words why that failed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from gate import redaction, urls
from gate.errors import BadSettings, DatabaseUnavailable
from gate.urls import DatabaseUrl, UrlSource

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]

TEMPLATE_URL = "driver://user:pass@localhost/dbname"
"""What `alembic init` writes into a new alembic.ini."""

PLAIN = (
    (r"starting up|not yet accepting connections|recovery mode", "The database server is starting up"),
    (r"shutting down", "The database server is shutting down"),
    (
        r"password authentication failed|no password supplied|SASL|SCRAM",
        "The database server refuses the password; correct it where the URL comes from",
    ),
    (r"role .* does not exist|not permitted to log in", "The database server does not let this role in"),
    (
        r"database .* does not exist|no such database",
        "The database does not exist on this server; create it, or correct the URL",
    ),
    (r"permission denied for database", "This role may not connect to the database; GRANT CONNECT"),
    (
        r"too many (connections|clients)|remaining connection slots",
        "The database server has no connection left",
    ),
    (r"pg_hba\.conf", "The database server's pg_hba.conf does not let this client in"),
    (
        r"resolve host|translate host name|Name or service not known",
        "The database's host name cannot be resolved; correct the URL, or the network's names",
    ),
    (r"refused", "Nothing listens at the database's address (connection refused)"),
    (r"No such file or directory", "There is no database server at this socket"),
    (r"timeout|timed out|statement timeout", "The database did not answer in time"),
    (r"SSL|TLS|certificate", "No secure connection to the database could be made"),
    (r"unreachable|No route", "The database's address cannot be reached"),
)
"""Text of libpq or the server -> what it means. psycopg has no SQLSTATE for a failed connect (HAZARDS 10)."""


DRIVER_SAYS = " The driver says:"
"""Between gate's own sentence and the driver's words, which may differ each time although nothing has changed."""

HINT = r"\s*Is the server running[^?]*\?"
"""libpq's question to a developer; the plain sentence has answered it."""


class Database(NamedTuple):
    """Where the schema is. A URL that stands in a file is read again at each connect: credentials rotate."""

    source: UrlSource | None
    fallback: DatabaseUrl | None
    connect_timeout: float
    query_timeout: float

    def url(self) -> DatabaseUrl:
        """The URL as it stands now; raises `BadSettings` if its file is unreadable or holds no URL."""
        if self.source is None:
            assert self.fallback
            return self.fallback
        text = self.source.text or _content(self.source)
        return urls.parse(text, self.source.variable)

    def hosts(self) -> int:
        """How many the URL names: libpq tries one after the other, each for as long as connecting may take."""
        named: list[str] = []
        with suppress(BadSettings):
            named = [self.url().conninfo.get(key, "") for key in ("host", "hostaddr")]
        named = named if any(named) else [os.environ.get(name, "") for name in ("PGHOST", "PGHOSTADDR")]
        return max(each.count(",") for each in named) + 1

    def load_driver(self) -> None:
        """Import psycopg for a PostgreSQL, once and before a look's limit begins.

        In a look's own thread it would cost 3 MB more: in the C library each thread has a heap of its own. Raises
        `BadSettings` if it cannot be loaded.
        """
        if not self.url().is_postgresql:
            return
        try:
            import psycopg  # noqa: F401, PLC0415 - whoever only reads scripts does not pay for it
        except ImportError as error:
            why = " ".join(str(error).split())
            raise BadSettings(f"psycopg cannot be loaded ({why}): install psycopg[binary], or libpq.") from None

    def connect(self, application_name: str = "gate") -> Connection:
        """Open a connection that holds no snapshot and never prepares: autocommit, simple protocol (HAZARDS 3).

        Raises `DatabaseUnavailable` with one plain sentence.
        """
        import psycopg  # noqa: PLC0415 - likewise

        url = self.url()
        if not url.is_postgresql:  # libpq would go to the place that PG* names
            raise DatabaseUnavailable(f"{url.display} does not speak PostgreSQL.")
        limits = {
            "application_name": application_name,
            "client_encoding": "utf8",
            "connect_timeout": str(math.ceil(self.connect_timeout)),
            "tcp_user_timeout": str(round(1000 * (self.connect_timeout + self.query_timeout))),
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "3",
        }
        try:
            return psycopg.connect(autocommit=True, prepare_threshold=None, **{**url.conninfo, **limits})  # type: ignore[arg-type]
        except (psycopg.Error, OSError) as error:  # OSError: no descriptor is left, say
            raise explain(error, url) from None


def locate(
    source: UrlSource | None,
    environment: Mapping[str, str],
    alembic_url: str | None,
    timeouts: tuple[float, float],
) -> Database:
    """Find the database: the setting, else libpq's own variables, else the Alembic configuration.

    Raises `BadSettings` if nothing names one.
    """
    if source is not None:
        database = Database(source, None, *timeouts)
        database.url()
        return database
    if named_by_libpq(environment):
        return Database(None, urls.from_environment(dict(environment)), *timeouts)
    if alembic_url and alembic_url != TEMPLATE_URL:
        return Database(None, urls.parse(alembic_url, "sqlalchemy.url of the Alembic configuration"), *timeouts)
    raise BadSettings(
        "No database is named: set DATABASE_URL (or DATABASE_URL_FILE) to postgresql://USER@HOST:5432/DATABASE, or "
        "PGHOST, PGDATABASE and so on. gate does not run env.py to find out."
    )


def named_by_libpq(environment: Mapping[str, str]) -> bool:
    """Whether libpq's own variables name a database."""
    return bool(environment.get("PGHOST") or environment.get("PGSERVICE"))


def explain(error: Exception, url: DatabaseUrl) -> DatabaseUnavailable:
    """Wrap a driver's error, once, at the edge: a plain sentence first, the driver's own words behind it."""
    text = " ".join(redaction.hide(re.sub(HINT, "", str(error)), url.secrets).split())[:500]
    plain = next((words for pattern, words in PLAIN if re.search(pattern, text, re.IGNORECASE)), None)
    return DatabaseUnavailable(
        f"{plain or 'The database cannot be looked at'} ({url.display}).{DRIVER_SAYS} {text.rstrip('.')}."
    )


def _content(source: UrlSource) -> str:
    try:
        with open(source.path, encoding="utf-8") as file:
            text = file.read(16384).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadSettings(f"{source.variable} names {source.path}, which cannot be read: {why}.") from None
    if not text:
        raise BadSettings(f"{source.variable} names {source.path}, which is empty; write the URL into it.")
    return text


def environment_for(database: Database, *, dedicated: bool) -> dict[str, str]:
    """The environment of a migration: the URL verbatim as DATABASE_URL, also when it came from a file.

    `dedicated`: it is MIGRATION_DATABASE_URL's, so nothing may lead the migration to the other one.
    """
    environment = dict(os.environ)
    if database.source is not None:
        environment["DATABASE_URL"] = database.url().verbatim
        for name in ("DATABASE_URL_FILE",) if dedicated else ():
            environment.pop(name, None)
    return environment
