"""Redacts every known password, in any encoding, and whatever is in the place of a password.

`hide` is for text that gate did not write: it is called where such text enters, before anything is cut off.
`hide_in_message` is for gate's own sentences. It leaves a password that is an ordinary word, since the sentence may
need that word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from gate.text import printable

# Patterns as text: `re` compiles them at the first use, and few results of a check have anything to redact.
_SCHEME_AND_USER = r"://[^:/?#\s@]*:"
_PORT = r"\d{1,5}(?:[/,?#:'\"`)\]>;]|\.?\Z)(?!\.{3}|…)"
_NETLOC = r"(['\"])([^'\":/\s@]{1,64}:)[^'\"\s]+(@[^'\"\s@]+\1)"
"""`'user:password@host'`, as URL parsers quote it."""

_REST_OF_URL = r"((?:\.{3}|…)\s?)[^\s@]{1,128}(?=@[\w.\[-]+[/:])"
"""The end of a URL whose beginning was cut off: `...word@host/database`."""

_PARAMETER = (
    r"(?i)((?:password|passwd|passphrase|pwd)\\{0,8}['\"]?)(\s*[=:]\s*)"
    r"(\"[^\"]*\"|'(?:[^'\\]|\\.)*'|\\{1,8}\"[^\"]*\"?|\\{1,8}'[^']*'?|[^\s&,;)]+)"
)
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

MARKS = ("password", "passwd", "passphrase", "pwd", "identified")
"""What a text contains if `_PARAMETER` or `_STATEMENT` can match; other letters may match without case (Turkish i)."""

HIDDEN = "***"

EXAMPLE = "://user:password@host"
"""How gate's own messages write a URL; it is not a secret."""

MIN_SECRET_LENGTH = 3
"""A shorter secret is redacted only in the place of a password: its characters are everywhere else, too."""

MAX_WORD_LENGTH = 20
"""Letters of an ordinary word; a longer password of letters is a random one."""

MAX_FOREIGN_TEXT = 100_000
"""Characters of a foreign text that are read; all that gate shows of it is at the beginning."""

_known: set[str] = set()
"""Every password that this process has read, so that an old one is redacted after a rotation, too."""

_sources: dict[str, Callable[[], AbstractSet[str]]] = {}
"""Name -> a function that reads further passwords, called when there is foreign text to redact."""


def remember(secrets: AbstractSet[str]) -> None:
    """Redact these from now on."""
    _known.update(secrets)


def forget(secrets: AbstractSet[str]) -> None:
    """Do not redact these any longer: they are not secrets."""
    _known.difference_update(secrets)


def learn_from(name: str, source: Callable[[], AbstractSet[str]]) -> None:
    """Call this function for passwords whenever there is foreign text, since files change; it must not raise.

    It replaces an earlier one of this name.
    """
    _sources[name] = source


def learn() -> None:
    """Read the passwords of all sources."""
    for source in _sources.values():
        remember(source())


