"""What the code of this image needs of its database: the content of `gate-expected.json`."""

from __future__ import annotations

from typing import NamedTuple


class RecordedVersionTable(NamedTuple):
    """The version table as env.py configures it. `schema` None = wherever the role's search_path finds it."""

    name: str
    schema: str | None = None


class ExpectedTable(NamedTuple):
    """A table that the models map, with the columns that their queries name.

    `schema` None = wherever the role's search_path finds it; `read_only`: the models never insert into it.
    """

    schema: str | None
    name: str
    columns: tuple[str, ...]
    read_only: bool = False


class Expectations(NamedTuple):
    """What `gate expect` has recorded.

    `path`: the file, for messages; `heads`: the heads of the scripts from which it was recorded; `version_table`: None
    if env.py could not show it for certain.
    """

    path: str
    heads: tuple[str, ...]
    version_table: RecordedVersionTable | None
    tables: tuple[ExpectedTable, ...]
