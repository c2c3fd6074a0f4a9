"""The text of env.py -> whether a run in offline mode shows what an online run configures, and its schema map."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gate.image.env_py import SCHEMA, TABLE, TRANSLATE_MAP, EnvPy, Expression, is_offline, is_target, passed_values
from gate.image.script_parser import OPAQUE, parse

DEPENDENCIES = {
    "environ": "an environment variable",
    "getenv": "an environment variable",
    "get_x_argument": "an argument of the command line (-x)",
    "is_offline_mode": "the offline mode",
    "connection": "the connection",
}
"""Names in an expression -> what its value depends on beside the image."""

MAX_BINDINGS = 5
"""Names that are bound to each other and followed."""


def offline_doubt(source: bytes, path: str) -> str:
    """Return why running env.py in offline mode may not show the version table of an online run, "" if it does.

    It is a clause with file, line and expression. The offline run shows it if every call of `context.configure` in the
    text passes the same expressions, outside any branch, and none of them depends on the mode, on variables or on
    arguments.
    """
    return _ConfigureCalls(parse(source, path), path).offline_doubt()


class Translation(NamedTuple):
    """The schema_translate_map of env.py, None for a table without a schema.

    `known`: literal schemas; `computed`: schemas that only executing env.py shows; `opaque`: a map that is computed as
    a whole.
    """

    known: dict[str | None, str | None] = {}  # noqa: RUF012 - nothing mutates the default
    computed: dict[str | None, Expression] = {}  # noqa: RUF012 - likewise
    opaque: Expression | None = None

    def computed_for(self, schema: str | None) -> Expression | None:
        """Return the place that computes another schema for this one."""
        return self.opaque or self.computed.get(schema)


def read_translation(source: bytes, path: str) -> Translation:
    """Read the schema_translate_map that env.py sets, in whatever call or dict."""
    return _ConfigureCalls(parse(source, path), path).translation()


class _ConfigureCalls(EnvPy):
    """A parsed env.py with its calls of `context.configure` and its schema_translate_map."""

    def translation(self) -> Translation:
        known: dict[str | None, str | None] = {}
        computed: dict[str | None, Expression] = {}
        for value in passed_values(self.nodes, TRANSLATE_MAP):
            literal = self._dict_literal(value)
            place = self._expression(value, f"{TRANSLATE_MAP}={ast.unparse(value)}")
            if literal is None:
                return Translation(opaque=place)
            for key, schema in zip(literal.keys, literal.values, strict=True):
                name = OPAQUE if key is None else self._value(key)
                replacement = self._value(schema)
                if name is not None and not isinstance(name, str):
                    return Translation(opaque=place)
                is_known = replacement is None or isinstance(replacement, str)
                if not is_known or known.get(name, replacement) != replacement:
                    computed[name] = place
                elif isinstance(replacement, str | None):
                    known[name] = replacement
        return Translation(known, computed)

    def _dict_literal(self, node: ast.expr) -> ast.Dict | None:
        """Return the dict that an expression is, or that its name is bound to once and that nothing changes."""
        if isinstance(node, ast.Name) and node.id not in self.local:
            values = [n.value for n in self.nodes if isinstance(n, ast.Assign) and is_target(n, node.id)]
            changed = any(_may_change(n, node.id) for n in self.nodes)
            node = values[0] if len(values) == 1 and not changed else node
        return node if isinstance(node, ast.Dict) else None

    # ---- whether the offline run shows what an online run does

    def offline_doubt(self) -> str:
        calls = [node for node in self.nodes if isinstance(node, ast.Call) and self._is_configure(node.func)]
        online = [call for call in calls if not is_offline(call)]
        if not online:
            return f"{self.path} calls no context.configure with a connection in its own text"
        if doubt := self._branch(online) or self._handed_on(calls):
            return doubt
        schema_is_passed = any(True for _ in passed_values(self.nodes, SCHEMA))
        if not schema_is_passed and (place := self._chosen_schema()):
            return f"{place} chooses the schema where env.py is connected"
        return self._disagreement(calls)

    def _disagreement(self, calls: list[ast.Call]) -> str:
        first = self._version_options(calls[0])
        for call in calls:
            options = self._version_options(call)
            for name in options.keys() ^ first.keys():
                node = options.get(name) or first[name]
                return f"{self._expression(node, _option(name, node))} is passed by one call of context.configure only"
            for name, node in options.items():
                if ast.dump(node) != ast.dump(first[name]):
                    return f"{self._expression(node, _option(name, node))} is not what an earlier call passes"
                if reason := self._dependence(node):
                    return f"{self._expression(node, _option(name, node))} depends on {reason}"
        return ""

    def _version_options(self, call: ast.Call) -> dict[str, ast.expr]:
        """Return the arguments of a call that name the version table, or may do so, by name or by `**expression`."""
        in_dicts = {id(node) for name in (TABLE, SCHEMA) for node in passed_values(self.nodes, name)}
        direct = {k.arg: k.value for k in call.keywords if k.arg in {TABLE, SCHEMA}}
        calls = [node for node in self.nodes if isinstance(node, ast.Call) and self._is_configure(node.func)]
        in_dicts -= {id(k.value) for each in calls for k in each.keywords}
        unpacked = [k.value for k in call.keywords if k.arg is None]
        return {
            **{str(name): value for name, value in direct.items()},
            **{f"**{ast.unparse(v)}": v for v in unpacked if in_dicts or not self._is_shown(v)},
        }

    def _dependence(self, node: ast.expr, depth: int = 0) -> str:
        """Return what the value of an expression may depend on beside the image."""
        for inner in ast.walk(node):
            name = inner.id if isinstance(inner, ast.Name) else inner.attr if isinstance(inner, ast.Attribute) else ""
            if name in DEPENDENCIES:
                return DEPENDENCIES[name]
            if not isinstance(inner, ast.Name):
                continue
            if name in self.local:
                return f"the local name {name}"
            bound = [n.value for n in self.nodes if isinstance(n, ast.Assign) and is_target(n, name)]
            for value in bound if depth < MAX_BINDINGS else ():
                if reason := self._dependence(value, depth + 1):
                    return reason
        return ""


def _may_change(node: ast.AST, name: str) -> bool:
    """Whether a node uses an attribute of a dict, or binds or deletes one of its items."""
    match node:
        case ast.Subscript(value=ast.Name(id=used), ctx=ctx):
            return used == name and not isinstance(ctx, ast.Load)
        case ast.Attribute(value=ast.Name(id=used)) | ast.AugAssign(target=ast.Name(id=used)):
            return used == name
    return False


def _option(name: str, node: ast.expr) -> str:
    return name if name.startswith("**") else f"{name}={ast.unparse(node)}"
