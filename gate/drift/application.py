"""Looking with what an application has: its URL, its engine, or its own connection inside its own transaction.

The statements ask the catalog first, so a missing table or right never poisons a caller's transaction.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gate.database.engine import engine_class
from gate.database.stamp import Stamp
from gate.drift import comparison
from gate.drift.inspector import Inspection, Inspector
from gate.drift.project import Project, load_project
from gate.errors import BadSettings, DatabaseUnavailable
from gate.process.threads import BackgroundCall
from gate.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    Source = str | Engine | AsyncEngine | Connection | AsyncConnection | None


_T = TypeVar("_T")

ASYNC_SOURCES = frozenset({"AsyncEngine", "AsyncConnection"})


class ApplicationInspector:
    """Looks at the database that `source` leads to, for the image that `config` describes.

    `source`: a URL, an SQLAlchemy `Engine`, `AsyncEngine`, `Connection` or `AsyncConnection`, or None for DATABASE_URL
    and what else gate's settings name. `config`: Alembic's configuration file or files, as `alembic -c`. `flags`:
    settings that override the environment's, by variable. The scripts are read once, at the first look; a look raises
    `BadScripts`, `BadSettings` or `DatabaseUnavailable`.
    """

    def __init__(
        self,
        source: Source = None,
        config: str | Sequence[str] | None = None,
        section: str | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        self._source = source
        self._config = (config,) if isinstance(config, str) else tuple(config or ())
        self._section = section
        self._flags = dict(flags or {})
        self._project: Project | None = None
        self._own: Inspector | None = None

    @property
    def is_async(self) -> bool:
        """Whether the source can only be used with `await`."""
        return type(self._source).__name__ in ASYNC_SOURCES

    @property
    def project(self) -> Project:
        """The image and the settings."""
        if self._project is None:
            url = {"DATABASE_URL": self._source} if isinstance(self._source, str) else {}
            environment = {k: v for k, v in os.environ.items() if not url or k != "DATABASE_URL_FILE"}
            given = settings.read(environment, {**self._flags, **url})
            self._project = load_project(given, self._config, self._section)
        return self._project

    def inspect(self, *, apart: bool = False) -> Inspection:
        """Look once, blocking; `apart`: leave no connection in an engine's pool, since a process may fork after it."""
        if self._source is None or isinstance(self._source, str):
            self._own = self._own or self.project.inspector()
            return self._own.inspect()
        if self.is_async:
            raise BadSettings("This engine or connection is asynchronous; use `await` and the asynchronous function.")
        return self._seen(_with_connection(self._source, self._read, apart=apart))

    async def ainspect(self, *, apart: bool = False) -> Inspection:
        """Look once without blocking the event loop; `apart`: as above, for an engine that is not asynchronous."""
        source: Any = self._source
        if not self.is_async:
            return await _in_thread(lambda: self.inspect(apart=apart))
        await _in_thread(lambda: self.project)  # reading ten thousand scripts would hold the event loop
        if type(source).__name__ == "AsyncConnection":
            return self._seen(await source.run_sync(self._read))
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - whoever brings an engine has it loaded

        try:
            async with source.connect() as connection:
                return self._seen(await connection.run_sync(self._read))
        except SQLAlchemyError as error:
            raise DatabaseUnavailable(f"The database cannot be reached ({type(error).__name__}).") from None
        except OSError as error:  # asyncpg's refusals are no SQLAlchemyError
            raise DatabaseUnavailable(
                f"The database cannot be reached: {error.strerror or type(error).__name__}."
            ) from None

    def _seen(self, found: Stamp) -> Inspection:
        return Inspection(
            found, comparison.compare(self.project.image.graph, found.rows, other_tables=found.other_tables)
        )

    def _read(self, connection: Connection) -> Stamp:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - whoever brings a connection has it loaded

        began_here = not connection.in_transaction()
        try:
            return engine_class(connection.dialect.name).read_stamp_through(connection, self.project.table)
        except (SQLAlchemyError, UnicodeDecodeError) as error:  # a cluster may hold bytes that are no text
            raise DatabaseUnavailable(f"The database cannot be looked at ({type(error).__name__}).") from None
        finally:
            if began_here and connection.in_transaction():
                connection.rollback()


async def _in_thread(function: Callable[[], _T]) -> _T:
    """Wait for a call in a daemon thread: the event loop's own threads would delay the exit if one hangs."""
    return await asyncio.wrap_future(BackgroundCall(function))


def _with_connection(source: Any, read: Callable[[Connection], Stamp], *, apart: bool) -> Stamp:
    if not hasattr(source, "connect"):
        return read(source)
    from sqlalchemy import QueuePool  # noqa: PLC0415 - whoever brings an engine has it loaded
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - likewise

    try:
        connection = source.connect()
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(f"The database cannot be reached ({type(error).__name__}).") from None
    with connection:
        if apart and isinstance(source.pool, QueuePool):  # other pools keep none, or the only one (SQLite in memory)
            connection.detach()
        return read(connection)
