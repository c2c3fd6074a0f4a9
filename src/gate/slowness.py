"""Saying so when a migration takes long: which statement runs, what it waits for, or that none runs at all."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from gate import log
from gate.backends import Activity, Backends
from gate.progress import Progress

LONG = 10.0
"""Seconds after which a single statement, or the want of one, is worth a line; the next after twice the time."""


@dataclass(slots=True)
class Slowness:
    """Asks the server what a migration does, and decides when that is worth a line.

    `hidden`: why its connections may not be seen although there are some, "" if that cannot be.
    """

    backends: Backends
    progress: Progress
    hidden: str = ""
    _told_of: tuple[str, str] = field(default=("", ""), init=False)
    _next: float = field(default=LONG, init=False)
    _quiet_since: float = field(default_factory=time.monotonic, init=False)

    def tell(self, ours: Collection[int]) -> None:
        """Say what takes long, if something does; `ours`: the backends in which the migration works."""
        found = self._found(ours)
        subject = (self.progress.revision, found.text)
        if subject != self._told_of:
            self._told_of, self._next = subject, LONG
        if not self.backends.sees or found.age < self._next:
            return
        self._next = 2 * found.age
        where = self.progress.at() or " before the first revision"
        log.emit(
            "warning",
            "gate.long_statement" if found.text else "gate.no_statement",
            f"{self._described(found, ours)} This is{where}.",
            seconds=round(found.age, 1),
            revision=self.progress.revision or None,
            blocked_by=list(found.waits_for) or None,
        )

    def _found(self, ours: Collection[int]) -> Activity:
        now = time.monotonic()
        found = self.backends.activity(ours)
        if found and found.text:
            self._quiet_since = now
            return found
        if found:
            self._quiet_since = max(self._quiet_since, now - found.age)
        return Activity(now - self._quiet_since)

    def _described(self, found: Activity, ours: Collection[int]) -> str:
        if found.text:
            return f"A statement runs for {found.age:.0f} s: {found.text}.{_waits(found, ours)}"
        if ours or self.progress.opened:
            return (
                f"No statement of the migration has run for {found.age:.0f} s: it computes, or waits for something "
                "outside the database."
            )
        return (
            f"No connection of the upgrade was seen for {found.age:.0f} s: what env.py imports or connects to takes "
            f"long{self.hidden}."
        )


def _waits(found: Activity, ours: Collection[int]) -> str:
    if found.waits_for:
        named = f" ({found.named})" if found.named else ""
        itself = set(found.waits_for) & set(ours)
        by = ", a connection of this very migration: it blocks itself and will not go on" if itself else named
        return f" It waits for backend {', '.join(map(str, found.waits_for))}{by}."
    return f" {found.waiting}." if found.waiting else ""
