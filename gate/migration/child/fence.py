"""The fence: refuses an upgrade whose database or version table is not the one that gate has inspected and locked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gate.drift.messages import SEVERAL_TABLES_REMEDY
from gate.migration.upgrade_request import TENANT_VARIABLE, UpgradeRequest
from gate.text import join_ids

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection


class FenceRefusal(BaseException):
    """The fence refuses env.py's database or version table; the message says why and what to do.

    Derives from BaseException so that env.py's `except Exception` does not swallow it.
    """


class ServerChanged(BaseException):
    """A transaction has reached another server than the one where gate holds the lock.

    Derives from BaseException for the same reason.
    """


FENCED = "gate_fenced"
"""The key in a connection's `info` that marks it as one on which the fence has found the lock."""


class Location(NamedTuple):
    """The version table of one `context.run_migrations()`. `locked`: whether gate holds its lock in that database."""

    database: str
    locked: bool
    schema: str
    table: str


DEFAULT_SCHEMA = {
    "postgresql": (
        "SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = :name AND c.relkind IN ('r','p','v','m','f') AND n.nspname = ANY (current_schemas(false))"
        " ORDER BY array_position(current_schemas(false), n.nspname) LIMIT 1), current_schema())::text"
    ),
    **dict.fromkeys(("mysql", "mariadb"), "SELECT DATABASE()"),
}
"""SQLAlchemy's dialect name -> the statement for the schema of a version table that is named without one.

On PostgreSQL the search_path finds the table, or the first schema on it will have the table.
"""


class Fence:
    """Finds the version table of each `context.run_migrations()` and verifies it.

    `locations`: what it has found; `refusal`: what it has refused, since a bare `except:` of env.py can swallow that.
    """

    def __init__(self, request: UpgradeRequest) -> None:
        self._request = request
        self.locations: list[Location] = []
        self.refusal: FenceRefusal | None = None

    def record(self, context: MigrationContext) -> None:
        """Add the version table of this context; without a connection there is none."""
        if context.connection is None:
            return
        try:
            location = self._locate(context.connection, context)
        except FenceRefusal as refusal:
            self.refusal = refusal
            raise
        if location not in self.locations:
            self.locations.append(location)

    def verify(self) -> None:
        """Raise `FenceRefusal` unless all that was recorded is the one version table that gate inspected."""
        try:
            self._verify()
        except FenceRefusal as refusal:
            self.refusal = refusal
            raise

    def _verify(self) -> None:
        if self.refusal:
            raise self.refusal
        if len(self.locations) > 1:
            raise FenceRefusal(several_tables(self.locations, self._request.schema_argument))
        for location in self.locations:
            if not location.locked:
                raise FenceRefusal(
                    f"env.py connects to database {location.database}, where gate does not hold the lock: gate checked "
                    "another database. Let env.py take its URL from DATABASE_URL, or set MIGRATION_DATABASE_URL to "
                    "env.py's URL."
                )
            self._verify_table(location)

    def _verify_table(self, location: Location) -> None:
        request, settings = self._request, []
        if request.schema_argument and location.schema != request.schema and location.schema and request.schema:
            raise FenceRefusal(
                f"env.py uses the version table in schema {location.schema}, but gate asked for schema "
                f"{request.schema} (database {location.database}). Let env.py take the schema from "
                f'`context.get_x_argument(as_dictionary=True)["{request.schema_argument}"]` or from the variable '
                f"{TENANT_VARIABLE}, or set GATE_SCHEMA_ARGUMENT to the name that it reads."
            )
        theirs, ours = location.table, request.version_table
        if theirs != ours:
            settings.append(f"GATE_VERSION_TABLE={theirs}")
        if location.schema != request.schema and location.schema and request.schema:
            settings.append(f"GATE_VERSION_TABLE_SCHEMA={location.schema}")
            theirs, ours = f"{location.schema}.{theirs}", f"{request.schema}.{ours}"
        if settings:
            raise FenceRefusal(
                f"env.py uses the version table {theirs}, but gate reads {ours} (database {location.database}). Set "
                f"{' and '.join(settings)}, or correct env.py."
            )

    def _locate(self, connection: Connection, context: MigrationContext) -> Location:
        """Ask on the migration's own connection, and leave no transaction open that was not open before."""
        began_here = not connection.in_transaction()
        database, locked = self._query_fence(connection)
        schema = version_schema(connection, context)
        if began_here:
            connection.rollback()
        connection.info[FENCED] = locked
        return Location(database, locked, schema, context.version_table)

    def _query_fence(self, connection: Connection) -> tuple[str, bool]:
        if not self._request.fence:
            return connection.engine.url.database or "", True
        try:
            database, is_locked = connection.exec_driver_sql(self._request.fence).one()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            raise FenceRefusal(
                f"env.py connects to another kind of database ({connection.dialect.name}) than gate checked: "
                f"{error.orig}. Let env.py take its URL from DATABASE_URL."
            ) from None
        return str(database or ""), bool(is_locked)


def version_schema(connection: Connection, context: MigrationContext) -> str:
    """The schema in which Alembic finds the version table on this connection, or would create it; "" = none."""
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    schema = context.version_table_schema or None
    if schema := translated.get(schema, schema):
        return str(schema)
    statement = DEFAULT_SCHEMA.get(connection.dialect.name)
    if statement is None:
        return connection.dialect.default_schema_name or ""
    values = {"name": context.version_table} if ":name" in statement else {}
    return str(connection.scalar(text(statement), values) or "")


def several_tables(locations: Iterable[Location], schema_argument: str = "") -> str:
    """Why gate refuses one run of env.py that upgrades several version tables, and what to do.

    `schema_argument`: as in `UpgradeRequest`.
    """
    locations = list(locations)
    databases = list(dict.fromkeys((each.database, each.locked) for each in locations))
    tables = list(dict.fromkeys(each.table for each in locations))
    if len(databases) > 1:
        found = f"{len(databases)} databases ({join_ids([name for name, _ in databases])})"
    elif len(tables) == 1:
        schemas = join_ids([each.schema for each in locations])
        found = f"{len(locations)} version tables of database {databases[0][0]} ({tables[0]} in schemas {schemas})"
    else:
        names = join_ids([f"{each.schema}.{each.table}" for each in locations])
        found = f"{len(locations)} version tables of database {databases[0][0]} ({names})"
    subject = f"env.py upgrades {found} in one run, as a loop over tenants or Alembic's multidb template does."
    if schema_argument:
        return (
            f"{subject} gate runs env.py once for each schema. Let env.py upgrade only the one that it gets with "
            f"`-x {schema_argument}=NAME` and in the variable {TENANT_VARIABLE}."
        )
    return f"{subject} gate locks and verifies one version table in each run. {SEVERAL_TABLES_REMEDY}"
