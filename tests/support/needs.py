"""Searches a database for what models need, as a check does."""

from __future__ import annotations

import time
from pathlib import Path

from gate.database import location
from gate.database.engine import engine_of
from gate.database.missing import Needs, Shortfall
from gate.database.stamp import TableName
from gate.image.expectations import Expectations, ExpectedTable, RecordedVersionTable
from gate.image.expectations_file import render
from gate.settings.database_url import UrlSource

ITEMS = ExpectedTable(None, "items", ("id", "name"))
"""A table that models map."""


def needs(*tables: ExpectedTable, rights: bool = True) -> Needs:
    """Return what these tables need."""
    return Needs(tables, rights)


def search(url: str, wanted: Needs, timeout: float = 30.0) -> Shortfall:
    """Search through gate's own connection."""
    database = location.locate(UrlSource("DATABASE_URL", url), {}, None, (10.0, timeout))
    stamp = engine_of(database).read_stamp(TableName(), time.monotonic() + timeout, wanted)
    assert stamp.shortfall is not None
    return stamp.shortfall


def missing(url: str, *tables: ExpectedTable, rights: bool = True) -> list[str]:
    """Return the names of what is missing."""
    found = search(url, needs(*tables, rights=rights))
    assert found.total >= len(found.items)
    return [str(item) for item in found.items]


def record(folder: Path, *tables: ExpectedTable, heads: tuple[str, ...] = ("a3",)) -> None:
    """Write the file of `gate expect`, as if it had recorded these tables."""
    content = render(Expectations("", heads, RecordedVersionTable("alembic_version"), tables))
    (folder / "gate-expected.json").write_bytes(content)
