"""Which content type a client gets for its `Accept` header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.readiness.negotiation import HTML, JSON, TEXT, preferred_type

OFFERS = (JSON, TEXT, HTML)
CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (CHROMIUM, HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),  # Firefox, Safari
        ("text/html, */*", HTML),
        ("TEXT/HTML; Charset=utf-8", HTML),
        ("application/json;q=0.5, text/html;q=0.6", HTML),
        ("application/json;q=0, text/plain;q=0, */*", HTML),
        ("", JSON),
        ("*/*", JSON),  # curl, httpx, requests, fetch
        ("application/json, text/plain, */*", JSON),  # axios
        ("application/json, text/javascript, */*; q=0.01", JSON),  # jQuery
        ("text/html, application/json", JSON),
        ("text/html;q=0.8, application/json;q=0.9", JSON),
        ("text/html;q=0.5, */*;q=0.6", JSON),
        ("text/html;q=0", JSON),
        ("text/html;q=0.000, application/json", JSON),
        ("image/avif,image/webp,*/*;q=0.8", JSON),  # an image of a browser
        ("image/png", JSON),
        ("application/vnd.api+json", JSON),
        ("text/html-extended, text/htmlx", JSON),
        ("text/plain", TEXT),
        ("text/*", TEXT),
        ("text/plain, text/html", TEXT),
        ("text/plain, */*", TEXT),
        ("text/plain;q=1.0, application/json;q=0.9", TEXT),
        ("application/json;q=0, */*", TEXT),
        (",;,q=1,text/plain;;q=0.3;q=nan;q=-1,", TEXT),
    ],
)
def test_a_client_gets_what_it_prefers(accept: str, expected: str) -> None:
    assert preferred_type(accept, OFFERS) == expected


@given(st.lists(st.sampled_from(["text/html", "*/*", "text/*", ";", ",", "q=", "q=0", "q=1.5", " "]) | st.text()))
def test_any_header_has_an_answer(pieces: list[str]) -> None:
    assert preferred_type("".join(pieces), OFFERS) in OFFERS


def test_a_header_of_a_megabyte_costs_no_more_than_its_beginning() -> None:
    assert preferred_type("," * 1_000_000 + "text/html", OFFERS) == JSON
