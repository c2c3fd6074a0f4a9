"""One script or env.py as text -> what it assigns. It is parsed with `ast` and never run.

Statements are followed in their order, so that constants, annotations, implicit concatenation and later
assignments mean what they mean to Python. Whatever is computed is `OPAQUE`: somebody else must be asked.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from gate.errors import BadScripts
from gate.revisions import Revision
from gate.urls import is_text

_T = TypeVar("_T")
Value = str | tuple[str, ...] | None
NAMES = ("revision", "down_revision", "depends_on", "branch_labels")
REFLECTION = frozenset("globals locals vars exec eval setattr __import__ __globals__ f_globals __dict__".split())
"""With these a module can assign what no reader of text can see."""

_LEGACY = re.compile(r"([a-f0-9]+)\.py$")


class Opaque:
    """What stands for a value that only running the code would tell."""


OPAQUE: Final = Opaque()


@dataclass(frozen=True, slots=True)
class NotLiteral:
    """A script that reading does not explain: `name` is computed in `path`, `line`."""

    path: str
    line: int
    name: str


@dataclass(frozen=True, slots=True)
class Script:
    """A revision as read; `opaque_labels` = its branch labels are computed."""

    revision: Revision
    opaque_labels: bool = False


@dataclass(frozen=True, slots=True)
class VersionTable:
    """Where env.py says that the stamp is; `computed` = it does not say so in literals."""

    table: str | None = None
    schema: str | None = None
    computed: bool = False


def read_script(source: bytes, path: str, file_name: str) -> Script | NotLiteral:
    """Read one migration script.

    Raises `BadScripts` with file and line for what Python itself could not read, and for a script without
    a revision or a down_revision.
    """
    module = parse(source, path)
    bound = _bindings(module)
    for name in NAMES[:3]:
        if isinstance(bound.get(name), Opaque):
            return NotLiteral(path, _line_of(module, name), name)
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


def read_environment(source: bytes, path: str) -> VersionTable:
    """Read the literals that env.py hands to `context.configure(version_table=…, version_table_schema=…)`.

    It does not matter by which way they reach the call: as keywords, or through a dict that is unpacked.
    """
    module = parse(source, path)
    bound = _bindings(module)
    local = _bound_in_functions(module)
    table = {_value(node, bound, local) for node in _passed(module, "version_table")}
    schema = {_value(node, bound, local) for node in _passed(module, "version_table_schema")}
    return VersionTable(
        _only(table),
        _only(schema),
        computed=any(len(found) > 1 or any(not _is_name(v) for v in found) for found in (table, schema)),
    )


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


def _bindings(module: ast.Module) -> dict[str, Value | Opaque]:
    bound: dict[str, Value | Opaque] = {}
    for statement in module.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                found = _evaluate(value, bound)
                bound.update(dict.fromkeys(_bound_by(value), OPAQUE))
                for target in targets:
                    _assign(target, found, bound)
            case ast.AnnAssign(target=target, value=ast.expr() as value, annotation=annotation):
                found = _evaluate(value, bound)
                bound.update(dict.fromkeys((*_bound_by(value), *_bound_by(annotation)), OPAQUE))
                _assign(target, found, bound)
            case ast.AnnAssign(annotation=annotation):
                bound.update(dict.fromkeys(_bound_by(annotation), OPAQUE))
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                bound.update(dict.fromkeys((*bound, *NAMES), OPAQUE))
            case _:
                bound.update(dict.fromkeys(_bound_by(statement), OPAQUE))
        if _reflects(statement):
            bound.update(dict.fromkeys(NAMES, OPAQUE))
    if "__getattr__" in bound:  # it answers for every name that the module lacks (PEP 562)
        bound.update(dict.fromkeys((name for name in NAMES if name not in bound), OPAQUE))
    return bound


def _assign(target: ast.expr, value: Value | Opaque, bound: dict[str, Value | Opaque]) -> None:
    match target:
        case ast.Name(id=name):
            bound[name] = value
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            values: tuple[Value | Opaque, ...] = (OPAQUE,) * len(parts)
            if isinstance(value, tuple) and len(value) == len(parts):
                values = value
            for part, part_value in zip(parts, values, strict=True):
                _assign(part, part_value, bound)
        case _:
            bound.update(dict.fromkeys(_bound_by(target), OPAQUE))


def _evaluate(node: ast.expr, bound: dict[str, Value | Opaque]) -> Value | Opaque:
    match node:
        case ast.Constant(value=str() | None as value):
            return value
        case ast.Name(id=name):
            return bound.get(name, OPAQUE)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            values = [_evaluate(part, bound) for part in parts]
            strings = tuple(value for value in values if isinstance(value, str))
            return strings if len(strings) == len(values) else OPAQUE
        case _:
            return OPAQUE


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Every name that a statement may bind in its own scope."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
            yield from (each for inner in ast.walk(node) if isinstance(inner, ast.Global) for each in inner.names)
            yield from _bound_around_body(node)
            return
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            yield from (inner.target.id for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
            return
        case ast.Lambda(args=arguments):
            yield from _bound_by(arguments)
            return
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.split(".")[0] for alias in aliases)
            if any(alias.name == "*" for alias in aliases):
                yield from NAMES
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
    for child in ast.iter_child_nodes(node):
        yield from _bound_by(child)


def _bound_around_body(node: ast.AST) -> Iterator[str]:
    """What decorators, defaults, annotations and bases bind: they run where the definition stands."""
    for name, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) and name != "body" else [value]:
            if isinstance(part, ast.AST):
                yield from _bound_by(part)


def _reflects(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Import | ast.ImportFrom):
        return False
    names = (getattr(node, "id", None) or getattr(node, "attr", None) for node in ast.walk(statement))
    return any(name in REFLECTION for name in names)


def _line_of(module: ast.Module, name: str) -> int:
    return max((s.lineno for s in module.body if name in {*_bound_by(s)}), default=1)


def _passed(module: ast.Module, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(module):
        match node:
            case ast.keyword(arg=str(arg), value=value) if arg == name:
                yield value
            case ast.Dict(keys=keys, values=values):
                yield from (
                    v for k, v in zip(keys, values, strict=True) if isinstance(k, ast.Constant) and k.value == name
                )
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=key))], value=value) if key == name:
                yield value


def _value(node: ast.expr, bound: dict[str, Value | Opaque], local: set[str]) -> Value | Opaque:
    if isinstance(node, ast.Name) and node.id in local:
        return OPAQUE
    return _evaluate(node, bound)


def _bound_in_functions(module: ast.Module) -> set[str]:
    functions = [n for n in ast.walk(module) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    arguments = {a.arg for f in functions for a in ast.walk(f.args) if isinstance(a, ast.arg)}
    stored = {n.id for f in functions for n in ast.walk(f) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return arguments | stored


def _is_name(value: Value | Opaque) -> bool:
    """Whether it can be sent to a server: no half of a surrogate can."""
    return value is None or (isinstance(value, str) and is_text(value))


def _only(found: set[Value | Opaque]) -> str | None:
    values = [value for value in found if isinstance(value, str) and is_text(value)]
    return values[0] if len(found) == len(values) == 1 else None
