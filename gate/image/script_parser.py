"""The source of one migration script -> its revision. It is parsed with `ast` and never executed.

Alembic imports each script and reads four names of the module (`Script` in `alembic.script.base`); gate reads a fifth,
`post_deploy`. Here the values of those names are followed through the module's statements; a value that only executing
the code can produce is `OPAQUE`.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

from gate.errors import BadScripts
from gate.image.revision_graph import Revision
from gate.text import one_edit_apart, printable

NAMES = ("revision", "down_revision", "depends_on", "branch_labels")
"""The names that Alembic reads; the first three determine the graph."""

POST_DEPLOY = "post_deploy"
"""The name by which a script says that its revision may wait until after the deployment.

A star import does not set it: few scripts assign it, so each one with a star import would have to be executed.
"""

MAX_SCRIPT_SIZE = 8 << 20
"""Bytes; a longer script contains data, and parsing it could exceed the container's memory limit."""

Value = str | tuple[str, ...] | bool | None


class Opaque:
    """The type of `OPAQUE`, the value of an expression that only executing the code can evaluate."""


OPAQUE: Final = Opaque()

_T = TypeVar("_T")


class NotLiteral(NamedTuple):
    """A script that must be executed to be understood: it computes `name` in `path`, line `line`.

    `star`: the module whose star import may set the name, "" for any other expression.
    """

    path: str
    line: int
    name: str
    star: str = ""

    @property
    def reason(self) -> str:
        """Why the script cannot be read as text, and how it can be."""
        if self.star:
            return (
                f"`from {self.star} import *` may set {self.name}, so the script cannot be read as text; import the "
                f"names that it uses, or assign {self.name} below the import"
            )
        return f"{self.name} is computed and cannot be read as text"


class Script(NamedTuple):
    """A parsed script; `opaque_labels`: the script computes its branch labels."""

    revision: Revision
    opaque_labels: bool = False


def read_script(source: bytes, path: str, file_name: str) -> Script | NotLiteral:
    """Parse one migration script.

    `path`: for messages; `file_name`: for scripts of the legacy form, whose id is their file's name. Raises
    `BadScripts` with file and line for a syntax error, for a script without a revision or a down_revision, and for a
    `post_deploy` that is neither True nor False.
    """
    module = parse(source, path)
    bound = read_or_reject(lambda: bindings(module), path)
    bound.update({name: OPAQUE for name in NAMES if isinstance(bound.get(name), bool)})
    for name in (*NAMES[:3], POST_DEPLOY):
        if isinstance(bound.get(name), Opaque):
            line = line_of(module, name)
            return NotLiteral(path, line, name, _star_import(module, line))
    labels = bound.get("branch_labels")
    revision = Revision(
        id=_id(bound, path, file_name),
        down=_down(bound, path),
        depends_on=_tuple(bound.get("depends_on")),
        labels=() if isinstance(labels, Opaque) else _tuple(labels),
        message=_message(module),
        path=path,
        post_deploy=_post_deploy(bound, module, path),
    )
    return Script(revision, isinstance(labels, Opaque))


def check_syntax(source: bytes, path: str) -> None:
    """Raise `BadScripts` for a syntax error anywhere in the script; faster than `parse`, since it builds no tree."""
    read_or_reject(lambda: symtable.symtable(source, path, "exec"), path)  # type: ignore[arg-type] # it takes bytes


def parse(source: bytes, path: str) -> ast.Module:
    """Parse a module in the encoding that it declares; raises `BadScripts` with file and line."""
    return read_or_reject(lambda: ast.parse(source, path), path)


def read_or_reject(read: Callable[[], _T], path: str) -> _T:
    """Read a script or a part of it; raises `BadScripts` for a syntax error, and for nesting that is too deep."""
    try:
        return read()
    except SyntaxError as error:
        raise BadScripts(f"{path}, line {error.lineno or 1}: Python cannot read this script: {error.msg}.") from None
    # MemoryError: the parser's answer to nesting beyond its own limit (MAXSTACK in CPython's Parser/pegen), whatever
    # memory there is. Memory itself is bounded by the size of a script (`MAX_SCRIPT_SIZE`).
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadScripts(
            f"{path}, line 1: Python cannot read this script: {str(error) or type(error).__name__}."
        ) from None


_LEGACY = re.compile(r"([a-f0-9]+)\.py$")
"""File names of scripts without a `revision`, as Alembic accepts them (`_legacy_rev` in `alembic.script.base`)."""


def _id(bound: dict[str, Value | Opaque], path: str, file_name: str) -> str:
    value = bound.get("revision")
    legacy = _LEGACY.match(file_name)
    if isinstance(value, str):
        return value
    if "revision" not in bound and legacy:
        return legacy[1]
    raise BadScripts(f'{path}, line 1: the script does not set a revision id; add `revision = "…"`.')


def _down(bound: dict[str, Value | Opaque], path: str) -> tuple[str, ...]:
    if "down_revision" not in bound:
        raise BadScripts(f"{path}, line 1: the script does not set down_revision; a base needs `down_revision = None`.")
    return _tuple(bound["down_revision"])


