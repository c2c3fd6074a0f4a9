"""One migration script as text -> its revision. It is parsed with `ast` and never run."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from gate.bindings import NAMES, Opaque, Value, bindings, line_of
from gate.errors import BadScripts
from gate.revisions import Revision

_T = TypeVar("_T")
_LEGACY = re.compile(r"([a-f0-9]+)\.py$")


class NotLiteral(NamedTuple):
    """A script that reading does not explain: `name` is computed in `path`, `line`."""

    path: str
    line: int
    name: str


class Script(NamedTuple):
    """A revision as read; `opaque_labels` = its branch labels are computed."""

    revision: Revision
    opaque_labels: bool = False


def read_script(source: bytes, path: str, file_name: str) -> Script | NotLiteral:
    """Read one migration script.

    Raises `BadScripts` with file and line for what Python itself could not read, and for a script without
    a revision or a down_revision.
    """
    module = parse(source, path)
    bound = bindings(module)
    for name in NAMES[:3]:
        if isinstance(bound.get(name), Opaque):
            return NotLiteral(path, line_of(module, name), name)
    labels = bound.get("branch_labels")
    revision = Revision(
        id=_id(bound, path, file_name),
        down=_down(bound, path),
        depends_on=_tuple(bound.get("depends_on")),
        labels=() if isinstance(labels, Opaque) else _tuple(labels),
        message=_message(module),
        path=path,
    )
    return Script(revision, isinstance(labels, Opaque))


def check_syntax(source: bytes, path: str) -> None:
    """See that Python can read the whole script, without building a tree of it."""
    _readable(lambda: symtable.symtable(source, path, "exec"), path)  # type: ignore[arg-type] # bytes as well


def parse(source: bytes, path: str) -> ast.Module:
    """Parse as Python would, whatever encoding the file declares."""
    return _readable(lambda: ast.parse(source, path), path)


def _readable(parse: Callable[[], _T], path: str) -> _T:
    try:
        return parse()
    except SyntaxError as error:
        raise BadScripts(f"{path}, line {error.lineno or 1}: Python cannot read this script: {error.msg}.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadScripts(
            f"{path}, line 1: Python cannot read this script: {str(error) or type(error).__name__}."
        ) from None


def _id(bound: dict[str, Value | Opaque], path: str, file_name: str) -> str:
    value = bound.get("revision")
    legacy = _LEGACY.match(file_name)
    if isinstance(value, str):
        return value
    if "revision" not in bound and legacy:
        return legacy[1]
    raise BadScripts(f'{path}, line 1: the script sets no revision id; Alembic needs `revision = "…"` in it.')


def _down(bound: dict[str, Value | Opaque], path: str) -> tuple[str, ...]:
    if "down_revision" not in bound:
        raise BadScripts(f"{path}, line 1: the script sets no down_revision; write `down_revision = None` for a base.")
    return _tuple(bound["down_revision"])


def _tuple(value: Value | Opaque) -> tuple[str, ...]:
    if value is None or isinstance(value, Opaque):
        return ()
    return (value,) if isinstance(value, str) else value


def _message(module: ast.Module) -> str:
    text = ast.get_docstring(module, clean=False) or ""
    return " ".join(text.strip().split("\n\n")[0].split())
