"""PostgreSQL, through psycopg, as an engine of `gate.database.engine`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from gate.database.postgresql import stamp
from gate.database.postgresql.connection import ReusedConnections, connect, explained, load_driver
from gate.database.postgresql.stamp import SEARCH_REMEDY, PsycopgRunner
from gate.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from gate.database.location import Database
    from gate.database.lock import Lock, LockKey
    from gate.database.missing import Needs
    from gate.database.postgresql.connection import Connection
    from gate.database.postgresql.missing import RunWithNeeds
    from gate.database.postgresql.sessions import PostgresSessions
    from gate.database.postgresql.stamp import Run
    from gate.database.stamp import Stamp, TableName
    from gate.settings.schema_source import SchemaSource


class PostgresEngine:
    """PostgreSQL, and servers that speak its protocol.

    `reused`: the connections for the lock and for checks, None = new ones each time.
    """

    transactional_ddl: ClassVar[bool] = True

    def __init__(self, database: Database, reused: ReusedConnections | None = None) -> None:
        self._database, self._reused = database, reused

    def load_driver(self) -> None:
        """Import psycopg."""
        load_driver()

    def read_stamp(self, table: TableName, deadline: float, needs: Needs | None = None) -> Stamp:
        """Inspect through psycopg."""

        def read(connection: Connection) -> Stamp:
            return stamp.read_through_psycopg(connection, table, self._database, deadline, needs)

        if self._reused:
            return self._reused.queries.use(read)
        with connect(self._database) as connection:
            return read(connection)

    @classmethod
    def read_stamp_through(cls, connection: Any, table: TableName, needs: Needs | None = None) -> Stamp:
        """Inspect with the same statements: they query the catalog before the version table."""
        return stamp.read_all(*_runners(connection), table, needs)

    def read_schemas(
        self, source: SchemaSource, table: TableName, deadline: float, needs: Needs | None = None
    ) -> tuple[Stamp, ...]:
        """Inspect through psycopg."""
        from gate.database.postgresql import schemas  # noqa: PLC0415 - most images have one version table

        with connect(self._database) as connection:
            runner = PsycopgRunner(connection, self._database, deadline)
            with explained(self._database):
                return schemas.read_all(runner.run, runner.run_with_needs, source, table, needs)

    @classmethod
    def read_schemas_through(
        cls, connection: Any, source: SchemaSource, table: TableName, needs: Needs | None = None
    ) -> tuple[Stamp, ...]:
        """Inspect with the same statements, each below a savepoint: a schema can be dropped meanwhile."""
        from gate.database.postgresql import schemas  # noqa: PLC0415 - as above

        run, run_with_needs = _runners(connection)

        def run_below_savepoint(statement: str) -> Sequence[Any] | None:
            with connection.begin_nested():
                return run(statement)

        return schemas.read_all(run_below_savepoint, run_with_needs, source, table, needs)

    def acquire(self, key: LockKey) -> AbstractContextManager[Lock]:
        """Acquire an advisory lock."""
        from gate.database.postgresql import lock  # noqa: PLC0415 - a check acquires nothing

        return lock.acquire(self._database, key, self._reused)

    def close(self) -> None:
        """Close the reused connections, if there are any; another use opens them again."""
        if self._reused:
            self._reused.close()

    def sessions(self, key: LockKey, tag: str = "") -> PostgresSessions:
        """Query pg_stat_activity, on a new connection each time."""
        from gate.database.postgresql.sessions import PostgresSessions, query_on_new_connection  # noqa: PLC0415 - likewise

        return PostgresSessions(query_on_new_connection(self._database), key, tag)


def _runners(connection: Any) -> tuple[Run, RunWithNeeds]:
    """Return how to run a statement through SQLAlchemy, without and with a parameter."""

    def run(statement: str) -> Sequence[Any] | None:
        # Without parameters, or a driver would take a % in a name for a placeholder.
        result = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        row: Sequence[Any] | None = result.first()
        return row

    def run_with_needs(statement: str, names: str) -> Sequence[Any] | None:
        from sqlalchemy import text  # noqa: PLC0415 - loaded by a caller with a connection
        from sqlalchemy.exc import ProgrammingError  # noqa: PLC0415 - likewise

        try:
            row: Sequence[Any] | None = connection.execute(text(statement), {"needs": names}).first()
        except ProgrammingError as error:  # asyncpg's and psycopg's class for a right or a function that is missing
            raise DatabaseUnavailable(
                f"The database cannot be inspected ({type(error).__name__}). {SEARCH_REMEDY}"
            ) from None
        return row

    return run, run_with_needs
