"""What changes in the database between two statements of one look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from gate.database.lock import LOCK_CLASS, Migrator
from gate.database.postgresql import stamp
from gate.database.stamp import Stamp, TableName
from tests.conftest import TestDatabase
from tests.support.programs import await_true

NAME = TableName()


def inspected(database: TestDatabase, *, after_the_first: Callable[[], object]) -> Stamp:
    """Read the stamp, and call `after_the_first` after its first statement."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        statements: list[str] = []

        def run(statement: str) -> Sequence[Any] | None:
            if statements:
                after_the_first()
            statements.append(statement)
            return connection.execute(statement).fetchone()

        return stamp.read_stamp(run, NAME)


def test_a_version_table_created_during_an_inspection_is_no_unstamped_database(database: TestDatabase) -> None:
    def commit_the_first_migration() -> None:
        database.execute("CREATE TABLE IF NOT EXISTS invoices (id int)")
        if "alembic_version" not in database.tables():
            database.stamp("a1")

    found = inspected(database, after_the_first=commit_the_first_migration)
    assert (found.rows, found.other_tables) == (("a1",), False)


def test_a_migrator_that_ends_during_an_inspection_is_still_one(database: TestDatabase) -> None:
    """It was at work when the catalog was read, and the next inspection shows how it ended."""
    database.stamp("a1")
    lock = f"SELECT pg_advisory_lock({LOCK_CLASS}, {NAME.key.signed})"
    with psycopg.connect(database.url, autocommit=True, application_name=f"{NAME.key.tag} 1/2 a2 @1 web-1") as holder:
        holder.execute(lock)
        [(pid,)] = holder.execute("SELECT pg_backend_pid()").fetchall()
        named = inspected(database, after_the_first=lambda: None).migrator
        assert named == Migrator("web-1", 1, 2, "a2", 1, pid)

        def end() -> None:
            holder.close()
            await_true(lambda: pid not in {each[0] for each in database.backends()}, lambda: "it is still there")

        found = inspected(database, after_the_first=end)
    assert (found.rows, found.migrator) == (("a1",), Migrator("", 0, 0, "", 0, pid))
