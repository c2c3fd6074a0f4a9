"""The page for visitors, as text: what it contains, what it loads, and its colours."""

from __future__ import annotations

import asyncio
import json
import os
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gate.errors import BadSettings
from gate.readiness.page import MAX_PAGE_SIZE, SCRIPT, STYLE, own_page, read_page
from gate.readiness.placeholder_server import PlaceholderApplication
from tests.support import docs
from tests.support.hostile_text import HOSTILE

BROWSER = b"text/html,application/xhtml+xml,*/*;q=0.8"
REVISION, HOST = "0a1b2c3d4e5f", "pod-of-the-migrator"
STATE = {
    "status": "not ready",
    "detail": f"drift: db={REVISION} expected={REVISION}",
    "verdict": "BEHIND",
    "migrating": f"{HOST} at {REVISION}",
}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """The elements of a page with their attributes; a page in which one is not closed is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def answer(
    path: str = "/items",
    accept: bytes = BROWSER,
    method: str = "GET",
    query: bytes = b"",
    page: bytes | None = None,
) -> tuple[int, dict[str, str], str]:
    application = PlaceholderApplication("/health", page)
    application.state = STATE
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    headers = [(b"accept", accept)]
    scope = {"type": "http", "path": path, "method": method, "query_string": query, "headers": headers}
    asyncio.run(application(scope, receive, send))
    return (
        sent[0]["status"],
        {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        sent[1]["body"].decode(),
    )


@pytest.mark.parametrize("page", [None, b"<h1>Ours</h1>"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PROPFIND", ""])
@pytest.mark.parametrize("accept", [BROWSER, b"application/json", b"text/plain", b"*/*", b"", b"\xff;q=,"])
@pytest.mark.parametrize("path", ["/", "/items", "/health/ready/", "/health/readyz", "//health/ready", "/HEALTH/READY"])
def test_no_path_but_the_readiness_path_shows_a_revision_or_a_host(
    path: str, accept: bytes, method: str, page: bytes | None
) -> None:
    status, headers, body = answer(path, accept, method, page=page)
    assert (status, headers["retry-after"], headers["cache-control"]) == (503, "5", "no-store")
    assert REVISION not in body
    assert HOST not in body
    assert "BEHIND" not in body
    assert bool(body) == (method != "HEAD")
    assert int(headers["content-length"]) > 0


def test_api_clients_get_a_generic_answer() -> None:
    for accept in (b"application/json", b"*/*", b""):
        _, headers, body = answer(accept=accept)
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "status": "not ready",
            "detail": "This service is being updated. Try again in a few seconds.",
        }
    assert answer(accept=b"text/plain")[2] == "This service is being updated. Try again in a few seconds.\n"


@pytest.mark.parametrize("page", [None, b"<h1>Ours</h1>"])
def test_the_readiness_path_says_why_to_every_client(page: bytes | None) -> None:
    assert json.loads(answer("/health/ready", b"application/json", page=page)[2]) == STATE
    assert answer("/health/ready", b"text/plain", page=page)[2] == f"{STATE['detail']}\n"
    status, _, shown = answer("/health/ready", page=page)
    assert status == 503
    assert f"<pre>{STATE['detail']}</pre>" in shown


def test_the_page_is_well_formed_and_says_its_language_and_scales() -> None:
    for page in (own_page(b""), own_page(b"", details="x"), own_page(b"", reloads=False)):
        outline = Outline(page.body.decode())
        assert page.body.decode().startswith("<!doctype html>")
        assert outline.attributes("html") == [{"lang": "en"}]
        assert {"charset": "utf-8"} in outline.attributes("meta")
        viewport = next(each["content"] for each in outline.attributes("meta") if each.get("name") == "viewport")
        assert viewport == "width=device-width, initial-scale=1", "it must not forbid to zoom"
        assert [len(outline.attributes(tag)) for tag in ("title", "main", "h1")] == [1, 1, 1]
        assert {"role": "status"} in outline.attributes("p")


def test_the_page_loads_nothing_and_its_policy_allows_its_own_style_and_script() -> None:
    page = own_page(b"")
    outline = Outline(page.body.decode())
    addresses = [value for _, each in outline.elements for name, value in each.items() if name in {"href", "src"}]
    assert sorted(filter(None, addresses)) == ["data:,"]
    assert not re.search(r"url\(|@import", STYLE)
    policy = dict(page.headers)["content-security-policy"]
    for text in (STYLE, SCRIPT):
        assert f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_moves() -> None:
    assert not re.search(r"animation|transition|@keyframes|scroll-behavior", STYLE)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_details_are_text_whatever_they_contain(text: str) -> None:
    page = own_page(b"", details=text).body.decode()
    assert page.count("<script") == 1
    assert [tag for tag, _ in Outline(page).elements].count("pre") == 1


# ---- contrast: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio


def colours(scheme: str) -> dict[str, str]:
    dark = STYLE.split("prefers-color-scheme: dark")[1].split("* {")[0]
    light = STYLE.split("@media")[0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if scheme == "light" else dark))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_borders_have_contrast_in_both_schemes(scheme: str) -> None:
    found = colours(scheme)
    assert found.keys() == {"background", "surface", "text", "link", "line"}
    for text, behind in product(("text", "link"), ("background", "surface")):
        assert contrast(found[text], found[behind]) >= 7, (
            f"{text} on {behind}: WCAG AAA, which docs/readiness.md promises"
        )
    for behind in ("background", "surface"):
        assert contrast(found["line"], found[behind]) >= 3, "WCAG AA for what is not text"


def test_every_colour_is_one_of_those() -> None:
    rules = STYLE.split("* {")[1]
    assert not re.search(r"#[0-9a-fA-F]{3}|rgb|hsl", rules)
    assert set(re.findall(r"var\(--(\w+)\)", rules)) == colours("light").keys()


# ---- reload


@pytest.mark.parametrize("page", [None, b"<h1>Ours</h1>"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", "20; url=?"),
        (b"a=b&c=%20", "20; url=?a=b&c=%20"),
        (b"//evil.example/", "20; url=?//evil.example/"),
        (b"x\r\nset-cookie: a=b", "20"),
        (b"\xff", "20"),
        (b"x" * 2000, "20; url=?" + "x" * 2000),
        (b"x" * 2001, "20"),
    ],
)
def test_without_scripts_the_page_reloads_at_its_own_address(query: bytes, expected: str, page: bytes | None) -> None:
    assert answer("//evil.example/", query=query, page=page)[1]["refresh"] == expected
    assert answer("//evil.example/", method="HEAD", query=query, page=page)[1]["refresh"] == expected


def test_a_form_that_is_lost_says_so_and_is_not_replaced_by_a_reload() -> None:
    _, headers, body = answer(method="POST")
    assert "refresh" not in headers
    assert "<script" not in body
    assert "What you sent was not processed." in body
    assert "refresh" not in answer(method="POST", page=b"<h1>Ours</h1>")[1]


def test_api_clients_get_no_refresh() -> None:
    assert "refresh" not in answer(accept=b"*/*")[1]


# ---- the operator's page


def test_the_operators_page_is_sent_unchanged() -> None:
    content = "<!doctype html><h1>Günstig</h1>{style}%s".encode()
    status, headers, body = answer(page=content)
    assert (status, body) == (503, content.decode())
    assert "content-security-policy" not in headers
    assert headers["content-type"] == "text/html; charset=utf-8"


def test_the_page_that_the_docs_begin_with_has_gates_script() -> None:
    (example,) = docs.blocks(docs.PAGES["readiness"], "html")
    assert f"<script>{SCRIPT}</script>" in example
    assert Outline(example).attributes("html") == [{"lang": "de"}]


def test_a_page_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"x" * MAX_PAGE_SIZE)
    assert len(read_page(str(tmp_path / "page.html"))) == MAX_PAGE_SIZE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x" * (MAX_PAGE_SIZE + 1), "it is larger than 128 KB"),
        (b"<h1>G\xfcnstig</h1>", "byte 5 is not UTF-8 text"),
        (b" \n", "it is empty"),
        (None, "there is no such file"),
        ("folder", "it is a folder"),
        ("pipe", "it is not a regular file"),
        ("/dev/zero", "it is not a regular file"),
    ],
)
def test_a_page_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, content: bytes | str | None, reason: str
) -> None:
    path = tmp_path / "page.html"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content:
        path.symlink_to(content)
    with pytest.raises(BadSettings, match=reason) as refused:
        read_page(str(path))
    assert str(refused.value).startswith(f"GATE_PLACEHOLDER_PAGE: gate cannot use {path} as the page for visitors: ")
