"""env.py as text -> where it says that the stamp is. It is parsed with `ast` and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gate.image.script_parser import OPAQUE, Opaque, Value, bindings, evaluate, parse
from gate.text import is_text


class VersionTable(NamedTuple):
    """Where env.py says that the stamp is; `computed` = it does not say so in literals."""

    table: str | None = None
    schema: str | None = None
    computed: bool = False


def read_env_py(source: bytes, path: str) -> VersionTable:
    """Read the literals that env.py hands to `context.configure(version_table=…, version_table_schema=…)`.

    It does not matter by which way they reach the call: as keywords, or through a dict that is unpacked.
    """
    module = parse(source, path)
    bound = bindings(module)
    local = _bound_in_functions(module)
    table = {_value(node, bound, local) for node in _passed(module, "version_table")}
    schema = {_value(node, bound, local) for node in _passed(module, "version_table_schema")}
    return VersionTable(
        _only(table),
        _only(schema),
        computed=any(len(found) > 1 or any(not _is_name(v) for v in found) for found in (table, schema)),
    )


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
    return evaluate(node, bound)


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