def _post_deploy(bound: dict[str, Value | Opaque], module: ast.Module, path: str) -> bool:
    if name := misspelled_flag(bound):
        raise BadScripts(misspelled(path, line_of(module, name), name))
    value = bound.get(POST_DEPLOY, False)
    if isinstance(value, bool):
        return value
    raise BadScripts(not_a_flag(path, line_of(module, POST_DEPLOY), type(value).__name__))


def misspelled_flag(names: Mapping[str, object]) -> str:
    """Return the name of a script that is True and must mean `post_deploy`, "" if there is none.

    Ignoring it would let the revision run before the deployment, and take from the old servers what they use.
    """
    if POST_DEPLOY in names:
        return ""
    return next((name for name, value in names.items() if value is True and _resembles_flag(name)), "")


def _resembles_flag(name: str) -> bool:
    letters, wanted = name.lower().replace("_", ""), POST_DEPLOY.replace("_", "")
    return letters in {wanted, f"{wanted}ment"} or one_edit_apart(letters, wanted)


def misspelled(path: str, line: int, name: str) -> str:
    """Say that a name must be `post_deploy`."""
    return (
        f"{path}, line {line}: {printable(name)} is not a name that gate reads; did you mean post_deploy? Correct it, "
        "or rename the variable: without post_deploy the revision does not wait until after the deployment."
    )


def not_a_flag(path: str, line: int, type_name: str) -> str:
    """Say that `post_deploy` is of another type than bool, and what it must be."""
    return (
        f"{path}, line {line}: post_deploy is of type {type_name} and must be True or False; True means that the "
        "revision may wait until after the deployment."
    )


def _tuple(value: Value | Opaque) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else ()


def _message(module: ast.Module) -> str:
    text = ast.get_docstring(module, clean=False) or ""
    return " ".join(text.strip().split("\n\n")[0].split())


REFLECTION = frozenset("globals locals vars exec eval setattr __import__ __globals__ f_globals __dict__".split())
"""A statement that uses one of these may assign any name of the module."""


def bindings(module: ast.Module) -> dict[str, Value | Opaque]:
    """Return the names of a module with their values after its last statement."""
    bound: dict[str, Value | Opaque] = {}
    for statement in module.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                result = evaluate(value, bound)
                bound.update(dict.fromkeys(_bound_by(value), OPAQUE))
                for target in targets:
                    _assign(target, result, bound)
            case ast.AnnAssign(target=target, value=ast.expr() as value, annotation=annotation):
                result = evaluate(value, bound)
                bound.update(dict.fromkeys((*_bound_by(value), *_bound_by(annotation)), OPAQUE))
                _assign(target, result, bound)
            case ast.AnnAssign(annotation=annotation):
                bound.update(dict.fromkeys(_bound_by(annotation), OPAQUE))
            case ast.ImportFrom(names=[ast.alias(name="*")]) if _may_export_names(statement):
                bound.update(dict.fromkeys((*bound, *NAMES), OPAQUE))
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                bound.update(dict.fromkeys(bound.keys() - {*NAMES, POST_DEPLOY}, OPAQUE))
            case _:
                bound.update(dict.fromkeys(_bound_by(statement), OPAQUE))
        if _reflects(statement):
            bound.update(dict.fromkeys((*NAMES, POST_DEPLOY), OPAQUE))
    if "__getattr__" in bound:  # it returns a value for each name that the module lacks (PEP 562)
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
    """Return the value of an expression, given the values of the names that it uses."""
    match node:
        case ast.Constant(value=str() | bool() | None as value):
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
    """Yield every name that a node may bind in the scope that contains it."""
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
            if any(alias.name == "*" for alias in aliases) and _may_export_names(node):
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
    """Yield the names that decorators, defaults, annotations and bases bind: they belong to the enclosing scope."""
    for name, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) and name != "body" else [value]:
            if isinstance(part, ast.AST):
                yield from _bound_by(part)


def _reflects(statement: ast.stmt) -> bool:
    """Return whether a statement may bind names that its text does not show."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Import | ast.ImportFrom):
        return False
    names = (getattr(node, "id", None) or getattr(node, "attr", None) for node in ast.walk(statement))
    return any(name in REFLECTION for name in names)


STAR_MODULES = frozenset(
    """
    alembic alembic.op collections datetime decimal enum math os os.path re sqlalchemy sqlalchemy.orm sqlalchemy.schema
    sqlalchemy.sql sqlalchemy.sql.expression sqlalchemy.sql.functions sqlalchemy.sql.sqltypes sqlalchemy.types typing
    uuid
    """.split()
)
"""Modules whose star import binds none of the four names (`alembic.command`, for one, exports `revision`)."""

STAR_PACKAGE = "sqlalchemy.dialects."
"""Likewise each module below it."""


def _may_export_names(node: ast.AST) -> bool:
    """Return whether a star import may bind one of the four names: only of a well-known module it is certain."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) and not node.level else ""
    return module not in STAR_MODULES and not module.startswith(STAR_PACKAGE)


def _star_import(module: ast.Module, line: int) -> str:
    """Return the module of the star import in this line, "" if there is none."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.lineno == line and node.names[0].name == "*":
            return "." * node.level + (node.module or "")
    return ""


def line_of(module: ast.Module, name: str) -> int:
    """Return the last line that binds a name."""
    return max((s.lineno for s in module.body if name in {*_bound_by(s)}), default=1)
