"""The source of env.py -> the version table that it configures. It is parsed with `ast` and never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gate.image.script_parser import OPAQUE, Opaque, Value, bindings, evaluate, parse
from gate.text import is_text


class VersionTable(NamedTuple):
    """The version table that env.py configures.

    `table` and `schema` are None where env.py names none; `computed`: env.py passes a value that is not a literal, or
    different ones.
    """

    table: str | None = None
    schema: str | None = None
    computed: bool = False


def read_env_py(source: bytes, path: str) -> VersionTable:
    """Read the arguments of `context.configure(version_table=…, version_table_schema=…)`.

    They may be keyword arguments or items of a dict that the call unpacks. Raises `BadScripts` with file and line for
    a syntax error.
    """
    module = parse(source, path)
    bound = bindings(module)
    local = _bound_in_functions(module)
    table = {_value(node, bound, local) for node in _passed(module, "version_table")}
    schema = {_value(node, bound, local) for node in _passed(module, "version_table_schema")}
    return VersionTable(
        _only(table),
        _only(schema),
        computed=any(len(values) > 1 or any(not _is_name(v) for v in values) for values in (table, schema)),
    )


def _passed(module: ast.Module, name: str) -> Iterator[ast.expr]:
    """Yield the expressions that any call, dict or item assignment gives to a name."""
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
    """Return the names of arguments and local variables: inside a function they hide the module's."""
    functions = [n for n in ast.walk(module) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    arguments = {a.arg for f in functions for a in ast.walk(f.args) if isinstance(a, ast.arg)}
    stored = {n.id for f in functions for n in ast.walk(f) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return arguments | stored


def _is_name(value: Value | Opaque) -> bool:
    """Return whether a value can be sent to a server: a lone surrogate cannot."""
    return value is None or (isinstance(value, str) and is_text(value))


def _only(values: set[Value | Opaque]) -> str | None:
    names = [value for value in values if isinstance(value, str) and is_text(value)]
    return names[0] if len(values) == len(names) == 1 else None
