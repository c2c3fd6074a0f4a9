"""How missing items are named: in one printable line, whatever the names are, and as SQL would spell them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.database.missing import MAX_MISSING, MAX_MISSING_SHOWN, Kind, Missing, Needs, Shortfall, listed, sql_name
from gate.database.postgresql.missing import find_missing
from gate.drift import messages
from gate.drift.comparison import Drift, Verdict
from gate.image.expectations import ExpectedTable
from gate.readiness import answer

NAME = st.one_of(
    st.text(), st.sampled_from(["items", "Order", 'say "hi"', "a\nb", "\x1b[2J", "\ud800", "a,b", "\u202e"])
)
ITEM = st.builds(Missing, st.sampled_from(Kind), st.none() | NAME, NAME, st.none() | NAME)


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (Missing(Kind.TABLE, None, "items"), "items"),
        (Missing(Kind.TABLE, "shop", "items"), "shop.items"),
        (Missing(Kind.COLUMN, None, "items", "stock"), "items.stock"),
        (Missing(Kind.COLUMN, "Shop", "Items", "Größe"), "Shop.Items.Größe"),
        (Missing(Kind.COLUMN, None, "a.b", "c d"), '"a.b"."c d"'),
        (Missing(Kind.COLUMN, None, 'say "hi"', "a\nb"), r'"say ""hi"""."a\nb"'),
        (Missing(Kind.SELECT, None, "items", "price"), "items.price(SELECT)"),
        (Missing(Kind.SELECT, None, "items"), "items(SELECT)"),
        (Missing(Kind.USAGE, "app", "items"), "app.items(USAGE)"),
        (Missing(Kind.DEFAULT, None, "items", "sku"), "items.sku(NOT NULL)"),
    ],
)
def test_an_item_is_named_as_a_person_reads_it(item: Missing, line: str) -> None:
    assert str(item) == line


@pytest.mark.parametrize(
    ("name", "spelled"),
    [("items", "items"), ("Items", '"Items"'), ("größe", '"größe"'), ('a"b', '"a""b"'), ("a\n", r'"a\n"'), ("", '""')],
)
def test_a_name_in_a_statement_is_quoted_where_the_server_would_fold_it(name: str, spelled: str) -> None:
    assert sql_name(name) == spelled


@given(st.lists(ITEM, max_size=30), st.integers(0, 1000), st.sampled_from(Verdict), st.text())
def test_any_names_make_printable_lines_and_json(items: list[Missing], more: int, verdict: Verdict, role: str) -> None:
    drift = Drift(
        verdict, ("a1",), ("a1",), missing=tuple(items), missing_total=len(items) + more, replaced=Verdict.CURRENT
    )
    said = [str(drift), messages.finding(drift, "shop"), messages.remedy(drift, role=role), *map(str, items)]
    assert all(text.isprintable() for text in said)
    response = answer.answer(answer.Readiness(drift))
    assert len(json.loads(response.body)["missing"]) == min(len(items), MAX_MISSING_SHOWN)


@given(st.lists(ITEM, max_size=30), st.integers(0, 1000))
def test_a_line_names_ten_items_and_counts_the_others(items: list[Missing], more: int) -> None:
    line = listed(items, len(items) + more)
    left = len(items) + more - min(len(items), MAX_MISSING_SHOWN)
    assert line.endswith(f" and {left} more") is (left > 0)


def test_a_search_keeps_the_first_items_and_counts_all() -> None:
    needs = Needs(tuple(ExpectedTable(None, f"t{n}", ("id",)) for n in range(1000)))
    found = needs.all_missing()
    assert (len(found.items), found.total) == (MAX_MISSING, 1000)
    assert found.items[0] == Missing(Kind.TABLE, None, "t0")
    assert Shortfall.of([]) == Shortfall()


@pytest.mark.parametrize("columns", [("id",), ("größe", "日本", "\0", "\ud800")])
@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "WIN1252", "KOI8R", "SQL_ASCII", "MULE_INTERNAL", ""])
def test_a_name_that_the_server_cannot_store_is_never_sent(columns: tuple[str, ...], encoding: str) -> None:
    sent: list[str] = []

    def run(statement: str, needs: str) -> list[object]:
        if "server_encoding" in statement:
            return [encoding, ""]
        sent.append(needs)
        return [0, None]

    assert find_missing(run, Needs((ExpectedTable(None, "items", columns),))) == Shortfall()
    [text] = sent
    assert "\\u" not in text
    codec = {"UTF8": "utf-8", "SQL_ASCII": "utf-8", "WIN1252": "cp1252", "KOI8R": "koi8_r"}.get(encoding, encoding)
    assert text.encode("ascii" if codec in {"MULE_INTERNAL", ""} else codec)
    assert len(json.loads(text)[0][2]) == len(columns)