def hide(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """Redact foreign text: these secrets, every known password, parts of them beside a cut, and what has their place.

    Call it before the text is cut: afterwards a part of a password may be left that nothing resembles.
    """
    learn()
    known = frozenset(s for s in secrets | _known if len(s) >= MIN_SECRET_LENGTH)
    text = _hide_fragments(_hide_known(text, known), known)
    return _hide_by_context(re.sub(_REST_OF_URL, rf"\1{HIDDEN}", text))


def hide_in_message(text: str) -> str:
    """Redact a message of gate, whose foreign parts `hide` has redacted, without cutting words of the sentence."""
    known = frozenset(s for s in _known if len(s) >= MIN_SECRET_LENGTH and not _is_ordinary_word(s))
    return _hide_by_context(_hide_known(text, known))


def hide_in_value(value: Any) -> Any:
    """Redact each text in a value that JSON can represent, as `hide_in_message` does; keys are kept."""
    if isinstance(value, str):
        return hide_in_message(value)
    if isinstance(value, list | tuple):
        return [hide_in_value(each) for each in value]
    if isinstance(value, dict):
        return {key: hide_in_value(each) for key, each in value.items()}
    return value if value is None or isinstance(value, int | float) else hide_in_message(str(value))


def shorten(text: str, max_length: int, secrets: frozenset[str] = frozenset()) -> str:
    """Redact foreign text, put it on one line, and return its first characters."""
    return " ".join(hide(text[:MAX_FOREIGN_TEXT], secrets).split())[:max_length]


def spellings(password: str) -> frozenset[str]:
    """Return what this part of a URL may mean: itself, or without its percent-encoding.

    `hide` also finds each of them in every form in which URLs, drivers, SQL, shells and Python write it.
    """
    return frozenset({password, unquote(password), unquote_plus(password)} - {""})


def _is_ordinary_word(secret: str) -> bool:
    """Whether a sentence may contain it: `gate`, `INFO`, `Starting`, but not `xKqpZv`, `s3cret` or `two-words`."""
    one_case = secret.islower() or secret.isupper() or secret.istitle()
    return secret.isalpha() and one_case and len(secret) <= MAX_WORD_LENGTH


def _hide_by_context(text: str) -> str:
    if "://" in text:
        text = _hide_urls(text)
    if "@" in text:
        text = re.sub(_NETLOC, rf"\1\2{HIDDEN}\3", text)
    if text.isascii() and not any(mark in text.lower() for mark in MARKS):
        return text
    return re.sub(_STATEMENT, rf"\1{HIDDEN}", re.sub(_PARAMETER, rf"\1\2{HIDDEN}", text))


def _hide_urls(text: str) -> str:
    """Redact the password in each word that has the form of a URL; the time is linear."""
    pieces, done = [], 0
    for word in re.finditer(r"\S+", text):
        if word.start() >= done and "://" in word[0]:
            begin, end = _password_of_url(text, *word.span())
            if begin < end:
                pieces += [text[done:begin], HIDDEN]
                done = end
    return "".join([*pieces, text[done:]])


def _password_of_url(text: str, begin: int, end: int) -> tuple[int, int]:
    """Return the part of a word between `://user:` and the last `@`; (0, 0) if there is none.

    Without an `@`, the rest was cut off, or the password contains a space: the part ends at the next `@` of the line,
    else with the word.
    """
    word = text[begin:end]
    at = word.rfind("@")
    start = re.search(_SCHEME_AND_USER, word[: max(at, 0)]) or re.search(_SCHEME_AND_USER, word)
    if not start or word.startswith(EXAMPLE, start.start()):
        return 0, 0
    if start.end() <= at:
        return begin + start.end(), begin + at
    rest = word[start.end() :].rstrip("'\"`)]>,;.…")
    further = re.match(r"[^\n'\"@]{1,128}(?=@)", text[end : end + 130])
    if re.match(_PORT, word[start.end() :]) and not (
        further and re.match(r"@[\w.-]+[:/]", text[end + further.end() :])
    ):
        return 0, 0
    if not rest or "[" in start[0] or rest.startswith(HIDDEN):
        return 0, 0
    return begin + start.end(), end + further.end() if further else begin + start.end() + len(rest)


def _hide_known(text: str, secrets: AbstractSet[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if secret.isascii() and secret.isalnum():
            text = text.replace(secret, HIDDEN)
        elif max(re.split(r"[\W_]+", secret, flags=re.ASCII), key=len) in text:
            text = _any_spelling(secret).sub(HIDDEN, text)
    return text


@lru_cache(maxsize=256)
def _any_spelling(secret: str) -> re.Pattern[str]:
    """Return a pattern for the secret in which each character may be escaped as any language does, several times.

    Every repetition is bounded, so that the time is linear.
    """
    runs = ["".join(run) for _, run in groupby(secret, key=lambda char: " " if char.isspace() else char)]
    return re.compile(
        "".join(_any_spelling_of_space(run) if run.isspace() else _any_spelling_of_run(run) for run in runs)
    )


def _any_spelling_of_space(run: str) -> str:
    """White space, which may have been put on one line."""
    escaped = "|".join(f"{_percent(char)}|{_escapes(char)}|{_entities(char)}" for char in sorted({*run, *"\t\n\r "}))
    return rf"(?:\\{{0,8}}[\s+]|\\{{1,8}}[nrtvf]|&nbsp;|{escaped}){{1,{4 * len(run)}}}"


def _any_spelling_of_run(run: str) -> str:
    """The same character, once or several times."""
    char, length = run[0], len(run)
    if char.isascii() and char.isalnum():
        return char * length
    if char == "\\":
        # `repr` doubles it, and `repr` of that doubles it again.
        return rf"(?:\\{{{length},{8 * length}}}|(?:{_percent(char)}|{_escapes(char)}|{_entities(char)}){{{length}}})"
    alternatives = [_escapes(char), rf"\\{{0,8}}(?:{_percent(char)}|{_entities(char)}|{re.escape(char)})"]
    if char == "'":
        alternatives = [_shell_quote(), *alternatives]
    most = 4 * length if char in DOUBLED else length
    return rf"(?:{'|'.join(alternatives)}){{{length},{most}}}"


DOUBLED = "'\"%{}$"
"""Characters that SQL, ini files, formats or Compose files double; two of them if two languages do."""


def _shell_quote() -> str:
    """Return a pattern for `'"'"'`, which is how `shlex.quote` writes a single quote."""
    single, double = (rf"(?:\\{{0,8}}{char}|{_entities(char)})" for char in "'\"")
    return f"{single}{double}{single}{double}{single}"


ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
"""HTML's names."""

CONTROL_LETTERS = {"\n": "n", "\r": "r", "\t": "t", "\0": "0", "\a": "a", "\b": "b", "\f": "f", "\v": "v"}


def _percent(char: str) -> str:
    """Percent-encoded, also several times: `%40`, `%2540`."""
    return "".join(f"%(?:25){{0,3}}{_hexadecimal(octet, 2)}" for octet in _octets(char))


def _escapes(char: str) -> str:
    r"""The escapes of Python, JSON and C: `\x40`, `\u0040`, `\U00000040`, `\100`, `\n`, and those of each byte."""
    code = ord(char)
    pair = char.encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(pair[n : n + 2]) for n in range(0, len(pair), 2)]
    escapes = [
        "".join(rf"\\{{1,8}}x{_hexadecimal(octet, 2)}" for octet in _octets(char)),
        "".join(rf"\\{{1,8}}{octet:03o}" for octet in _octets(char)),
        "".join(rf"\\{{1,8}}u{_hexadecimal(unit, 4)}" for unit in units),
        rf"\\{{1,8}}U{_hexadecimal(code, 8)}",
    ]
    if code < 1 << 8:
        escapes.append(rf"\\{{1,8}}x{_hexadecimal(code, 2)}")
    if char in CONTROL_LETTERS:
        escapes.append(rf"\\{{1,8}}{CONTROL_LETTERS[char]}")
    return "|".join(escapes)


def _entities(char: str) -> str:
    """HTML's references: `&#39;`, `&#x27;`, `&apos;`; `&amp;#39;` if it was escaped twice."""
    hexadecimal = _hexadecimal(ord(char), 0)
    references = [f"#0{{0,6}}{ord(char)}", f"#[xX]0{{0,6}}{hexadecimal}"]
    if char in ENTITIES:
        references.append(ENTITIES[char])
    return f"&(?:amp;){{0,3}}(?:{'|'.join(references)});"


def _hexadecimal(number: int, digits: int) -> str:
    """Hexadecimal digits of any case."""
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in f"{number:0{digits}x}")


def _octets(char: str) -> bytes:
    try:
        return char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return char.encode("utf-8", "surrogatepass")


# ---- parts of a secret

_EDGE = r"\.{3}|…|\\?[\"'`]|\\?\n|\\[nrt]|\*{3}"
"""What may be beside a part of a secret: a mark that something was cut off, a quote, the end of a line."""

_FRAGMENT = MIN_SECRET_LENGTH
"""Characters of the shortest part that is redacted."""


def _hide_fragments(text: str, secrets: frozenset[str]) -> str:
    """Redact the end of a secret behind an edge of the text, its beginning before one, and any part between two."""
    index = _fragments(secrets)
    if not index:
        return text
    lefts, rights = _edges(text)
    spans = sorted([*_behind_edges(text, lefts, rights, index), *_before_edges(text, lefts, rights, index)])
    pieces, done = [], 0
    for begin, end in spans:
        if end > done:
            pieces += [text[done:begin], HIDDEN] if begin >= done else []
            done = end
    return "".join([*pieces, text[done:]])


def _edges(text: str) -> tuple[set[int], set[int]]:
    """Return the positions where a part may begin, and those where one may end."""
    lefts, rights = {0}, {len(text)}
    for edge in re.finditer(_EDGE, text):
        lefts |= {edge.end(), edge.end() + text.startswith(" ", edge.end())}
        rights |= {edge.start(), edge.start() - text.endswith(" ", 0, edge.start())}
        if text[edge.start()] == "\\":  # it may escape the quote, or be the last character of the part
            rights.add(edge.start() + 1)
    return lefts, rights


_Index = Mapping[str, list[tuple[str, int]]]
"""The first characters of a part -> each form of a secret that contains them, and where."""


def _behind_edges(text: str, lefts: set[int], rights: set[int], index: _Index) -> Iterable[tuple[int, int]]:
    for left in lefts:
        for form, begin in index.get(text[left : left + _FRAGMENT], ()):
            length = _FRAGMENT
            while begin + length < len(form) and text.startswith(form[begin + length], left + length):
                length += 1
            if begin + length == len(form) or left + length in rights:
                yield left, left + length


def _before_edges(text: str, lefts: set[int], rights: set[int], index: _Index) -> Iterable[tuple[int, int]]:
    for right in rights:
        for form, begin in index.get(text[max(right - _FRAGMENT, 0) : right], ()):
            start, length = begin, _FRAGMENT
            while start > 0 and right > length and text[right - length - 1] == form[start - 1]:
                start, length = start - 1, length + 1
            if start == 0 or right - length in lefts:
                yield right - length, right


@lru_cache(maxsize=4)
def _fragments(secrets: frozenset[str]) -> _Index:
    index: dict[str, list[tuple[str, int]]] = {}
    for form in {form for secret in secrets for form in _written(secret)}:
        for begin in range(len(form) - _FRAGMENT + 1):
            index.setdefault(form[begin : begin + _FRAGMENT], []).append((form, begin))
    return index


def _written(secret: str) -> set[str]:
    """The usual forms of a secret, in which a part of it is recognized."""
    octets = b"".join(map(_octets, secret))
    encoded = {quote(octets), quote(octets, safe=""), quote(octets, safe=" +")}
    lower = {re.sub("%..", lambda hexadecimal: hexadecimal[0].lower(), each) for each in encoded}
    quoted = {secret.replace(mark, 2 * mark) for mark in "'\"%"} | {secret.replace("'", "\\'")}
    python = {repr(secret)[1:-1], ascii(secret)[1:-1], repr(octets)[2:-1]}
    twice = {quote(each, safe="") for each in encoded}
    plain = {secret, " ".join(secret.split()), printable(secret), secret.lower()}
    return plain.union(encoded, lower, quoted, python, twice)
