"""The statement that a migration runs just now, as the server sees it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from gate.database import Database


@dataclass(frozen=True, slots=True)
class Statement:
    """`age` in seconds; `text` its beginning; `blockers` = the backends for whose locks it waits."""

    age: float
    text: str
    blockers: tuple[int, ...]
    blocked_by: str

    def __str__(self) -> str:
        """As a person reads it."""
        waits = f" It waits for backend {', '.join(map(str, self.blockers))}{self.blocked_by}." if self.blockers else ""
        return f"A statement runs for {self.age:.0f} s: {self.text}.{waits}"


def running(database: Database, pid: int) -> Statement | None:
    """What this backend runs, None if it is idle or cannot be seen."""
    with suppress(Exception), database.connect() as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp() - query_start)::float8, left(query, 120),"
            " pg_blocking_pids(pid), (SELECT max(b.application_name) FROM pg_catalog.pg_stat_activity b"
            " WHERE b.pid = ANY (pg_blocking_pids(a.pid)))"
            f" FROM pg_catalog.pg_stat_activity a WHERE pid = {pid:d} AND state = 'active'"
        ).fetchone()
        if row:
            age, text, blockers, name = row
            assert isinstance(age, float)
            assert isinstance(blockers, list)
            return Statement(age, " ".join(str(text).split()), tuple(blockers), f" ({name})" if name else "")
    return None


def cancel(database: Database, pid: int) -> None:
    """Cancel the statement that this backend runs, if it still runs one."""
    _signal(database, pid, "pg_cancel_backend")


def terminate(database: Database, pid: int) -> None:
    """End this backend."""
    _signal(database, pid, "pg_terminate_backend")


def _signal(database: Database, pid: int, function: str) -> None:
    """Only while that backend carries a migration's tag: a pooler may have given it to somebody else by now."""
    with suppress(Exception), database.connect() as connection:
        connection.execute(
            f"SELECT {function}(pid) FROM pg_catalog.pg_stat_activity WHERE pid = {pid:d}"
            " AND datname = current_database() AND application_name LIKE 'gate/% works%'"
        )
