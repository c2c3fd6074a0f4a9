"""Who migrates: the key of the migration lock, and the line in which its holder tells its progress.

The holder writes that line into its `application_name`, which every role may read, so it costs neither
a table nor a privilege (HAZARDS 5). PostgreSQL keeps 63 bytes of it.
"""

from __future__ import annotations

import json
import time
import zlib
from typing import NamedTuple

from gate.errors import DatabaseUnavailable

LOCK_CLASS = int.from_bytes(b"gate", "big")
"""The first key of the advisory lock: `gate` in ASCII, so that `pg_locks.classid` = 1734440037 tells whose."""

NAME_BYTES = 63

MYSQL_MARKS = 16
"""How many connections of one migration can be marked in a MySQL; nobody has seen one that opens more at a time."""


class LockKey(NamedTuple):
    """The advisory lock of one version table, as the two 32-bit keys of `pg_try_advisory_xact_lock`."""

    number: int

    @classmethod
    def of(cls, schema: str | None, table: str) -> LockKey:
        """Take the names as configured, never the role's search_path: two roles must get one key."""
        return cls(zlib.crc32(f"{schema or ''}.{table}".encode()))

    @property
    def signed(self) -> int:
        """The second key as PostgreSQL's signed int4."""
        return self.number - (1 << 32) if self.number >= 1 << 31 else self.number

    @property
    def tag(self) -> str:
        """What stands first in the application_name of everything that works under this lock."""
        return f"gate/{self.number:08x}"

    @property
    def working_name(self) -> str:
        """What the application_name of a migration's own connection begins with; it is never the lock holder's."""
        return f"{self.tag} works"


class Migrator(NamedTuple):
    """The lock's holder as anybody can see it.

    `step` of `total` revisions (0 = none has begun), `since` in seconds of the Unix epoch, `pid` of its
    backend in the server, 0 where nobody could know it.
    """

    host: str
    step: int
    total: int
    revision: str
    since: int
    pid: int = 0

    def application_name(self, key: LockKey) -> str:
        """Render as one line of at most 63 bytes: the tag first, the host as far as it fits."""
        line = f"{key.tag} {self.step}/{self.total} {_short(self.revision)} @{self.since} {self.host}"
        return line.encode("ascii", "replace")[:NAME_BYTES].decode()

    @classmethod
    def parse(cls, line: str, key: LockKey, pid: int) -> Migrator:
        """Read what `application_name` wrote; a holder that says nothing readable is still a holder."""
        words = line[:NAME_BYTES].split(" ", 4)
        try:
            tag, progress, revision, since, host = words
            step, total = map(int, progress.split("/"))
            began = int(since.removeprefix("@"))
        except ValueError:
            return cls("", 0, 0, "", 0, pid)
        if tag != key.tag:
            return cls("", 0, 0, "", 0, pid)
        return cls(host, step, total, "" if revision == "-" else revision, began, pid)

    def __str__(self) -> str:
        """As a person reads it: `web-1 at revision ae10 (3/12) for 14 s, backend 4711`."""
        if not self.since:
            return "an unnamed holder of the lock" + (f", backend {self.pid}" if self.pid else "")
        at = f" at revision {self.revision} ({self.step}/{self.total})" if self.revision else ""
        age = max(0, round(time.time() - self.since))
        backend = f", backend {self.pid}" if self.pid else ""
        return f"{self.host or 'an unnamed host'}{at} for {age} s{backend}"


WAITED_IN_VAIN = {"57014": "statement timeout", "55P03": "lock timeout"}
"""SQLSTATE of what ends a statement that waits for a lock."""


class VersionTableLocked(DatabaseUnavailable):
    """A migrator is at work, and the version table cannot be read: an ALTER TABLE of it locks it for that long."""

    def __init__(self, message: str, migrator: Migrator, why: str) -> None:
        super().__init__(message)
        self.migrator, self.why = migrator, why


def waited_in_vain(error: Exception) -> str:
    """Which limit ended a statement that waited, "" if it ended otherwise; whatever driver and library it came by."""
    driver = getattr(error, "orig", None) or error
    return WAITED_IN_VAIN.get(getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None) or "", "")


UNNAMED = Migrator("", 0, 0, "", 0)
"""Somebody whose name nothing tells."""


def _short(revision: str) -> str:
    return revision[:20].replace(" ", "_") or "-"


class Job(NamedTuple):
    """What a migrating gate asks of its upgrading child.

    `fence`, `mark`: as `Lock` has them; `table`: the version table's name.
    """

    ini: str
    toml: str
    section: str
    x: list[str]
    fence: str
    mark: str
    table: str

    def to_json(self) -> str:
        """As the child's argument; it holds no URL, since every user of a machine can read it."""
        return json.dumps(self._asdict())
