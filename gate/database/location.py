"""Where the schema is, and plain words for a driver's error."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from gate import redaction
from gate.errors import BadSettings, DatabaseUnavailable
from gate.settings import database_url
from gate.settings.database_url import DatabaseUrl, UrlSource

TEMPLATE_URL = "driver://user:pass@localhost/dbname"
"""What `alembic init` writes into a new alembic.ini."""

PLAIN_MESSAGES = (
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
"""Text of libpq or the server -> what it means. psycopg has no SQLSTATE for a failed connect (hazards.md 10)."""


LIBPQ_HINT = r"\s*Is the server running[^?]*\?"
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
        return read_url(self.source)

    def hosts(self) -> int:
        """How many the URL names: libpq tries one after the other, each for as long as connecting may take."""
        named: list[str] = []
        with suppress(BadSettings):
            named = [self.url().conninfo.get(key, "") for key in ("host", "hostaddr")]
        named = named if any(named) else [os.environ.get(name, "") for name in ("PGHOST", "PGHOSTADDR")]
        return max(each.count(",") for each in named) + 1


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
        read_url(source)
        return Database(source, None, *timeouts)
    if named_by_libpq(environment):
        return Database(None, database_url.from_environment(dict(environment)), *timeouts)
    if alembic_url and alembic_url != TEMPLATE_URL:
        return Database(None, database_url.parse(alembic_url, "sqlalchemy.url of the Alembic configuration"), *timeouts)
    raise BadSettings(
        "No database is named: set DATABASE_URL (or DATABASE_URL_FILE) to postgresql://USER@HOST:5432/DATABASE, or "
        "PGHOST, PGDATABASE and so on. gate does not run env.py to find out."
    )


def named_by_libpq(environment: Mapping[str, str]) -> bool:
    """Whether libpq's own variables name a database."""
    return bool(environment.get("PGHOST") or environment.get("PGSERVICE"))


def explain(error: Exception, url: DatabaseUrl) -> DatabaseUnavailable:
    """Wrap a driver's error, once, at the edge: a plain sentence first, the driver's own words behind it."""
    text = " ".join(redaction.hide(re.sub(LIBPQ_HINT, "", str(error)), url.secrets).split())[:500]
    plain = next((words for pattern, words in PLAIN_MESSAGES if re.search(pattern, text, re.IGNORECASE)), None)
    return DatabaseUnavailable(f"{plain or 'The database cannot be inspected'} ({url.display}).", text)


def read_url(source: UrlSource) -> DatabaseUrl:
    """Read the URL from the variable or from its file, and register its password for redaction.

    Raises `BadSettings` if the file cannot be read or holds no URL.
    """
    return database_url.parse(source.text or _read_url_file(source), source.variable)


def _read_url_file(source: UrlSource) -> str:
    try:
        with open(source.path, encoding="utf-8") as file:
            text = file.read(16384).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadSettings(f"{source.variable} names {source.path}, which cannot be read: {why}.") from None
    if not text:
        raise BadSettings(f"{source.variable} names {source.path}, which is empty; write the URL into it.")
    return text
