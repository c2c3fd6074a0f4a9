"""SQLite: one migrator at a time by a lock file beside the database file.

SQLite's own locks would lock gate itself out, since it inspects and migrates on separate connections (hazards.md 7).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Connection

from gate.database.generic import GenericEngine, engine_url
from gate.database.lock import UNKNOWN_MIGRATOR, Lock, LockKey, Migrator
from gate.database.sessions import Sessions
from gate.database.stamp import MAX_OTHER_TABLES, TableName
from gate.errors import BadSettings, DatabaseUnavailable, LockBusy, ResourceShortage
from gate.files import DanglingLink, NotRegularFile, open_or_create_regular_file, open_regular_file

LOCK_FILE_SUFFIX = ".gate-lock"
IN_MEMORY = ":memory:"
TRUE_WORDS = frozenset({"1", "true", "yes", "on", "t", "y"})
"""Spellings that SQLAlchemy accepts for true."""


class SqliteEngine(GenericEngine):
    """A database in a file. Its driver starts no transaction before DDL, so DDL counts as not transactional."""

    has_substr = True

    def is_absent(self, url: URL) -> bool:
        """Whether there is no such file; raises `DatabaseUnavailable` if its folder is missing, too.

        Raises `BadSettings` for a named pipe, a device or a folder: SQLite would wait for a pipe.

        SQLite would create an empty database for a misspelt path, in a folder that need not be the mounted one.
        """
        path = file_of(url)
        if path is None:
            return False
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise DatabaseUnavailable(
                f"The folder {folder} of the SQLite database does not exist; mount it or create it."
            )
        if not os.path.exists(path):
            return True
        if not os.path.isfile(path):
            raise BadSettings(f"The SQLite database {path} is not a regular file; correct the path or the mount.")
        return False

    @classmethod
    def read_migrator(cls, connection: Connection, key: LockKey) -> Migrator | None:  # noqa: ARG003 - one lock a file
        """An unnamed holder if the lock file is locked."""
        path = file_of(connection.engine.url)
        return UNKNOWN_MIGRATOR if path and is_held(path) else None

    @classmethod
    def named_with_version_num(cls, connection: Connection, table: TableName) -> list[tuple[str | None, str]]:  # noqa: ARG003 - one schema
        """Ask the schema table, in which temporary tables are not."""
        statement = (
            "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON lower(c.name) = 'version_num'"
            f" WHERE m.type IN ('table', 'view') LIMIT {2 * MAX_OTHER_TABLES}"
        )
        return [(None, str(name)) for name in connection.exec_driver_sql(statement).scalars()]

    @contextmanager
    def acquire(self, key: LockKey) -> Iterator[Lock]:
        """Lock the lock file; raises `LockBusy`, and `BadSettings` where it cannot be created or locked."""
        path = self._path()
        descriptor = _open(f"{path}{LOCK_FILE_SUFFIX}")
        try:
            _flock(descriptor)
            quoted = path.replace("'", "''")
            fence = f"SELECT file, file = '{quoted}' FROM pragma_database_list WHERE name = 'main'"
            yield Lock(key, self._database, Sessions(), fence=fence, transactional=False, descriptors=(descriptor,))
        finally:
            os.close(descriptor)

    def _path(self) -> str:
        path = file_of(engine_url(self._database))
        if path is None:
            raise BadSettings(
                "An SQLite database in memory belongs to one process, so gate can migrate only a database in a file."
            )
        return os.path.realpath(path)


def file_of(url: URL) -> str | None:
    """The path of the database, None if it is in memory; raises `BadSettings` for a `file:` URI without uri=true."""
    path = url.database or IN_MEMORY
    if path.startswith("file:"):
        if str(url.query.get("uri", "")).lower() not in TRUE_WORDS:
            raise BadSettings(
                "SQLite reads file:... as a URI only with the parameter uri=true. Write "
                "sqlite:///file:/path/shop.db?uri=true, or a path without file: (sqlite:////path/shop.db)."
            )
        path = IN_MEMORY if url.query.get("mode") == "memory" else unquote(urlsplit(path).path)
    return None if path in {"", IN_MEMORY} else path


def is_held(path: str) -> bool:
    """Whether the database in this file is being migrated. The check itself locks a migrator out for a moment."""
    try:
        descriptor = open_regular_file(f"{os.path.realpath(path)}{LOCK_FILE_SUFFIX}")
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _open(path: str) -> int:
    """Open for reading, which is enough for a lock: the file may belong to another user."""
    try:
        return open_or_create_regular_file(path, os.O_RDONLY)
    except (NotRegularFile, IsADirectoryError, DanglingLink) as error:
        raise BadSettings(
            f"The lock file {path} beside the SQLite database cannot be used: {error.strerror}. Delete it; gate "
            "creates the file."
        ) from None
    except OSError as error:
        raise ResourceShortage.of(error) or BadSettings(
            f"The lock file {path} beside the SQLite database cannot be opened ({error.strerror}); make its folder "
            "writable and the file readable for this user."
        ) from None


def _flock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockBusy from None
    except OSError as error:
        raise BadSettings(
            f"The file system of the SQLite database supports no locks ({error.strerror}); set GATE_LOCK=none and "
            "migrate with one single Job."
        ) from None
