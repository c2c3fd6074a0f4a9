"""What a visitor sees in a real browser while gate waits, and after it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from gate.readiness.page import own_page
from tests.conftest import GateRunner, TestDatabase
from tests.support import docs
from tests.support.browser import CHROMIUM, Browser, running_browser
from tests.support.hostile_text import HOSTILE
from tests.support.programs import RunningProgram, await_true

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium-headless-shell or chromium")
EXAMPLE = docs.blocks(docs.PAGES["readiness"], "html")[0]
"""The page that docs/readiness.md tells people to begin with."""

SHOP = """
import http.server, pathlib, sys, time
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.05)
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Shop</title><link rel=icon href=data:,><h1>Seven bicycles</h1>")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
"""
"""A server that opens its port only when a file exists, and does not know HEAD: it answers 501."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def may_start(tmp_path: Path) -> Path:
    """The server opens its port when this file exists."""
    return tmp_path / "the server may start"


@pytest.fixture
def waiting(gate: GateRunner, database: TestDatabase, port: int, may_start: Path) -> RunningProgram:
    return wait(gate, database, port, may_start)


def wait(gate: GateRunner, database: TestDatabase, port: int, may_start: Path, **settings: str) -> RunningProgram:
    database.stamp("a1")
    server = (sys.executable, "-c", SHOP, str(port), str(may_start))
    running = gate.start("run", "--", *server, GATE_PLACEHOLDER=f"127.0.0.1:{port}", GATE_POLL_MAX="0.5", **settings)

    def says_why() -> bool:
        try:
            return "drift:" in httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).text
        except httpx.TransportError:
            return False

    await_true(says_why, lambda: "".join(running.err), running.process)
    return running


class Proxy(BaseHTTPRequestHandler):
    """Forwards to `port`, adds a header to each answer, and answers 502 while the port is closed, as proxies do."""

    port = 0
    header = ("x-proxy", "yes")

    def do_GET(self) -> None:
        try:
            answer = httpx.request(self.command, f"http://127.0.0.1:{self.port}{self.path}", headers=dict(self.headers))
        except httpx.TransportError:
            self.send_error(502)
            return
        self.send_response(answer.status_code)
        for name, value in (*answer.headers.items(), self.header):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def proxied(port: int, **header: str) -> Iterator[int]:
    """Yield the port of a proxy in front of `port` that adds a header."""
    ((name, value),) = header.items()
    handler = type("ProxyOfPort", (Proxy,), {"port": port, "header": (name.replace("_", "-"), value)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_address[1]
        proxy.shutdown()


@pytest.mark.parametrize("behind_a_proxy", [False, True])
def test_the_servers_own_page_follows_without_a_step_of_the_visitor(
    browser: Browser,
    waiting: RunningProgram,
    port: int,
    database: TestDatabase,
    may_start: Path,
    *,
    behind_a_proxy: bool,
) -> None:
    with proxied(port, x_proxy="yes") as proxy:
        host = f"127.0.0.1:{proxy if behind_a_proxy else port}"
        tab = browser.open(f"http://{host}/items?colour=red#seven")
        assert "This service is being updated." in tab.text
        tab.await_true(lambda: len(tab.requests("Fetch")) > 1)
        assert tab.requests("Document") == [f"http://{host}/items?colour=red"], "it reloads, and nothing has changed"
        database.stamp("a3")
        waiting.await_event("gate.starting")
        # The port is closed, and the page survives it.
        tab.await_true(lambda: 502 in tab.statuses("Fetch") if behind_a_proxy else "Fetch" in tab.refused())
        assert "This service is being updated." in tab.text
        may_start.touch()
        tab.await_true(lambda: "Seven bicycles" in tab.text)
        assert tab.url == f"http://{host}/items?colour=red#seven"
        assert tab.errors() == []
        assert {httpx.URL(each).netloc.decode() for each in tab.requests() if not each.startswith("data:")} == {host}


@pytest.mark.parametrize("forbidden_by_a_proxy", [False, True])
def test_without_scripts_the_page_reloads_too(
    browser: Browser,
    waiting: RunningProgram,
    port: int,
    database: TestDatabase,
    may_start: Path,
    *,
    forbidden_by_a_proxy: bool,
) -> None:
    may_start.touch()
    with proxied(port, content_security_policy="script-src 'none'") as proxy:
        host = f"127.0.0.1:{proxy if forbidden_by_a_proxy else port}"
        tab = browser.open(f"http://{host}/items?colour=red#seven", scripts=forbidden_by_a_proxy)
        assert "This service is being updated." in tab.text
        database.stamp("a3")
        waiting.await_event("gate.starting")
        tab.await_true(lambda: "Seven bicycles" in tab.text)
        assert tab.requests("Fetch") == []
        assert tab.url == f"http://{host}/items?colour=red"


def test_without_scripts_a_reload_that_meets_the_closed_port_is_the_last(
    browser: Browser, waiting: RunningProgram, port: int, database: TestDatabase
) -> None:
    """The limit that docs/readiness.md admits."""
    tab = browser.open(f"http://127.0.0.1:{port}/items", scripts=False)
    database.stamp("a3")
    waiting.await_event("gate.starting")
    tab.await_true(lambda: "Document" in tab.refused())
    assert tab.url.startswith("chrome-error:")


def test_assistive_technology_finds_a_heading_and_a_status(
    browser: Browser, waiting: RunningProgram, port: int
) -> None:
    tab = browser.open(f"http://127.0.0.1:{port}/")
    found = tab.accessible()
    assert ("RootWebArea", "Back soon") in found
    assert ("heading", "Back soon") in found
    assert ("link", "Try again now") in found
    roles = [role for role, _ in found]
    assert roles.index("main") < roles.index("heading") < roles.index("status")
    assert tab.evaluate("document.querySelector('[role=status]').innerText").startswith(
        "This service is being updated."
    )
    assert tab.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "zoom"), [(320, 1), (640, 2), (1280, 2)])
def test_nothing_is_cut_off_on_a_small_screen_or_with_large_text(
    browser: Browser, scheme: str, width: int, zoom: int
) -> None:
    tab = browser.open("about:blank", scheme=scheme, width=width)
    tab.show(own_page(b"", details=f"drift: db={'f' * 300} expected={HOSTILE['markup']}").body.decode())
    tab.evaluate(f"document.documentElement.style.fontSize = '{zoom * 100}%'")
    assert HOSTILE["markup"] in tab.text
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for element in ("main", "h1", "p", "a", "pre"):
        right = tab.evaluate(f"document.querySelector('{element}').getBoundingClientRect().right")
        assert 0 < right <= width, element
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 28)"
    assert dark == (scheme == "dark")


def test_the_operators_page_is_shown_and_reloads(
    browser: Browser, gate: GateRunner, port: int, database: TestDatabase, may_start: Path
) -> None:
    page = gate.folder / "page.html"
    page.write_text(EXAMPLE, encoding="utf-8")
    waiting = wait(gate, database, port, may_start, GATE_PLACEHOLDER_PAGE=page.name)
    tab = browser.open(f"http://127.0.0.1:{port}/items#seven")
    assert "Wir sind gleich zurück." in tab.text
    database.stamp("a3")
    waiting.await_event("gate.starting")
    tab.await_true(lambda: "Fetch" in tab.refused())
    may_start.touch()
    tab.await_true(lambda: "Seven bicycles" in tab.text)
    assert tab.errors() == []
