"""Drives a headless Chromium by the DevTools protocol over two pipes, which needs no driver and no further library.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.programs import TIMEOUT, await_true

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
"""Chromium's sandbox refuses root, as which the tests may run."""

DOMAINS = ("Page", "Network", "Log", "Runtime", "Accessibility")


class BrowserError(Exception):
    """The browser rejects a command, for example because the page has just been replaced."""


@dataclass
class Browser:
    """One Chromium; `events` are those of all its tabs."""

    process: subprocess.Popen[bytes]
    _to: int
    _from: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _received: bytes = b""
    _last_id: int = 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; the events that arrive meanwhile are kept."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                break
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._from, 1 << 20)
            assert more, f"the browser exited with code {self.process.wait(TIMEOUT)}"
            self._received += more
        message, _, self._received = self._received.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def open(
        self, url: str, *, scripts: bool = True, scheme: str = "light", width: int = 1024, height: int = 600
    ) -> Tab:
        """Open a new tab; `scripts`: whether pages may run any, `scheme`: the colours that the visitor prefers."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in DOMAINS:
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        tab.navigate(url)
        return tab


@dataclass
class Tab:
    """One page in the browser."""

    browser: Browser
    session: str

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command about this tab."""
        return self.browser.call(method, self.session, **parameters)

    def navigate(self, url: str) -> None:
        """Open a URL in this tab and wait until it is loaded."""
        loaded = len(self.events("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        self.await_true(lambda: len(self.events("Page.loadEventFired")) > loaded)

    def show(self, html: str) -> None:
        """Show a page that comes from no server."""
        frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self.call("Page.setDocumentContent", frameId=frame, html=html)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression; None while the page is replaced. Works without scripts, too."""
        try:
            return self.call("Runtime.evaluate", expression=expression)["result"].get("value")
        except BrowserError:
            return None

    @property
    def text(self) -> str:
        """What the page shows."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    @property
    def url(self) -> str:
        """The URL of the page."""
        return str(self.evaluate("location.href"))

    def await_true(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, and receive the events meanwhile."""

        def receive_and_test() -> bool:
            self.evaluate("0")
            return condition()

        await_true(receive_and_test, lambda: f"the page shows {self.text!r}")

    def events(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of this kind, in order."""
        return [
            event["params"]
            for event in self.browser.events
            if event["method"] == method and event.get("sessionId") == self.session
        ]

    def requests(self, kind: str = "") -> list[str]:
        """Return the URLs that the tab has requested; `kind`: such as `Document` or `Fetch`, "" = all."""
        sent = self.events("Network.requestWillBeSent")
        return [each["request"]["url"] for each in sent if kind in {"", each["type"]}]

    def refused(self) -> list[str]:
        """Return the types of the requests that met a closed port."""
        failed = self.events("Network.loadingFailed")
        return [each["type"] for each in failed if each["errorText"] == "net::ERR_CONNECTION_REFUSED"]

    def statuses(self, kind: str) -> list[int]:
        """Return the status of each answer to a request of this kind."""
        received = self.events("Network.responseReceived")
        return [each["response"]["status"] for each in received if each["type"] == kind]

    def errors(self) -> list[str]:
        """Return the errors of the page: exceptions, what it logs, and what a policy forbids.

        Chromium logs each answer of 503 and each refused connection, too; those are the placeholder's promise.
        """
        logged = [each["entry"] for each in self.events("Log.entryAdded")]
        return [
            *(each["text"] for each in logged if each["source"] != "network" and each["level"] == "error"),
            *(str(each) for each in self.events("Runtime.exceptionThrown")),
            *(str(each) for each in self.events("Runtime.consoleAPICalled")),
        ]

    def accessible(self) -> list[tuple[str, str]]:
        """Return role and name of what assistive technology finds, in order."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
        ]

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the page."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(prefix="gate-browser-", ignore_cleanup_errors=True) as profile:
        read_by_browser, to_browser = os.pipe()
        from_browser, written_by_browser = os.pipe()
        # The browser expects its pipes as the descriptors 3 and 4.
        redirected = f'exec "$@" 3<&{read_by_browser} 4>&{written_by_browser}'
        process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"],
            pass_fds=[read_by_browser, written_by_browser],
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_browser)
        os.close(written_by_browser)
        try:
            yield Browser(process, to_browser, from_browser)
        finally:
            os.close(to_browser)  # the browser and its child processes exit
            try:
                process.wait(TIMEOUT)
            finally:
                process.kill()
                process.wait()
                os.close(from_browser)
