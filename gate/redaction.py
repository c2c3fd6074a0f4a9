"""Redacts every known password, in any encoding, and whatever is in the place of a password."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from urllib.parse import quote, quote_plus, unquote, unquote_plus

# Patterns as text: `re` compiles them at the first use, and a check that succeeds has nothing to redact.
_WORD = r"\S+"
_SCHEME_AND_USER = r"://[^:/?#\s@]*:"
_PARAMETER = r"(?i)(password['\"]?|passwd['\"]?|pwd['\"]?)(\s*[=:]\s*)(\"[^\"]*\"|'(?:[^'\\]|\\.)*'|[^\s&,;)]+)"
_SPACE = r"(?:\s|\\[nrt])"
_LITERAL = (
    r"(?:[en]|u&|_\w{1,32}\s?)?\\*"
    r"(?:'(?:[^'\\]+|\\+[^'\\]|'')*(?:'|\\*\Z|\\+'.*)"
    r'|"(?:[^"\\]+|\\+[^"\\]|"")*(?:"|\\*\Z|\\+".*)'
    r"|\$(?P<tag>\w{0,63})\$.*?(?:\$(?P=tag)\$|\Z))"
)
"""An SQL literal. Whether a quote after a backslash ends it depends on dialect and settings: hide all from there on."""

_CONTINUED = r"'[^']*(?:'|\Z)"
"""Literals that are separated by a line break only are one literal (SQL standard)."""

_PASSWORD_WORD = rf"(?:(?<![\"'`\w])password|password(?=[\s(\\]))(?:{_SPACE}+for{_SPACE}+\S{{1,200}}{_SPACE}*=)?"
_IDENTIFIED = (
    rf"(?<!revision )identified{_SPACE}+(?:(?:with|via){_SPACE}+\S{{1,64}}{_SPACE}+)?(?:by|as|using)"
    rf"(?:{_SPACE}+password)?"
)
_STATEMENT = (
    rf"(?is)((?:{_PASSWORD_WORD}|{_IDENTIFIED})(?:{_SPACE}*\({_SPACE}*|{_SPACE}*)){_LITERAL}(?:{_SPACE}+{_CONTINUED})*"
)
"""`PASSWORD 'x'` and `IDENTIFIED BY 'x'` in SQL; not "revision identified by 'x'", which Alembic writes."""

HIDDEN = "***"

MIN_SECRET_LENGTH = 3
"""A shorter secret is redacted only in the place of a password: its characters are everywhere else, too."""

_known: set[str] = set()
"""Every password that this process has read, so that an old one is redacted after a rotation, too."""


def remember(secrets: AbstractSet[str]) -> None:
    """Redact these from now on."""
    _known.update(secrets)


def forget(secrets: AbstractSet[str]) -> None:
    """Do not redact these any longer: they are not secrets."""
    _known.difference_update(secrets)


def hide(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """Redact these secrets, every known password, and whatever is in the place of a password in a URL or in SQL."""
    for secret in sorted((s for s in secrets | _known if len(s) >= MIN_SECRET_LENGTH), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = re.sub(_WORD, _redact_url, text)
    return re.sub(_STATEMENT, rf"\1{HIDDEN}", re.sub(_PARAMETER, rf"\1\2{HIDDEN}", text))


def _redact_url(word: re.Match[str]) -> str:
    """Redact between `://user:` and the last `@` of a word; one search for each word, so that the time is linear."""
    text = word[0]
    at = text.rfind("@")
    start = re.search(_SCHEME_AND_USER, text[: max(at, 0)])
    return f"{text[: start.end()]}{HIDDEN}{text[at:]}" if start else text


def spellings(password: str) -> frozenset[str]:
    """Return every form in which URLs, drivers and Python write this password."""
    if not password:
        return frozenset()
    decoded = unquote(password)
    content = decoded.encode("utf-8", "surrogateescape")
    encoded = {quote(content), quote(content, safe=""), quote(content, safe=" +"), quote_plus(content)}
    lower = {re.sub("%..", lambda hexadecimal: hexadecimal[0].lower(), spelling) for spelling in encoded}
    return frozenset({password, decoded, unquote_plus(password), repr(decoded)[1:-1], *encoded, *lower})
