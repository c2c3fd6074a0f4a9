"""Search any database that SQLAlchemy can reflect for what the code of an image needs.

Whether names are case-sensitive is left to the database, which gets each table's name as the models have it. Columns
are compared without regard to case, as MySQL, MariaDB, SQLite and most other databases do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Enum, Integer, inspect, text
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from gate.database.missing import Kind, Missing, Needs, Shortfall
from gate.image.expectations import ExpectedTable

MYSQL_ACCESS_DENIED = frozenset({1044, 1142, 1143})
"""Errors of MySQL and MariaDB: no right to the database, a table or a column."""

MYSQL_NO_DATABASE = frozenset({1049, 1146})
"""Errors of MySQL and MariaDB: the database or the table does not exist."""

MYSQL_STRICT_MODES = ("STRICT_TRANS_TABLES", "STRICT_ALL_TABLES")
"""Without one of these, an INSERT gives a column that may not be NULL an implicit default."""


class Reflection:
    """One search through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inspector = inspect(connection)
        self._dialect = connection.dialect.name
        self._is_mysql = self._dialect in {"mysql", "mariadb"}
        self._exempt: dict[str | None, frozenset[str]] = {}
        self._strict: bool | None = None

    def find_missing(self, needs: Needs) -> Shortfall:
        """Search for what is missing, table by table."""
        return Shortfall.of([item for table in needs.tables for item in self._of_table(table, rights=needs.rights)])

    def _of_table(self, table: ExpectedTable, *, rights: bool) -> list[Missing]:
        try:
            columns = self._inspector.get_columns(table.name, self._schema(table))
        except NoSuchTableError:
            return [Missing(Kind.TABLE, table.schema, table.name)]
        except DBAPIError as error:
            if not self._is_mysql or _error_code(error) not in MYSQL_ACCESS_DENIED | MYSQL_NO_DATABASE:
                raise
            denied = _error_code(error) in MYSQL_ACCESS_DENIED
            if denied and not rights:
                return []
            return [Missing(Kind.SELECT if denied else Kind.TABLE, table.schema, table.name)]
        found = {column["name"].casefold(): column for column in columns}
        expected = {name.casefold(): name for name in table.columns}
        missing = [
            Missing(Kind.COLUMN, table.schema, table.name, name) for key, name in expected.items() if key not in found
        ]
        required = [column["name"] for key, column in found.items() if key not in expected and _needs_value(column)]
        if required and not table.read_only and self._rejects_null(table):
            missing += [Missing(Kind.DEFAULT, table.schema, table.name, name) for name in required]
        return missing

    def _schema(self, table: ExpectedTable) -> str | None:
        """Return the schema to reflect. SQLite would look for a temporary table, too, if it got none."""
        return "main" if self._dialect == "sqlite" and table.schema is None else table.schema

    def _rejects_null(self, table: ExpectedTable) -> bool:
        """Whether an INSERT that leaves out such a column fails: not in a view, and not if a trigger runs before it."""
        schema = self._schema(table)
        if schema not in self._exempt:
            views = {name.casefold() for name in self._inspector.get_view_names(schema)}
            self._exempt[schema] = frozenset(views | (self._tables_with_trigger(schema) if self._is_mysql else set()))
        return table.name.casefold() not in self._exempt[schema] and self._is_strict()

    def _tables_with_trigger(self, schema: str | None) -> set[str]:
        """Return the tables with a trigger BEFORE INSERT, which MySQL runs before it checks for NULL."""
        statement = text(
            "SELECT event_object_table FROM information_schema.triggers WHERE event_manipulation = 'INSERT'"
            " AND action_timing = 'BEFORE' AND event_object_schema = coalesce(:s, database())"
        )
        return {str(name).casefold() for name in self._connection.scalars(statement, {"s": schema})}

    def _is_strict(self) -> bool:
        if self._strict is None:
            mode = str(self._connection.scalar(text("SELECT @@sql_mode"))) if self._is_mysql else ""
            self._strict = not self._is_mysql or any(strict in mode for strict in MYSQL_STRICT_MODES)
        return self._strict


def _needs_value(column: Mapping[str, Any]) -> bool:
    """Whether a column may not be NULL and gets no value by itself.

    SQLite numbers an INTEGER PRIMARY KEY. MySQL gives a column of type ENUM its first value.
    """
    numbered = bool(column.get("primary_key")) and isinstance(column["type"], Integer)
    generated = column.get("computed") or column.get("identity") or column.get("autoincrement") is True or numbered
    by_itself = column.get("default") is not None or generated or isinstance(column["type"], Enum)
    return not column.get("nullable", True) and not by_itself


def _error_code(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
