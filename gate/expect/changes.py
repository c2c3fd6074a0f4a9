"""What differs between two recordings, as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gate.image.expectations import Expectations, ExpectedTable, RecordedVersionTable
from gate.text import join_ids


def changes(old: Expectations, new: Expectations) -> list[str]:
    """Return one line for each difference: heads, version table, tables, columns."""
    return [*_changes(old, new)]


def _changes(old: Expectations, new: Expectations) -> Iterator[str]:
    if {*old.heads} != {*new.heads}:
        yield f"heads: {join_ids(sorted(old.heads))} -> {join_ids(sorted(new.heads))}"
    if old.version_table != new.version_table:
        yield f"version table: {_version_table(old.version_table)} -> {_version_table(new.version_table)}"
    before, after = _by_name(old.tables), _by_name(new.tables)
    for name in sorted({**before, **after}):
        yield from _table_changes(name, before.get(name), after.get(name))


def _table_changes(name: str, old: ExpectedTable | None, new: ExpectedTable | None) -> Iterator[str]:
    if old is None or new is None:
        yield f"table {name}: {'added' if old is None else 'removed'}"
        return
    if added := sorted({*new.columns} - {*old.columns}):
        yield f"table {name}: added {join_ids(added)}"
    if removed := sorted({*old.columns} - {*new.columns}):
        yield f"table {name}: removed {join_ids(removed)}"
    if old.read_only != new.read_only:
        yield f"table {name}: {'now' if new.read_only else 'no longer'} read-only"


def _version_table(table: RecordedVersionTable | None) -> str:
    return ".".join(filter(None, (table.schema, table.name))) if table else "not recorded"


def _by_name(tables: Iterable[ExpectedTable]) -> dict[str, ExpectedTable]:
    return {".".join(filter(None, (table.schema, table.name))): table for table in tables}
