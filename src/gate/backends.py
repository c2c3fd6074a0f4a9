"""The backends in which a migration works, as its server sees them: what they run, cancelling it, ending them.

Each way to speak to a server has its own; where nothing is known of an engine, nothing is seen and nothing done.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from gate.database import Database
from gate.migrator import LockKey
from gate.stamp import literal

MOST_TEXT = 120
"""Characters of a statement that are shown."""


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
    """An engine in whose server gate sees nothing."""

    sees = False
    """Whether what a migration runs can be seen at all."""

    def how_to_end(self, pid: int) -> str:
        """The statement by which a person ends this backend."""
        return f"end connection {pid} in the server"

    def marked(self) -> list[int]:
        """The backends that carry the mark of a migration under this lock, a living one's or a killed one's."""
        return []

    def activity(self, _: Collection[int]) -> Activity | None:
        """What the busiest of these backends does; None if none of them is there."""
        return None

    def idle(self, pids: Collection[int]) -> bool:
        """Whether none of these backends runs a statement, so that there is nothing to cancel."""
        found = self.activity(pids)
        return found is None or not found.text

    def cancel(self, _: Collection[int]) -> None:
        """Cancel what these backends run, if they still belong to a migration."""

    def end(self, _: Collection[int]) -> None:
        """End these backends, if they still belong to a migration."""

    def invalid_indexes(self) -> list[str]:
        """Indexes that a killed `CREATE INDEX CONCURRENTLY` left: they cost writes and serve no query."""
        return []


@dataclass(slots=True)
class PostgresBackends(Backends):
    """PostgreSQL's, by the application_name that every connection of a migration is given (HAZARDS 5)."""

    database: Database
    key: LockKey
    sees = True

    @property
    def _mark(self) -> str:
        """Only while it carries the tag: a pooler may have given that backend to somebody else by now."""
        tag = literal(self.key.working_name + "%")
        return f"datname = current_database() AND application_name LIKE {tag}"

    def how_to_end(self, pid: int) -> str:
        """By SQL."""
        return f"SELECT pg_terminate_backend({pid})"

    def marked(self) -> list[int]:
        """By the application_name."""
        with self.database.connect() as connection:
            rows = connection.execute(
                f"SELECT pid FROM pg_catalog.pg_stat_activity WHERE {self._mark}"
                " AND backend_type IS DISTINCT FROM 'parallel worker'"
            ).fetchall()
        return [pid for (pid,) in rows if isinstance(pid, int)]

    def activity(self, pids: Collection[int]) -> Activity | None:
        """As pg_stat_activity has it."""
        with suppress(Exception), self.database.connect() as connection:
            rows = connection.execute(
                "SELECT CASE state WHEN 'active' THEN query END, extract(epoch FROM clock_timestamp()"
                " - CASE state WHEN 'active' THEN query_start ELSE state_change END)::float8, pg_blocking_pids(pid),"
                " (SELECT max(b.application_name) FROM pg_catalog.pg_stat_activity b"
                " WHERE b.pid = ANY (pg_blocking_pids(a.pid)))"
                f" FROM pg_catalog.pg_stat_activity a WHERE pid IN ({_listed(pids)}) AND {self._mark}"
            ).fetchall()
            return busiest(
                [Activity(float(str(age)), shortened(text), _pids(w), str(n or "")) for text, age, w, n in rows]
            )
        return None

    def cancel(self, pids: Collection[int]) -> None:
        """By pg_cancel_backend."""
        self._signal("pg_cancel_backend", pids)

    def end(self, pids: Collection[int]) -> None:
        """By pg_terminate_backend."""
        self._signal("pg_terminate_backend", pids)

    def _signal(self, function: str, pids: Collection[int]) -> None:
        for pid in pids:  # one by one: where one may not be ended, the others still are
            with suppress(Exception), self.database.connect() as connection:
                statement = f"SELECT {function}(pid) FROM pg_catalog.pg_stat_activity WHERE pid = {pid:d}"
                connection.execute(f"{statement} AND {self._mark}")

    def invalid_indexes(self) -> list[str]:
        """By pg_index."""
        with self.database.connect() as connection:
            rows = connection.execute(
                "SELECT indexrelid::regclass::text FROM pg_catalog.pg_index WHERE NOT indisvalid ORDER BY 1"
            ).fetchall()
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


def _pids(found: object) -> tuple[int, ...]:
    return tuple(found) if isinstance(found, list) else ()
