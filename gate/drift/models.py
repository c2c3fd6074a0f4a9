"""What models need of a database, read from the models themselves, where the application has loaded them already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gate.errors import BadSettings
from gate.image.expectations import ExpectedTable

MARK = "gate"
"""The key of `Table.info` under which a table is marked as `ignore` or `read-only`."""

UNFOLDED = frozenset({"mysql", "mariadb"})
"""Engines that do not fold an unquoted name to lower case."""

MAX_NESTING = 10
"""Sequences within sequences of models."""


def tables_of(models: object, engine: str = "") -> tuple[ExpectedTable, ...]:
    """Return the tables of a `MetaData`, a registry, a declarative base, SQLModel, `db`, or a sequence of them.

    `engine`: the name of the SQLAlchemy dialect, "" if it is not known. Raises `BadSettings` for anything else.
    """
    bases = [*_bases(models)]
    if not bases:
        raise BadSettings(
            f"`models` must be a MetaData, a declarative base or a sequence of them, not {type(models).__name__}."
        )
    found: dict[tuple[str | None, str], ExpectedTable] = {}
    for base in bases:
        mappers = _mappers(base)
        for table in _metadata(base).tables.values():
            if expected := _expected(table, mappers, engine):
                found[expected.schema, expected.name] = expected
    return tuple(found.values())


def _mappers(base: Any) -> list[Any]:
    """Return the mappers of a registry, a base, SQLModel, or Flask-SQLAlchemy's `db`; none of a MetaData.

    `db.registry` is no registry: Flask-SQLAlchemy offers the names of SQLAlchemy as attributes of `db`.
    """
    from sqlalchemy.orm import registry  # noqa: PLC0415 - loaded by a caller with models

    model = getattr(base, "Model", None)
    holders: list[Any] = [base, *(getattr(base, name, None) for name in ("registry", "_sa_registry"))]
    holders.append(getattr(model, "registry", None))
    return next(([*holder.mappers] for holder in holders if isinstance(holder, registry)), [])


def _bases(value: object, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, list | tuple | set | frozenset) and depth < MAX_NESTING:
        for each in value:
            yield from _bases(each, depth + 1)
    elif _metadata(value) is not None:
        yield value


def _metadata(value: object) -> Any:
    """Return the MetaData of a base, or a MetaData itself; None for anything else, also a table or a mapped class."""
    from sqlalchemy import MetaData, Table  # noqa: PLC0415 - loaded by a caller with models

    if isinstance(value, MetaData):
        return value
    is_part = isinstance(value, Table) or "__mapper__" in vars(value if isinstance(value, type) else type(value))
    metadata = None if is_part else getattr(value, "metadata", None)
    return metadata if isinstance(metadata, MetaData) else None


def _expected(table: Any, mappers: list[Any], engine: str) -> ExpectedTable | None:
    mark = table.info.get(MARK)
    if mark not in {None, "ignore", "read-only"}:
        raise BadSettings(f'Table {table.fullname} has info={{"{MARK}": {mark!r}}}; write "ignore" or "read-only".')
    if mark == "ignore":
        return None
    columns = tuple(_stored(column.name, engine) for column in _named_columns(table, mappers))
    schema = _stored(table.schema, engine) if table.schema else None
    return ExpectedTable(schema, _stored(table.name, engine), columns, mark == "read-only")


def _named_columns(table: Any, mappers: list[Any]) -> list[Any]:
    """Return the columns that queries and INSERTs of the table's mapped classes name; without a class, all of them.

    An INSERT names also a column that no class maps if it has a default of SQLAlchemy's.
    """
    columns = [column for column in table.columns if not column.system]
    own = [mapper for mapper in mappers if table in mapper.tables]
    return [c for c in columns if not own or c.default is not None or any(_maps(mapper, c) for mapper in own)]


def _maps(mapper: Any, column: Any) -> bool:
    from sqlalchemy.orm.exc import UnmappedColumnError  # noqa: PLC0415 - loaded by a caller with models

    try:
        mapper.get_property_by_column(column)
    except UnmappedColumnError:
        return False
    return True


def _stored(name: Any, engine: str) -> str:
    """Return the name as the database stores it: SQLAlchemy does not quote one with `quote=False`."""
    is_folded = getattr(name, "quote", None) is False and engine not in UNFOLDED
    return str(name.lower() if is_folded else name)
