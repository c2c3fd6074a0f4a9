"""The migration lock: its key, its holder as other gates see it, and the acquired lock.

The holder publishes its progress in its `application_name`, which every role may read, so it needs neither a table nor
a privilege (hazards.md 5). PostgreSQL keeps 63 bytes of it.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gate.database.location import Database
    from gate.database.sessions import Sessions

LOCK_CLASS = int.from_bytes(b"gate", "big")
"""The first key of the advisory lock: `gate` in ASCII, so `pg_locks.classid` = 1734440037 identifies gate's locks."""

APPLICATION_NAME_BYTES = 63

SERVER_TIMEOUT = 5.0
"""Seconds for finding out which server a new connection reaches."""

OTHER_SERVER = (
    "The URL of the database leads to another server now than the one where gate holds the migration lock, as after a "
    "failover, or while two servers accept writes"
)

MYSQL_TAGS = 16
"""The number of connections of one migration that can be tagged in MySQL."""


class LockKey(NamedTuple):
    """The advisory lock of one version table, as the two 32-bit keys of `pg_try_advisory_xact_lock`."""

    number: int

    @classmethod
    def of(cls, schema: str | None, table: str) -> LockKey:
        """Derive the key from the names as configured, not from the role's search_path: two roles must get one key."""
        return cls(zlib.crc32(f"{schema or ''}.{table}".encode()))

    @property
    def signed(self) -> int:
        """The second key as PostgreSQL's signed int4."""
        return self.number - (1 << 32) if self.number >= 1 << 31 else self.number

    @property
    def tag(self) -> str:
        """The first word of the application_name of every session under this lock."""
        return f"gate/{self.number:08x}"

    @property
    def working_name(self) -> str:
        """The beginning of the application_name of a migration's own connections; the lock holder's differs."""
        return f"{self.tag} works"


class Migrator(NamedTuple):
    """The holder of the lock, as every role can see it.

    `step`: the current one of `total` revisions, 0 before the first; `revision`: its id; `since`: when the migration
    began, in seconds of the Unix epoch; `pid`: of its backend in the server, 0 if unknown.
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
        return line.encode("ascii", "replace")[:APPLICATION_NAME_BYTES].decode()

    @classmethod
    def parse(cls, line: str, key: LockKey, pid: int) -> Migrator:
        """Parse what `application_name` rendered; a line that cannot be parsed gives an unnamed holder."""
        words = line[:APPLICATION_NAME_BYTES].split(" ", 4)
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
        """Render as it is now: `web-1 at revision ae10 (3/12) for 14 s, backend 4711`."""
        return self.at(time.time())

    def at(self, moment: float) -> str:
        """Render as it was at a moment, in seconds of the Unix epoch: when it was last seen, for example."""
        if not self.since:
            return "an unnamed holder of the lock" + (f", backend {self.pid}" if self.pid else "")
        at = f" at revision {self.revision} ({self.step}/{self.total})" if self.revision else ""
        age = max(0, round(moment - self.since))
        backend = f", backend {self.pid}" if self.pid else ""
        return f"{self.host or 'an unnamed host'}{at} for {age} s{backend}"


UNKNOWN_MIGRATOR = Migrator("", 0, 0, "", 0)
"""A holder of the lock about which the engine shows nothing."""


def _short(revision: str) -> str:
    return revision[:20].replace(" ", "_") or "-"


@dataclass(slots=True)
class Lock:
    """An acquired lock, or none (GATE_LOCK=none).

    `sessions`: the migration's sessions in the server; `fence`: a statement for the migration's own connection that
    returns its database and whether the lock is held there ("" = there is no lock); `tag`: the name that each of the
    migration's connections is given; `transactional`: whether a failed revision is rolled back with its DDL;
    `description`: what gate does, as the log says it; `environment`: variables that tag the connections of other
    programs, too; `descriptors`: file descriptors that must stay open while the migration runs.
    """

    key: LockKey
    database: Database
    sessions: Sessions
    fence: str = ""
    tag: str = ""
    transactional: bool = True
    description: str = "holds the migration lock"
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()

    def publish_progress(self, migrator: Migrator) -> None:
        """Show the progress to other gates; raises `LockLost`."""

    def verify(self) -> None:
        """Verify that the lock is still held; raises `LockLost`."""

    def verify_server(self, timeout: float = SERVER_TIMEOUT) -> None:
        """Verify that a new connection reaches the server where the lock was acquired; raises `LockLost`.

        A server that does not answer within `timeout` seconds leaves that unknown.
        """
