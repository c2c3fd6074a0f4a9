"""The database: what its version table says.

Two statements on one connection: what the catalog knows of the table, then its rows; without a table, what else is
there. Who migrates is asked only while somebody does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gate.catalog import Catalog, TableName, catalog_statement, name_statement, rows_statement
from gate.errors import BadSettings, DatabaseUnavailable
from gate.migrator import LockKey, Migrator, VersionTableLocked, waited_in_vain

Run = Callable[[str], Sequence[Any] | None]
"""Runs one statement without parameters and gives its first row."""


class Stamp(NamedTuple):
    """What one look at a database saw. `rows` None = no version table; `schema` = where it is or would be."""

    database: str
    schema: str
    rows: tuple[str, ...] | None
    other_tables: bool = False
    standby: bool = False
    migrator: Migrator | None = None


def read(run: Run, name: TableName) -> Stamp:
    """Look once, by whatever runs a statement.

    Raises `DatabaseUnavailable` for a table that this role may not see or read, naming it and the GRANT;
    `BadSettings` where env.py computes the table's name and the default one is not there.
    """
    found = _catalog(run, name)
    migrator = None if found.lock_pid is None else _migrator(run, name.key, found.lock_pid)
    rows = None
    if found.schema is None:
        _refuse_out_of_sight(found, name)
    else:
        _refuse_unreadable(found, name)
        rows = _rows(run, found, name, migrator)
    schema = found.schema or name.schema or found.current_schema or ""
    return Stamp(found.database, schema, rows, bool(found.other_tables), found.standby, migrator)


def _catalog(run: Run, name: TableName) -> Catalog:
    found = _asked(run, catalog_statement(name))
    if found.schema is not None:
        return found
    return _asked(run, catalog_statement(name, around=True))  # judged by itself: the table may have come meanwhile


def _asked(run: Run, statement: str) -> Catalog:
    row = run(statement)
    assert row
    return Catalog(*row)


def _migrator(run: Run, key: LockKey, pid: int) -> Migrator:
    """Whoever holds the lock, though its name may be gone by now."""
    [name] = run(name_statement(pid)) or [None]
    return Migrator.parse(name or "", key, pid)


def _rows(run: Run, found: Catalog, name: TableName, migrator: Migrator | None) -> tuple[str, ...]:
    assert found.schema is not None
    try:
        row = run(rows_statement(found.schema, name.table))
    except Exception as error:
        why = waited_in_vain(error)
        if migrator is None or not why:
            raise
        raise VersionTableLocked(
            f"The version table {name.table} of database {found.database} cannot be read, for a migration may hold it "
            f"locked. Migrating now: {migrator}. Nothing to do but wait for it.",
            migrator,
            why,
        ) from None
    return tuple((row or [None])[0] or ())


def _refuse_out_of_sight(found: Catalog, name: TableName) -> None:
    if name.computed:
        raise BadSettings(
            f"env.py computes the version table's name or schema, and there is no {name.table} in database "
            f"{found.database}; tell gate with GATE_VERSION_TABLE and GATE_VERSION_TABLE_SCHEMA."
        )
    if found.elsewhere:
        raise DatabaseUnavailable(
            f"Role {found.role} sees no table {name.table} in database {found.database}, but one exists in "
            f"schema {found.elsewhere}, which is not usable on its search_path. If that is this application's: "
            f"GRANT USAGE ON SCHEMA {found.elsewhere} TO {found.role} and GRANT SELECT on the table, or put the "
            "schema on the search_path; else set GATE_VERSION_TABLE_SCHEMA to the schema that gate shall look in."
        )
    if name.schema is None and found.current_schema is None:
        raise DatabaseUnavailable(
            f"The search_path of role {found.role} names no schema that it may use in database {found.database}: "
            "GRANT USAGE ON SCHEMA, or correct the search_path."
        )


def _refuse_unreadable(found: Catalog, name: TableName) -> None:
    table = f"{found.schema}.{name.table}"
    if not found.usable:
        raise DatabaseUnavailable(
            f"Role {found.role} may not see the version table {table} of database {found.database}: "
            f"GRANT USAGE ON SCHEMA {found.schema} TO {found.role}."
        )
    if not found.has_column:
        raise DatabaseUnavailable(
            f"The table {table} of database {found.database} has no column version_num, so it is not Alembic's; "
            "set GATE_VERSION_TABLE or GATE_VERSION_TABLE_SCHEMA to the right one."
        )
    if not found.readable:
        raise DatabaseUnavailable(
            f"Role {found.role} may not read the version table {table} of database {found.database}: "
            f"GRANT SELECT ON {table} TO {found.role}."
        )
