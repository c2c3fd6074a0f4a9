"""Inspect a database through what an application has: a URL, an SQLAlchemy engine or a connection.

The catalog is queried before the version table, so a missing table or privilege never aborts the transaction that a
caller's connection is in.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gate.database.engine import engine_class
from gate.database.stamp import Stamp
from gate.drift.inspector import Inspection, Inspector, compare
from gate.drift.project import Project, load_project
from gate.errors import BadSettings, DatabaseUnavailable
from gate.process.threads import BackgroundCall
from gate.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from gate.database.missing import Needs

    Source = str | Engine | AsyncEngine | Connection | AsyncConnection | None

_T = TypeVar("_T")

ASYNC_SOURCES = frozenset({"AsyncEngine", "AsyncConnection"})


class ApplicationInspector:
    """Inspects the database of an application for the image that it runs in.

    `source`: a URL, an SQLAlchemy `Engine`, `AsyncEngine`, `Connection` or `AsyncConnection`, or None for the database
    that gate's settings name. `config`: the configuration file or files, as for `alembic -c`. `section`: the section of
    it, as for `alembic -n`. `flags`: settings that override the environment, by the variable's name. `models`: a
    MetaData, a declarative base or a sequence of them, in place of the tables that `gate expect` has recorded.

    The scripts are read once, at the first inspection, by `load`, which may be replaced. An inspection raises
    `BadScripts`, `BadSettings` or `DatabaseUnavailable`.
    """

    def __init__(
        self,
        source: Source = None,
        config: str | Sequence[str] | None = None,
        section: str | None = None,
        flags: Mapping[str, str] | None = None,
        models: object = None,
    ) -> None:
        self._source = source
        self._config = (config,) if isinstance(config, str) else tuple(config or ())
        self._section = section
        self._flags = dict(flags or {})
        self._models = models
        self._project: Project | None = None
        self.load: Callable[[], Project] = self._load
        self._own: Inspector | None = None

    @property
    def is_async(self) -> bool:
        """Whether the source can be used only with `await`."""
        return type(self._source).__name__ in ASYNC_SOURCES

    @property
    def project(self) -> Project:
        """The settings and the image, read at the first use."""
        if self._project is None:
            project = self.load()
            self._project = project if self._models is None else self._with_models(project)
        return self._project

    def _load(self) -> Project:
        url = {"DATABASE_URL": self._source} if isinstance(self._source, str) else {}
        environment = {k: v for k, v in os.environ.items() if not url or k != "DATABASE_URL_FILE"}
        return load_project(settings.read(environment, {**self._flags, **url}), self._config, self._section)

    def _with_models(self, project: Project) -> Project:
        """Expect the tables of the models; the version table that was recorded stays."""
        from gate.drift.models import tables_of  # noqa: PLC0415 - most callers pass no models
        from gate.image.expectations import Expectations  # noqa: PLC0415 - likewise

        engine = getattr(getattr(self._source, "dialect", None), "name", "")
        if isinstance(self._source, str):
            engine = self._source.partition(":")[0].partition("+")[0]
        recorded = project.expectations or Expectations("", (), None, ())
        return project._replace(expectations=recorded._replace(tables=tables_of(self._models, engine)))

    def inspect(self, *, detach: bool = False) -> Inspection:
        """Inspect once, blocking. `detach`: leave no connection in the pool of an engine: the process may fork later.

        Raises `BadSettings` for an asynchronous source, too.
        """
        if self._source is None or isinstance(self._source, str):
            self._own = self._own or self.project.inspector()
            return self._own.inspect()
        if self.is_async:
            raise BadSettings("This engine or connection is asynchronous: await the asynchronous function instead.")
        return self._compare(_read_through(self._source, self._read, detach=detach))

    async def ainspect(self, *, detach: bool = False) -> Inspection:
        """Inspect once without blocking the event loop. `detach`: as above, for an engine that is not asynchronous."""
        source: Any = self._source
        if not self.is_async:
            return await _in_thread(lambda: self.inspect(detach=detach))
        await _in_thread(lambda: self.project)  # reading ten thousand scripts would block the event loop
        if type(source).__name__ == "AsyncConnection":
            return self._compare(await source.run_sync(self._read))
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - loaded by a caller with an engine

        try:
            async with source.connect() as connection:
                return self._compare(await connection.run_sync(self._read))
        except SQLAlchemyError as error:
            raise DatabaseUnavailable(f"The database cannot be reached ({type(error).__name__}).") from None
        except OSError as error:  # asyncpg's refused connection is no SQLAlchemyError
            raise DatabaseUnavailable(
                f"The database cannot be reached: {error.strerror or type(error).__name__}."
            ) from None

    def _compare(self, stamps: Stamp | tuple[Stamp, ...]) -> Inspection:
        """Compare the stamp, or with GATE_SCHEMAS those of all schemas."""
        graph, table, settings = self.project.image.graph, self.project.table, self.project.settings
        if isinstance(stamps, Stamp):
            return compare(graph, table, stamps)
        from gate.drift.schemas import compare_schemas  # noqa: PLC0415 - most images have one version table

        assert settings.schemas
        return compare_schemas(graph, table, stamps, settings.schemas, may_be_empty=settings.schemas_may_be_empty)

    def _read(self, connection: Connection) -> Stamp | tuple[Stamp, ...]:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - loaded by a caller with a connection

        begins_here = not connection.in_transaction()
        try:
            needs = _translated(self.project.needs(), connection)
            engine, schemas = engine_class(connection.dialect.name), self.project.settings.schemas
            if schemas is not None:
                return engine.read_schemas_through(connection, schemas, self.project.table, needs)
            return engine.read_stamp_through(connection, self.project.table, needs)
        except (SQLAlchemyError, UnicodeError) as error:  # a database may hold bytes that are not text
            raise DatabaseUnavailable(f"The database cannot be inspected ({type(error).__name__}).") from None
        finally:
            if begins_here and connection.in_transaction():
                connection.rollback()


def _translated(needs: Needs | None, connection: Connection) -> Needs | None:
    """Replace the schemas that SQLAlchemy replaces on this connection (`schema_translate_map`)."""
    schemas = connection.get_execution_options().get("schema_translate_map")
    if not needs or not schemas:
        return needs
    return needs._replace(
        tables=tuple(table._replace(schema=schemas.get(table.schema, table.schema)) for table in needs.tables)
    )


async def _in_thread(function: Callable[[], _T]) -> _T:
    """Wait for a call in a daemon thread: the event loop's own threads would delay the exit if one hangs."""
    return await asyncio.wrap_future(BackgroundCall(function))


def _read_through(source: Any, read: Callable[[Connection], _T], *, detach: bool) -> _T:
    """Read through a connection, or through one of an engine."""
    if not hasattr(source, "connect"):
        return read(source)
    from sqlalchemy import QueuePool  # noqa: PLC0415 - loaded by a caller with an engine
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - likewise

    try:
        connection = source.connect()
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(f"The database cannot be reached ({type(error).__name__}).") from None
    with connection:
        if detach and isinstance(source.pool, QueuePool):  # other pools keep none, or the only one (SQLite in memory)
            connection.detach()
        return read(connection)
