"""The other histories of an image, while one of them is inspected: their version tables are theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gate.database.stamp import OtherTable, Stamp, TableName
from gate.errors import BadSettings
from gate.text import printable


class Sibling(NamedTuple):
    """Another history. `table`: its version table; `is_here`: whether it is in the same database."""

    table: TableName
    is_here: bool


def without_tables_of(stamp: Stamp, siblings: Mapping[str, Sibling]) -> Stamp:
    """Return the stamp without the version tables of the others, which may hold ids that this history has, too."""
    tables = [sibling.table for sibling in siblings.values() if sibling.is_here]
    others = tuple(other for other in stamp.other_version_tables if not any(_is(other, table) for table in tables))
    return stamp._replace(other_version_tables=others)


def _is(other: OtherTable, table: TableName) -> bool:
    return other.table == table.table and table.schema in {None, other.schema}


def reject_shared(stamp: Stamp, table: TableName, siblings: Mapping[str, Sibling]) -> None:
    """Raise `BadSettings` if the search_path finds the version table that another history names with its schema."""
    for label, sibling in siblings.items():
        is_found = table.schema is None and sibling.table.schema == stamp.schema and bool(stamp.schema)
        if sibling.is_here and is_found and sibling.table.table == table.table:
            name = f"{stamp.schema}.{table.table}"
            raise BadSettings(
                f"This history and [{label}] would share the version table {printable(name)} of database "
                f"{stamp.database}, and each needs its own. Let env.py pass another version_table or "
                "version_table_schema to context.configure for one of them."
            )
