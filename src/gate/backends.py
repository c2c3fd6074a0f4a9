"""The backends in which a migration works, as its server sees them: what they run, cancelling it, ending them.

Each way to speak to a server has its own; where nothing is known of an engine, nothing is seen and nothing done.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from gate.asking import Ask
from gate.errors import DatabaseUnavailable
from gate.migrator import LockKey
from gate.sql_text import literal

MOST_TEXT = 120
"""Characters of a statement that are shown."""

MOST_INDEXES = 100


@dataclass(frozen=True, slots=True)
class Activity:
    """What the busiest backend of a migration does.

    `age`: seconds since its statement began or, if none runs (`text` is ""), since the last one ended; `waits_for`: the
    backends for whose locks it waits, `named` as they call themselves, `waiting` as the server puts it.
    """

    age: float
    text: str = ""
    waits_for: tuple[int, ...] = ()
    named: str = ""
    waiting: str = ""


class Backends:
    """An engine in whose server gate sees nothing. What asks a server raises `DatabaseUnavailable`."""

    sees = False
    """Whether what a migration runs can be seen at all."""

    tells_apart = False
    """Whether a stranger is known even while this upgrade opens connections."""

    def how_to_end(self, pid: int) -> str:
        """The statement by which a person ends this backend."""
        return f"end connection {pid} in the server"

    def ours(self, opened: Collection[int]) -> list[int]:
        """Where this very upgrade works; `opened`: the connections of which it told."""
        del opened
        return []

    def strangers(self) -> list[int]:
        """Where another upgrade under the same lock still works; while that is held it can only be a killed one."""
        return []

    def activity(self, _: Collection[int]) -> Activity | None:
        """What the busiest of these backends does; None if none of them is there."""
        return None

    def cancel(self, _: Collection[int]) -> None:
        """Cancel what these backends run, if they still belong to a migration."""

    def end(self, _: Collection[int]) -> None:
        """End these backends, if they still belong to a migration."""

    def invalid_indexes(self) -> list[str]:
        """Indexes that a killed `CREATE INDEX CONCURRENTLY` left: they cost writes and serve no query."""
        return []


@dataclass(slots=True)
class PostgresBackends(Backends):
    """PostgreSQL's, by the application_name that every connection of a migration is given (HAZARDS 5).

    `mark`: this upgrade's own name; those of others under the same lock begin as it does and end otherwise. `held`: the
    condition that this gate still holds the lock, without which whoever works under it is none of its business.
    """

    ask: Ask
    key: LockKey
    mark: str
    held: str = "false"
    sees = True
    tells_apart = True

    @property
    def _own(self) -> str:
        return f"datname = current_database() AND application_name = {literal(self.mark)}"

    @property
    def _strange(self) -> str:
        works = f"application_name LIKE {literal(self.key.working_name + '%')}"
        return f"datname = current_database() AND {works} AND application_name <> {literal(self.mark)} AND {self.held}"

    def how_to_end(self, pid: int) -> str:
        """By SQL."""
        return f"SELECT pg_terminate_backend({pid})"

    def ours(self, opened: Collection[int]) -> list[int]:
        """By the application_name, which tells more than `opened`: a pooler changes backends."""
        del opened
        return self._pids(self._own)

    def strangers(self) -> list[int]:
        """By an application_name that is a migration's and not this one's."""
        return self._pids(self._strange)

    def _pids(self, which: str) -> list[int]:
        rows = self.ask(
            f"SELECT pid FROM pg_catalog.pg_stat_activity WHERE {which}"
            " AND backend_type IS DISTINCT FROM 'parallel worker'"
        )
        return [int(pid) for (pid,) in rows]

    def activity(self, pids: Collection[int]) -> Activity | None:
        """As pg_stat_activity has it."""
        rows = self.ask(
            "SELECT CASE state WHEN 'active' THEN query END, extract(epoch FROM clock_timestamp()"
            " - CASE state WHEN 'active' THEN query_start ELSE state_change END)::float8, pg_blocking_pids(pid),"
            " (SELECT max(b.application_name) FROM pg_catalog.pg_stat_activity b"
            " WHERE b.pid = ANY (pg_blocking_pids(a.pid)))"
            f" FROM pg_catalog.pg_stat_activity a WHERE pid IN ({_listed(pids)}) AND state IS NOT NULL"
        )
        return busiest(
            [Activity(float(age), shortened(text), tuple(waits), name or "") for text, age, waits, name in rows]
        )

    def cancel(self, pids: Collection[int]) -> None:
        """By pg_cancel_backend."""
        self._signal("pg_cancel_backend", pids)

    def end(self, pids: Collection[int]) -> None:
        """By pg_terminate_backend."""
        self._signal("pg_terminate_backend", pids)

    def _signal(self, function: str, pids: Collection[int]) -> None:
        """Only what still carries a name: a pooler may have given that backend to somebody else by now."""
        for pid in pids:  # one by one: where one may not be ended, the others still are
            with suppress(DatabaseUnavailable):
                statement = f"SELECT {function}(pid) FROM pg_catalog.pg_stat_activity WHERE pid = {pid:d}"
                self.ask(f"{statement} AND ({self._own} OR {self._strange})")

    def invalid_indexes(self) -> list[str]:
        """By pg_index."""
        rows = self.ask(
            "SELECT indexrelid::regclass::text FROM pg_catalog.pg_index WHERE NOT indisvalid ORDER BY 1"
            f" LIMIT {MOST_INDEXES}"
        )
        return [str(name) for (name,) in rows]


def busiest(found: list[Activity]) -> Activity | None:
    """The statement that has run longest; if none runs, the shortest rest."""
    running = [each for each in found if each.text]
    return max(running, key=lambda each: each.age) if running else min(found, key=lambda each: each.age, default=None)


def shortened(text: object) -> str:
    """A statement's beginning in one line; "" for None."""
    return " ".join(str(text or "").split())[:MOST_TEXT]


def _listed(pids: Collection[int]) -> str:
    return ", ".join(f"{pid:d}" for pid in pids) or "NULL"
