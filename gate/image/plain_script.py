"""The plain script, as Alembic's template writes it: read by pattern, in a tenth of the time that `ast` takes.

It is taken only where the pattern explains every line that could bind a name in the module; anything else, however
harmless, is None and belongs to `script_text`, which decides. A test holds the two to the same reading.
"""

from __future__ import annotations

import ast
import re

from gate.image.revision_graph import Revision

_STRING = rb"(?:'[^'\\\n]*'|\"[^\"\\\n]*\")"
_LITERAL = rb"(?:None|%s|\((?:[ \t]*%s[ \t]*,)*(?:[ \t]*%s)?[ \t]*\))" % (_STRING, _STRING, _STRING)

_DOCSTRING = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\n)*(?P<quote>\"\"\"|''')(?P<text>[^\\]*?)(?P=quote)(?!\")[ \t]*\n")
_HEAD = re.compile(
    rb"(?:[ \t]*(?:#[^\n]*)?\n|import [\w., \t]+\n|from [\w.]+ import [\w, \t]+(?:#[^\n]*)?\n"
    rb"|(?:revision|down_revision|branch_labels|depends_on)[ \t]*(?::[ \t]*[\w.,\[\] \t|]+)?="
    rb"[ \t]*%s[ \t]*(?:#[^\n]*)?\n)*" % _LITERAL
)
_ASSIGNED = re.compile(
    rb"^(revision|down_revision|branch_labels|depends_on)[ \t]*(?::[^=\n]*)?=[ \t]*(%s)" % _LITERAL, re.MULTILINE
)
_BODY = re.compile(rb"(?:def |async def |@|class )")
_NOT_PLAIN = re.compile(
    rb"\n(?:[^ \t\n#)@dac]|d(?!ef )|a(?!sync def )|c(?!lass )"
    rb"|(?:def|async def|class)[ \t]+(?:revision|down_revision|branch_labels|depends_on)\b)"
)
"""A line of the body that is neither a definition nor a part of one, or that defines one of the names."""

_IMPORTED = re.compile(
    rb"^(?:import|from)\b[^\n]*\b(?:revision|down_revision|branch_labels|depends_on)\b", re.MULTILINE
)
_ODD_DEFINITION = re.compile(rb"^(?:async def|def|class)[ \t]*(?:\\|[^\n(:]*[^\x00-\x7f])", re.MULTILINE)
"""A definition whose name stands on another line, or is spelt in letters that Python normalises."""

_SUSPECTS = (
    b"\r",
    b"\f",
    b"\0",
    b"\x1a",
    b":=",
    b"coding:",
    b"coding=",
    b"global",
    b"locals",
    b"setattr",
    b"__import__",
    b"__getattr__",
    b"__dict__",
)
_RUNNING = (b"exec", b"eval", b"vars")
_RUNS = rb"\b(?:exec|eval|vars)\b"


def read(source: bytes, path: str) -> Revision | None:
    """The revision of a plain script; None if anything in it is not plain."""
    if _is_suspect(source):
        return None
    docstring = _DOCSTRING.match(source)
    begin = docstring.end() if docstring else 0
    head = _HEAD.match(source, begin)
    end = head.end() if head else begin
    if end < len(source) and (not _BODY.match(source, end) or _NOT_PLAIN.search(source, max(end - 1, 0))):
        return None
    if _IMPORTED.search(source, begin, end) or _ODD_DEFINITION.search(source, end):
        return None
    try:
        message = docstring["text"].decode() if docstring else ""
        found = {name: _value(text) for name, text in _ASSIGNED.findall(source[begin:end])}
    except UnicodeDecodeError:
        return None
    return _revision(found, " ".join(message.strip().split("\n\n")[0].split()), path)


def _is_suspect(source: bytes) -> bool:
    """Whether something in it may bind names by another way than it seems, or is no plain UTF-8 text."""
    for token in _SUSPECTS:
        if token in source:
            return True
    runs = any(token in source for token in _RUNNING)
    return source.startswith(b"\xef\xbb\xbf") or (runs and re.search(_RUNS, source) is not None)


def _revision(found: dict[bytes, str | tuple[str, ...] | None], message: str, path: str) -> Revision | None:
    id_ = found.get(b"revision")
    if not isinstance(id_, str) or b"down_revision" not in found:
        return None
    down, depends_on, labels = (_tuple(found.get(n)) for n in (b"down_revision", b"depends_on", b"branch_labels"))
    return Revision(id_, down, depends_on, labels, message, path)


def _value(text: bytes) -> str | tuple[str, ...] | None:
    if text == b"None":
        return None
    if text.startswith(b"("):
        value: str | tuple[str, ...] = ast.literal_eval(text.decode())
        return value
    return text[1:-1].decode()


def _tuple(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value
