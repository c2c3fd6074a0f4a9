"""Hypothesis strategies that several property-based tests share."""

from __future__ import annotations

from hypothesis import strategies as st

from gate.errors import GateError
from gate.image.revision_graph import Revision, RevisionGraph

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=40)
"""Environment variables, arguments and file names: a byte that is not UTF-8 becomes a lone surrogate (PEP 383)."""

PASSWORD = "S3cr3tW0rd"
URL_PIECES = st.sampled_from(
    [
        "postgresql",
        "+asyncpg",
        "sqlite",
        "://",
        "u",
        ":",
        PASSWORD,
        "@",
        "h",
        ",",
        "/",
        "db",
        "?",
        "&",
        "=",
        "password",
        "sslmode",
        "host",
        "port",
        "%",
        "%4",
        "%40",
        "%00",
        "%ff",
        "[::1]",
        " ",
        "\n",
        "\udcff",
        "é",
        "'",
        "\\",
    ]
)
"""Parts of database URLs, valid and invalid."""

IMAGE = RevisionGraph(
    [Revision("aaaa1111"), Revision("aaaa2222", ("aaaa1111",)), Revision("b", ("aaaa1111",), labels=("shop",))]
)
"""A small history with a branch and a label, for tests that need any history."""

ROW = TEXT | st.sampled_from(
    ["aaaa1111", "aaaa2222", "aaaa", "aaaa2", "b", "shop", "sh", "", "heads", "base", "+1", "b@head"]
)
"""Rows of a version table: ids, partial ids, labels, addresses and any text."""


def printable_lines(error: GateError) -> bool:
    """Return whether each line of the message is printable."""
    return all(line.isprintable() for line in str(error).split("\n"))
