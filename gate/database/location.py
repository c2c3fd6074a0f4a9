"""Where the database is, and what a driver's error about it means."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from gate import redaction
from gate.errors import BadSettings, DatabaseUnavailable, ResourceShortage
from gate.files import read_regular_file
from gate.settings import database_url
from gate.settings.database_url import DatabaseUrl, UrlSource

TEMPLATE_URL = "driver://user:pass@localhost/dbname"
"""The URL that `alembic init` writes into a new alembic.ini."""

PLAIN_MESSAGES = (
    (  # first, since with several hosts the text also says why the others do not answer
        r"session is read-only|server is in hot standby mode",
        "No server that answers accepts writes (target_session_attrs): it is a standby, or its sessions are read-only",
    ),
    (
        r"server is not in hot standby mode|session is not read-only|match the target attribute requirement",
        "No server that answers is of the kind that target_session_attrs demands",
    ),
    (r"starting up|not yet accepting connections|recovery mode", "The database server is starting up"),
    (r"shutting down", "The database server is shutting down"),
    (
        r"password authentication failed|no password supplied|SASL|SCRAM",
        "The database server refuses the password; correct it in the URL or in PGPASSWORD",
    ),
    (r"role .* does not exist|not permitted to log in", "The database server does not allow this role to log in"),
    (
        r"database .* does not exist|no such database",
        "The database does not exist on this server; create it, or correct the URL",
    ),
    (r"permission denied for database", "This role may not connect to the database; GRANT CONNECT"),
    (
        r"too many connections for (role|database)",
        "The role or the database has no connection left (its CONNECTION LIMIT); gate needs three to migrate",
    ),
    (
        r"too many (connections|clients)|remaining connection slots",
        "The database server has no connection left",
    ),
    (
        r"Too many open files",
        "gate has no file descriptor left for a connection; raise the limit on open files (ulimit -n)",
    ),
    (r"pg_hba\.conf", "The pg_hba.conf of the database server does not allow this client to connect"),
    (
        r"resolve host|translate host name|Name or service not known",
        "The host name of the database cannot be resolved; correct the URL or the name service",
    ),
    (r"server_login_retry|server conn crashed", "The pooler has no connection to the database server"),
    (r"refused", "Nothing listens at the address of the database (connection refused)"),
    (r"No such file or directory", "There is no database server at this socket"),
    (r"timeout|timed out|statement timeout", "The database did not answer in time"),
    (r"SSL|TLS|certificate", "A secure connection to the database could not be established"),
    (r"unreachable|No route", "The address of the database cannot be reached"),
)
"""A text of libpq or the server -> what it means: a failed connect has no SQLSTATE in psycopg (hazards.md 10)."""

LIBPQ_HINT = r"\s*Is the server running[^?]*\?"
"""A hint of libpq, which the plain message answers."""

MAX_DRIVER_TEXT = 500
"""Characters of a driver's error that gate shows."""

MAX_URL_FILE_SIZE = 1 << 14
"""Bytes of a file that contains a URL."""


class Database(NamedTuple):
    """A database that gate connects to.

    `source`: the variable or the file of the URL, None for a fixed one (`fallback`); `connect_timeout` (for each host)
    and `query_timeout`: in seconds.
    """

    source: UrlSource | None
    fallback: DatabaseUrl | None
    connect_timeout: float
    query_timeout: float

    def url(self) -> DatabaseUrl:
        """Read the URL: a file is read again for each connection, since credentials rotate.

        Raises `BadSettings` if the file is unreadable or contains no URL.
        """
        if self.source is None:
            assert self.fallback
            return self.fallback
        return read_url(self.source)

    @property
    def answer_timeout(self) -> float:
        """Seconds after which an open connection that does not answer counts as lost."""
        return self.connect_timeout + self.query_timeout

    def host_count(self) -> int:
        """Return the number of hosts in the URL: libpq tries them in turn, each for the whole connect_timeout."""
        hosts: list[str] = []
        with suppress(BadSettings):
            hosts = [self.url().conninfo.get(key, "") for key in ("host", "hostaddr")]
        hosts = hosts if any(hosts) else [os.environ.get(name, "") for name in ("PGHOST", "PGHOSTADDR")]
        return max(each.count(",") for each in hosts) + 1


def locate(
    source: UrlSource | None,
    environment: Mapping[str, str],
    alembic_url: str | None,
    timeouts: tuple[float, float],
) -> Database:
    """Find the database: the setting, else libpq's own variables, else the Alembic configuration.

    `timeouts`: of connecting and of a query, in seconds. Raises `BadSettings` if nothing names a database.
    """
    if source is not None:
        read_url(source)
        return Database(source, None, *timeouts)
    if named_by_libpq(environment):
        return Database(None, database_url.from_environment(dict(environment)), *timeouts)
    if alembic_url and alembic_url != TEMPLATE_URL:
        return Database(None, database_url.parse(alembic_url, "sqlalchemy.url of the Alembic configuration"), *timeouts)
    raise BadSettings(
        "No database is configured: set DATABASE_URL (or DATABASE_URL_FILE) to postgresql://USER@HOST:5432/DATABASE, "
        "or PGHOST, PGDATABASE and so on. gate does not run env.py to find the URL."
    )


def named_by_libpq(environment: Mapping[str, str]) -> bool:
    """Whether libpq's own variables name a server."""
    return bool(environment.get("PGHOST") or environment.get("PGSERVICE"))


def explain(error: Exception, url: DatabaseUrl, remedy: str = "") -> DatabaseUnavailable:
    """Convert a driver's error: a plain sentence and the remedy, then the text of the driver, without passwords."""
    text = re.sub(LIBPQ_HINT, "", str(error)[: redaction.MAX_FOREIGN_TEXT])
    message = next((plain for pattern, plain in PLAIN_MESSAGES if re.search(pattern, text, re.IGNORECASE)), None)
    text = redaction.shorten(text, MAX_DRIVER_TEXT, url.secrets)
    sentences = filter(None, (f"{message or 'The database cannot be inspected'} ({url.display}).", remedy))
    return DatabaseUnavailable(" ".join(sentences), text)


def read_url(source: UrlSource) -> DatabaseUrl:
    """Read the URL from the variable or from its file, and register its password for redaction.

    Raises `BadSettings` if the file cannot be read or contains no URL.
    """
    return database_url.parse(source.text or _read_url_file(source), source.variable)


def _read_url_file(source: UrlSource) -> str:
    try:
        text = read_regular_file(source.path, MAX_URL_FILE_SIZE).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ResourceShortage.of(error) or BadSettings(
            f"{source.variable} names {source.path}, which cannot be read: {reason}."
        ) from None
    if not text:
        raise BadSettings(f"{source.variable} names {source.path}, which is empty; write the URL into it.")
    return text
