"""The lock as its holder has it, whatever engine gave it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gate.backends import Backends
from gate.database import Database
from gate.migrator import LockKey, Migrator


@dataclass(slots=True)
class Lock:
    """The lock, held, or nothing (GATE_LOCK=none).

    `backends`: what its server shows of a migration; `fence`: a statement for the migration's own connection, which
    gives that connection's database, and whether the lock is held there ("" = there is no lock); `mark`: what
    the migration's connections are marked with; `transactional`: whether a failed revision leaves nothing behind;
    `environment`: what marks the connections of programs that are not gate's, too; `descriptors`: what must stay open
    while a migration works.
    """

    key: LockKey
    database: Database
    backends: Backends = field(default_factory=Backends)
    fence: str = ""
    mark: str = ""
    transactional: bool = True
    how: str = "holds the migration lock"
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()

    def tell(self, migrator: Migrator) -> None:
        """Show the progress to whoever waits; raises `LockLost` like `keep`."""

    def keep(self) -> None:
        """See that the lock is still held; raises `LockLost`."""
