"""No password in anybody's text, however it is spelt there; what came by is remembered."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from urllib.parse import quote, quote_plus, unquote, unquote_plus

# Patterns as text, which `re` compiles once they are needed: a look that finds all well has nothing to hide.
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
"""SQL's. Whether a quote behind a backslash ends it depends on dialect and settings, so all from there is hidden."""

_CONTINUED = r"'[^']*(?:'|\Z)"
"""Two literals with nothing but a line's end between them are one."""

_PASSWORD_WORD = rf"(?:(?<![\"'`\w])password|password(?=[\s(\\]))(?:{_SPACE}+for{_SPACE}+\S{{1,200}}{_SPACE}*=)?"
_IDENTIFIED = (
    rf"(?<!revision )identified{_SPACE}+(?:(?:with|via){_SPACE}+\S{{1,64}}{_SPACE}+)?(?:by|as|using)"
    rf"(?:{_SPACE}+password)?"
)
_STATEMENT = (
    rf"(?is)((?:{_PASSWORD_WORD}|{_IDENTIFIED})(?:{_SPACE}*\({_SPACE}*|{_SPACE}*)){_LITERAL}(?:{_SPACE}+{_CONTINUED})*"
)
"""`PASSWORD 'x'` and `IDENTIFIED BY 'x'`; not Alembic's own "revision identified by 'x'"."""

HIDDEN = "***"

SHORTEST = 3
"""A shorter secret is hidden only where passwords stand: elsewhere its letters say nothing about it."""

_known: set[str] = set()
"""Every password that came by in this process: `hide` knows the old one, too, after a rotation."""


def remember(secrets: AbstractSet[str]) -> None:
    """Hide these from now on."""
    _known.update(secrets)


def forget(secrets: AbstractSet[str]) -> None:
    """Do not hide these: they turned out to be no secrets."""
    _known.difference_update(secrets)


def hide(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """Hide in a foreign text these secrets, every password that was ever parsed, and what stands where passwords do."""
    for secret in sorted((s for s in secrets | _known if len(s) >= SHORTEST), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = re.sub(_WORD, _without_password, text)
    return re.sub(_STATEMENT, rf"\1{HIDDEN}", re.sub(_PARAMETER, rf"\1\2{HIDDEN}", text))


def _without_password(word: re.Match[str]) -> str:
    """Without what stands between `://user:` and the last `@`; one search for each word, however long it is."""
    text = word[0]
    at = text.rfind("@")
    before = re.search(_SCHEME_AND_USER, text[: max(at, 0)])
    return f"{text[: before.end()]}{HIDDEN}{text[at:]}" if before else text


def spellings(password: str) -> frozenset[str]:
    """Every way in which URLs, drivers and Python write this password."""
    if not password:
        return frozenset()
    decoded = unquote(password)
    content = decoded.encode("utf-8", "surrogateescape")
    encoded = {quote(content), quote(content, safe=""), quote(content, safe=" +"), quote_plus(content)}
    lower = {re.sub("%..", lambda hexadecimal: hexadecimal[0].lower(), spelling) for spelling in encoded}
    return frozenset({password, decoded, unquote_plus(password), repr(decoded)[1:-1], *encoded, *lower})
