"""What a killed migrator left behind: statements that still run in the server, and INVALID indexes (FACTS 6)."""

from __future__ import annotations

import time

from gate.database import Database
from gate.errors import DatabaseUnavailable
from gate.migrator import LockKey
from gate.stamp import literal
from gate.statement import terminate

PATIENCE = 10.0
"""Seconds in which an ended backend must be gone; it took 2 to 20 ms."""

NOTICE_WITHIN = 0.05
"""Seconds between two looks whether it is."""


def end_predecessors(database: Database, key: LockKey) -> list[int]:
    """End what a killed migrator left running, and wait until it is gone. Gives the backends' process ids.

    To be called with the lock held: then no living migrator can carry the tag. Raises `DatabaseUnavailable` if a
    backend may not be ended or does not go: gate never migrates beside it.
    """
    found = orphans(database, key)
    for pid in found:
        terminate(database, pid)
    deadline = time.monotonic() + PATIENCE
    while left := orphans(database, key) if found else []:
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"A killed migrator's statement still runs in backend {left[0]}, and this role may not end it. "
                f"gate does not migrate beside it: SELECT pg_terminate_backend({left[0]}) as its owner or a superuser."
            )
        time.sleep(NOTICE_WITHIN)
    return found


def orphans(database: Database, key: LockKey) -> list[int]:
    """The backends of this database in which a migration under this lock's tag works."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = current_database()"
            f" AND application_name LIKE {literal(key.working_name + '%')}"
            " AND backend_type IS DISTINCT FROM 'parallel worker'"
        ).fetchall()
    return [pid for (pid,) in rows if isinstance(pid, int)]


def invalid_indexes(database: Database) -> list[str]:
    """Indexes that a killed `CREATE INDEX CONCURRENTLY` left: they cost writes and serve no query."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_catalog.pg_index WHERE NOT indisvalid ORDER BY 1"
        ).fetchall()
    return [str(name) for (name,) in rows]
