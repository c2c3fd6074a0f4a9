"""PostgreSQL's sessions that belong to a migration, found by their application_name (hazards.md 5).

They are never queried in the transaction of the lock: even a short snapshot there makes `CREATE INDEX CONCURRENTLY`
wait until that transaction ends (hazards.md 3).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gate.database.location import Database, explain
from gate.database.lock import LockKey
from gate.database.postgresql.connection import close, connect, execute_within
from gate.database.postgresql.sql import literal
from gate.database.sessions import Activity, Blocker, Sessions, busiest, shorten_statement
from gate.errors import DatabaseUnavailable, ResourceShortage

if TYPE_CHECKING:
    from gate.database.postgresql.connection import Connection


MAX_INDEXES = 100

BLOCKERS = (
    "(SELECT coalesce(json_agg(json_build_array(p.pid, b.application_name, b.state,"
    " extract(epoch FROM clock_timestamp() - b.xact_start))), '[]')"
    " FROM (SELECT DISTINCT unnest(CASE a.wait_event_type WHEN 'Lock' THEN pg_blocking_pids(a.pid) END)) p (pid)"
    " LEFT JOIN pg_catalog.pg_stat_activity b USING (pid))"
)
"""The blockers of session `a`; pg_blocking_pids is not asked about one that waits for nothing, since it is costly."""

RELATION = (
    "coalesce((SELECT l.relation::regclass::text FROM pg_catalog.pg_locks l"
    " WHERE a.wait_event_type = 'Lock' AND l.pid = a.pid AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1), '')"
)
"""The table whose lock session `a` waits for."""

Query = Callable[[str], list[tuple[Any, ...]]]
"""Runs one statement and returns its rows; raises `DatabaseUnavailable`."""


@dataclass(slots=True)
class PostgresSessions(Sessions):
    """The sessions with this migration's tag, and those with another tag under the same lock.

    `query`: runs one statement; `tag`: this migration's application_name; `held`: the SQL condition that this gate
    still holds the lock, without which the other sessions must be left alone; `same_server`: the SQL condition that a
    connection has reached the server of the lock.
    """

    query: Query
    key: LockKey
    tag: str
    held: str = "false"
    same_server: str = "true"
    visible = True
    distinguishes_orphans = True

    @property
    def _own(self) -> str:
        return f"datname = current_database() AND application_name = {literal(self.tag)}"

    @property
    def _orphaned(self) -> str:
        works = f"application_name LIKE {literal(self.key.working_name + '%')}"
        return f"datname = current_database() AND {works} AND application_name <> {literal(self.tag)} AND {self.held}"

    def termination_statement(self, pid: int) -> str:
        """Call pg_terminate_backend."""
        return f"SELECT pg_terminate_backend({pid})"

    def own(self, opened: Collection[int]) -> list[int]:
        """Find them by the tag; `opened` is not used, since a pooler changes backends."""
        del opened
        return self._pids(self._own)

    def orphaned(self) -> list[int]:
        """Find them by a tag under the same lock that is not this migration's."""
        return self._pids(self._orphaned)

    def _pids(self, condition: str) -> list[int]:
        rows = self.query(
            f"SELECT pid FROM pg_catalog.pg_stat_activity WHERE {condition}"
            " AND backend_type IS DISTINCT FROM 'parallel worker'"
        )
        return [int(pid) for (pid,) in rows]

    def on_server_of_lock(self) -> bool:
        """Ask on the connection of the other queries."""
        return self.query(f"SELECT {self.same_server}") == [(True,)]

    def existing(self, pids: Collection[int]) -> list[int]:
        """Find them by their process ids, which every role may read."""
        return self._pids(f"pid IN ({_join_pids(pids)})")

    def activity(self, pids: Collection[int]) -> Activity | None:
        """Read pg_stat_activity, where `state` is NULL for another role's session."""
        rows = self.query(
            "SELECT CASE state WHEN 'active' THEN query END, extract(epoch FROM clock_timestamp()"
            f" - CASE state WHEN 'active' THEN query_start ELSE state_change END)::float8, {BLOCKERS}, {RELATION}"
            f" FROM pg_catalog.pg_stat_activity a WHERE pid IN ({_join_pids(pids)})"
            " AND state <> 'disabled'"
        )
        return busiest(
            [
                Activity(float(age), shorten_statement(text), tuple(_blocker(*each) for each in blockers), relation)
                for text, age, blockers, relation in rows
            ]
        )

    def cancel(self, pids: Collection[int]) -> None:
        """Call pg_cancel_backend."""
        self._signal("pg_cancel_backend", pids)

    def terminate(self, pids: Collection[int]) -> None:
        """Call pg_terminate_backend."""
        self._signal("pg_terminate_backend", pids)

    def _signal(self, function: str, pids: Collection[int]) -> None:
        """Signal only sessions that still have a tag: a pooler may have given the backend to another client."""
        for pid in pids:  # one by one, so that a refusal for one does not spare the others
            with suppress(DatabaseUnavailable):
                statement = f"SELECT {function}(pid) FROM pg_catalog.pg_stat_activity WHERE pid = {pid:d}"
                self.query(f"{statement} AND ({self._own} OR {self._orphaned})")

    def invalid_indexes(self, schema: str = "") -> list[str]:
        """Read pg_index."""
        there = "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        there += f" WHERE c.oid = indexrelid AND n.nspname = {literal(schema)}"
        return self._indexes(f"EXISTS ({there})" if schema else "true")

    def invalid_indexes_not_being_built(self) -> list[str]:
        """Read pg_index, and the progress of what is being built (PostgreSQL 12)."""
        return self._indexes("indexrelid NOT IN (SELECT index_relid FROM pg_catalog.pg_stat_progress_create_index)")

    def _indexes(self, condition: str) -> list[str]:
        rows = self.query(
            "SELECT indexrelid::regclass::text FROM pg_catalog.pg_index"
            f" WHERE NOT indisvalid AND {condition} ORDER BY 1 LIMIT {MAX_INDEXES}"
        )
        return [str(name) for (name,) in rows]


def _blocker(pid: int, name: str | None, state: str | None, age: float | None) -> Blocker:
    return Blocker(pid, name or "", state or "", age)


def _join_pids(pids: Collection[int]) -> str:
    return ", ".join(f"{pid:d}" for pid in pids) or "NULL"


def query_on_new_connection(database: Database) -> Query:
    """Run each statement on a new connection."""

    def query(statement: str) -> list[tuple[Any, ...]]:
        connection = connect(database)
        try:
            return _rows(connection, statement, database)
        finally:
            close(connection)

    return query


def query_on_connection(connection: Connection, database: Database) -> Query:
    """Reuse this connection while it answers; the pool may have no other."""
    fallback = query_on_new_connection(database)

    def query(statement: str) -> list[tuple[Any, ...]]:
        if not connection.closed:
            try:
                return _rows(connection, statement, database)
            except DatabaseUnavailable:
                if not connection.closed:  # otherwise it was lost while idle
                    raise
        return fallback(statement)

    return query


def _rows(connection: Connection, statement: str, database: Database) -> list[tuple[Any, ...]]:
    try:
        return execute_within(connection, statement, database.answer_timeout).fetchall()
    except ResourceShortage:
        raise
    except Exception as error:  # noqa: BLE001 - psycopg's errors cannot be named without importing it
        raise explain(error, database.url()) from None
