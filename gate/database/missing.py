"""What a database lacks of what the code of an image needs, and how that is named.

Pure. Names come from the models and from the catalog, so they are printed only in escaped and quoted form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gate.text import printable, truncate

if TYPE_CHECKING:
    from gate.image.expectations import ExpectedTable

MAX_MISSING = 200
"""The number of missing items that a check reads; it counts the others."""

MAX_MISSING_SHOWN = 10
"""The number of missing items that a line names."""

MAX_NAME_LENGTH = 200
"""Characters of one item in a line: schema, table and column have at most 63 bytes each in PostgreSQL."""

_PLAIN_NAME = r"[^\W\d][\w$]*"
"""A name that is readable without quotes; compiled only by a check that has something to name."""

_FOLDED_NAME = r"[a-z_][a-z0-9_$]*"
"""A name that means the same in SQL with and without quotes, unless it is a keyword."""


class Kind(StrEnum):
    """What is missing."""

    TABLE = "table"
    COLUMN = "column"
    USAGE = "usage"
    """The right to use the schema of a table."""
    SELECT = "select"
    """The right to SELECT a column, or every column of a table."""
    DEFAULT = "default"
    """A value for a column that the models do not know and that may not be NULL: an INSERT of the models fails."""


LABELS = {
    Kind.TABLE: "",
    Kind.COLUMN: "",
    Kind.USAGE: "(USAGE)",
    Kind.SELECT: "(SELECT)",
    Kind.DEFAULT: "(NOT NULL)",
}
"""What follows the name in a line."""


class Needs(NamedTuple):
    """What to search for.

    `rights`: whether the right to SELECT counts, which is so only for the role of the server; `home`: the schema that
    is searched before the search_path for tables that the models name without a schema, None = only the search_path.
    """

    tables: tuple[ExpectedTable, ...]
    rights: bool = True
    home: str | None = None

    def all_missing(self) -> Shortfall:
        """Return the result for a database that has nothing at all."""
        return Shortfall.of([Missing(Kind.TABLE, table.schema, table.name) for table in self.tables])


class Missing(NamedTuple):
    """One thing that is missing.

    `schema`: as the models name it, None = wherever the role's search_path finds the table; `column`: None where the
    item is the whole table.
    """

    kind: Kind
    schema: str | None
    table: str
    column: str | None = None

    @property
    def table_name(self) -> str:
        """The table with its schema, printable."""
        return ".".join(quoted(name) for name in (self.schema, self.table) if name is not None)

    @property
    def sql_table(self) -> str:
        """The table with its schema, as SQL spells it."""
        return ".".join(sql_name(name) for name in (self.schema, self.table) if name is not None)

    def __str__(self) -> str:
        """Render the item as the drift line names it: `items.stock`, `items.price(SELECT)`."""
        name = self.table_name if self.column is None else f"{self.table_name}.{quoted(self.column)}"
        return truncate(name, MAX_NAME_LENGTH) + LABELS[self.kind]


class Shortfall(NamedTuple):
    """The result of a search for what is missing: the first items, in a fixed order, and the number of all."""

    items: tuple[Missing, ...] = ()
    total: int = 0

    @classmethod
    def of(cls, items: Sequence[Missing]) -> Shortfall:
        """Keep the first items of all."""
        return cls(tuple(items[:MAX_MISSING]), len(items))


def quoted(name: str) -> str:
    """Make a name printable, in double quotes unless it is readable without."""
    return name if re.fullmatch(_PLAIN_NAME, name) else '"' + printable(name.replace('"', '""')) + '"'


def sql_name(name: str) -> str:
    """Spell a name as SQL does, printable: in double quotes unless the server would fold nothing of it."""
    return name if re.fullmatch(_FOLDED_NAME, name) else '"' + printable(name.replace('"', '""')) + '"'


def listed(items: Sequence[Missing], total: int, separator: str = ", ") -> str:
    """Name the first items in one line, and say how many more there are."""
    shown = items[:MAX_MISSING_SHOWN]
    more = max(total, len(items)) - len(shown)
    return separator.join(map(str, shown)) + (f" and {more} more" if more else "")
