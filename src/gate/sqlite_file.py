"""SQLite: one migrator at a time by a lock file beside the database file.

SQLite's own locks would lock gate itself out: it looks and migrates on connections of their own (HAZARDS 7).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gate import dialects
from gate.database import Database
from gate.errors import BadSettings, LockBusy
from gate.lock import Lock
from gate.migrator import LockKey

ENDING = ".gate-lock"


@contextmanager
def hold(database: Database, key: LockKey) -> Iterator[Lock]:
    """Take the lock by one try; raises `LockBusy`, and `BadSettings` where no lock file can be made."""
    path = _path(database)
    descriptor = _open(f"{path}{ENDING}")
    try:
        _flock(descriptor)
        named = path.replace("'", "''")
        fence = f"SELECT file, file = '{named}' FROM pragma_database_list WHERE name = 'main'"
        yield Lock(key, database, fence=fence, transactional=False, descriptors=(descriptor,))
    finally:
        os.close(descriptor)


def is_held(path: str) -> bool:
    """Whether somebody migrates the database in this file; asking keeps a migrator out for a moment at most."""
    try:
        descriptor = os.open(f"{os.path.realpath(path)}{ENDING}", os.O_RDONLY)
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


def _path(database: Database) -> str:
    path = dialects.sqlite_file(dialects.engine_url(database))
    if path is None:
        raise BadSettings("An SQLite database in memory belongs to one process; gate can only migrate one in a file.")
    return os.path.realpath(path)


def _open(path: str) -> int:
    """For reading, which is enough to lock it: another user may have made it."""
    try:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY)
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadSettings(
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
            f"The file system of the SQLite database gives no locks ({error.strerror}); set GATE_LOCK=none and migrate "
            "with one single Job."
        ) from None
