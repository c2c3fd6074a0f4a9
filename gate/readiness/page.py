"""The page that the placeholder shows in a browser: gate's own, or the file of GATE_PLACEHOLDER_PAGE.

A page that reloads by a timer is replaced by the browser's error page while the port is closed between the placeholder
and the server, and then it reloads no more (docs/hazards.md, 17). So a script asks first, and reloads when the server
answers. Without scripts, or where a proxy forbids them, the header `Refresh` reloads the page.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from typing import NamedTuple

from gate.errors import BadSettings, ResourceShortage
from gate.files import read_regular_file, why_unreadable

MAX_PAGE_SIZE = 128 << 10
"""Bytes of a page: each of up to 256 connections (`http_server.MAX_CONNECTIONS`) may hold a copy."""

REFRESH_INTERVAL = 20
"""Seconds between two reloads without scripts. A reload interrupts a screen reader, and may meet the closed port."""

MAX_QUERY_LENGTH = 2000
"""Bytes of a query string in the header `Refresh`: nginx refuses answers whose headers exceed 4 KB."""

STYLE = """
:root { color-scheme: light dark; --background: #f3f5f8; --surface: #ffffff; --text: #1c2430; --link: #0a4fa8;
  --line: #7a8699; }
@media (prefers-color-scheme: dark) {
  :root { --background: #10151c; --surface: #19212b; --text: #e4e9f0; --link: #8ab8ff; --line: #76859a; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; padding: min(1rem, 4vw); display: flex; background: var(--background);
  color: var(--text); font: 1.125rem/1.6 system-ui, sans-serif; }
main { margin: auto; width: 100%; max-width: 36rem; padding: min(1.5rem, 5vw); background: var(--surface);
  border: 1px solid var(--line); border-radius: .75rem; overflow-wrap: anywhere; }
h1 { margin: 0 0 .5rem; font-size: min(1.75rem, 14vw); line-height: 1.25; }
h2 { margin: 1.5rem 0 .5rem; font-size: 1.125rem; }
p, pre { margin: 0 0 1rem; }
main > :last-child { margin-bottom: 0; }
pre { font: .9375rem/1.5 ui-monospace, monospace; white-space: pre-wrap; }
a { color: var(--link); }
a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
"""

SCRIPT = """
addEventListener("load", () => setTimeout(() => {
  stop(); // cancels the header Refresh: from here on, the page reloads when the server answers
  const ask = () => fetch(location.href, {method: "HEAD", cache: "no-store", redirect: "manual"}).then(
    answer => answer.status < 502 ? location.reload() : again(),
    again); // the port is closed for a moment, until the server opens it
  const again = () => setTimeout(ask, 5000);
  again();
}));
"""
"""Answers of 502 to 504 come from the placeholder, or from a proxy that does not reach the server."""

UPDATING = "This service is being updated."
RELOADING = f"""<p role="status">{UPDATING} This page reloads as soon as the service is back.</p>
<p><a href="">Try again now</a></p>"""
NOT_PROCESSED = f"""<p role="status">{UPDATING} What you sent was not processed.</p>
<p>Please go back, and send it again in a few minutes.</p>"""
"""For a form that was sent: a reload would show the service, and hide that the input is lost."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Back soon</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>Back soon</h1>
{content}
</main>
{script}</body>
</html>
"""


class Page(NamedTuple):
    """A page in UTF-8, and its headers besides the content's type and length."""

    body: bytes
    headers: tuple[tuple[str, str], ...]


def own_page(query: bytes, *, details: str = "", reloads: bool = True) -> Page:
    """Return gate's own page; `query`: the request's query string, `details`: text for operators, not for visitors."""
    content = RELOADING if reloads else NOT_PROCESSED
    if details:
        content += f"\n<h2>Details</h2>\n<pre>{escape(details)}</pre>"
    script = f"<script>{SCRIPT}</script>\n" if reloads else ""
    body = PAGE.format(style=STYLE, content=content, script=script)
    policy = ("content-security-policy", _content_security_policy())
    return Page(body.encode(), (policy, *refresh_header(query, reloads=reloads)))


def custom_page(content: bytes, query: bytes, *, reloads: bool = True) -> Page:
    """Return the operator's page, unchanged. Its author decides what it loads, so there is no policy."""
    return Page(content, refresh_header(query, reloads=reloads))


def refresh_header(query: bytes, *, reloads: bool) -> tuple[tuple[str, str], ...]:
    """Return the header that reloads the page without scripts; it is absent where the request was not a GET.

    It names the same path by the query string alone, also without one: Chromium reloads no page whose URL has a
    fragment otherwise. Nothing else of the request is repeated, so the header leads to no other host.
    """
    if not reloads:
        return ()
    is_safe = len(query) <= MAX_QUERY_LENGTH and query.isascii() and query.decode().isprintable()
    return (("refresh", f"{REFRESH_INTERVAL}; url=?{query.decode()}" if is_safe else str(REFRESH_INTERVAL)),)


@cache
def _content_security_policy() -> str:
    """Allow the page's own style and script and requests to its own host, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def read_page(path: str) -> bytes:
    """Return the content of the file of GATE_PLACEHOLDER_PAGE; raises `BadSettings` with what is wrong with it."""
    try:
        content = read_regular_file(path, MAX_PAGE_SIZE)
        content.decode()
    except OSError as error:
        raise ResourceShortage.of(error) or _unusable(path, why_unreadable(error)) from None
    except UnicodeDecodeError as error:
        raise _unusable(path, f"byte {error.start} is not UTF-8 text") from None
    if not content.strip():
        raise _unusable(path, "it is empty")
    return content


def _unusable(path: str, reason: str) -> BadSettings:
    return BadSettings(
        f"GATE_PLACEHOLDER_PAGE: gate cannot use {path} as the page for visitors: {reason}. Name a file with a whole "
        f"HTML page in UTF-8 of at most {MAX_PAGE_SIZE >> 10} KB, or unset the variable for gate's own page."
    )
