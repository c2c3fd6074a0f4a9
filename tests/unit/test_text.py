"""Other people's text on one line: whatever it holds, it ends no line, moves no cursor, and does not flood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadSettings, GateError
from gate.text import MAX_ID_LENGTH, MAX_IDS, first_ids, join_ids, one_edit_apart, printable
from tests.support.hostile_text import HOSTILE

ANY_TEXT = st.text(st.characters(), max_size=300)
"""Lone surrogates as well: so Python hands over a name of a file or a variable that is no UTF-8."""


@given(ANY_TEXT)
def test_any_text_becomes_printable_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert shown.encode().decode() == shown


@pytest.mark.parametrize("text", HOSTILE.values())
def test_what_stood_there_can_still_be_read(text: str) -> None:
    assert printable(text).replace("\\\\", "").count("gate.forged") == text.count("gate.forged")


def test_what_is_harmless_stays_as_it_is() -> None:
    assert printable('größe "a" \\ 100 % 😀') == 'größe "a" \\ 100 % 😀'


@given(st.lists(ANY_TEXT, max_size=2 * MAX_IDS))
def test_a_list_of_ids_is_short_and_says_how_many_more_there_are(ids: list[str]) -> None:
    line = join_ids(ids)
    assert line.isprintable()
    assert len(line) <= MAX_IDS * (MAX_ID_LENGTH + 3) + len(" and 1000 more")
    assert line.endswith(" more") or len(ids) <= MAX_IDS or not ids
    assert len(first_ids(ids)) == min(len(ids), MAX_IDS)


def test_a_few_ids_are_listed_whole() -> None:
    assert join_ids(["a1", "b2"]) == "a1, b2"
    assert join_ids([]) == ""
    assert join_ids([str(n) for n in range(MAX_IDS + 2)], ",").endswith(",9 and 2 more")


@given(st.lists(ANY_TEXT, min_size=1, max_size=3))
def test_an_errors_message_has_a_line_for_each_mistake_and_no_other(mistakes: list[str]) -> None:
    said = str(BadSettings(*mistakes))
    assert said.split("\n")[1:] == [printable(each) for each in mistakes[1:]]
    assert GateError(mistakes[0]).args[0].isprintable()


def _distance(one: str, other: str) -> int:
    """Compute the optimal string alignment distance by dynamic programming."""
    rows = [[i + j if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i, a in enumerate(one, start=1):
        for j, b in enumerate(other, start=1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a != b))
            if i > 1 and j > 1 and (a, b) == (other[j - 2], one[i - 2]):
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.text("ab_", max_size=6), st.text("ab_", max_size=6))
def test_one_edit_apart_agrees_with_the_optimal_string_alignment_distance(one: str, other: str) -> None:
    assert one_edit_apart(one, other) == (_distance(one, other) == 1)
    assert one_edit_apart(one, other) == one_edit_apart(other, one)
