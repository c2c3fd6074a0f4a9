"""Draws docs/placeholder.png, gate's page for visitors in both colour schemes: `python -m docs.screenshot`.

Needs Chromium, and is to be run after a change of the page.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory

from gate.readiness.page import own_page
from tests.support.browser import CHROMIUM, Browser, Tab, running_browser

PICTURE = Path(__file__).with_name("placeholder.png")
WIDTH, HEIGHT = 480, 260
"""Pixels of one page."""


def main() -> None:
    """Take a screenshot in each scheme, and one of both side by side."""
    if CHROMIUM is None:
        sys.exit("docs/placeholder.png needs chromium-headless-shell or chromium.")
    with running_browser() as browser, TemporaryDirectory() as folder:
        pages = [_screenshot(browser, scheme, Path(folder)) for scheme in ("light", "dark")]
        images = "".join(f'<img src="data:image/png;base64,{b64encode(page).decode()}">' for page in pages)
        both = browser.open("about:blank", width=len(pages) * WIDTH, height=HEIGHT)
        both.show(f'<body style="margin: 0; display: flex">{images}')
        both.await_true(lambda: bool(both.evaluate("[...document.images].every(image => image.complete)")))
        both.screenshot(PICTURE)


def _screenshot(browser: Browser, scheme: str, folder: Path) -> bytes:
    tab: Tab = browser.open("about:blank", scheme=scheme, width=WIDTH, height=HEIGHT)
    tab.show(own_page(b"").body.decode())
    tab.screenshot(folder / "page.png")
    return (folder / "page.png").read_bytes()


if __name__ == "__main__":
    main()
