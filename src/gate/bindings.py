"""What a module's statements bind, read from its tree and never run.

Statements are followed in their order, so that constants, annotations, implicit concatenation and later
assignments mean what they mean to Python. Whatever is computed is `OPAQUE`: somebody else must be asked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

Value = str | tuple[str, ...] | None
NAMES = ("revision", "down_revision", "depends_on", "branch_labels")
REFLECTION = frozenset("globals locals vars exec eval setattr __import__ __globals__ f_globals __dict__".split())
"""With these a module can assign what no reader of text can see."""


class Opaque:
    """What stands for a value that only running the code would tell."""


OPAQUE: Final = Opaque()


def bindings(module: ast.Module) -> dict[str, Value | Opaque]:
    """The module's names and what they stand for when its last statement has run."""
    bound: dict[str, Value | Opaque] = {}
    for statement in module.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                found = evaluate(value, bound)
                bound.update(dict.fromkeys(_bound_by(value), OPAQUE))
                for target in targets:
                    _assign(target, found, bound)
            case ast.AnnAssign(target=target, value=ast.expr() as value, annotation=annotation):
                found = evaluate(value, bound)
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


def evaluate(node: ast.expr, bound: dict[str, Value | Opaque]) -> Value | Opaque:
    """What an expression stands for where these names are bound."""
    match node:
        case ast.Constant(value=str() | None as value):
            return value
        case ast.Name(id=name):
            return bound.get(name, OPAQUE)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            values = [evaluate(part, bound) for part in parts]
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


def line_of(module: ast.Module, name: str) -> int:
    """The last line that binds a name."""
    return max((s.lineno for s in module.body if name in {*_bound_by(s)}), default=1)
