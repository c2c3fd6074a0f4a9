"""The source of env.py -> the version table that it configures. It is parsed with `ast` and never executed.

What the text does not show is reported and never replaced by Alembic's default without a word: a name that is computed
(`Expression`), and options that come from elsewhere (`VersionTable.unseen`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gate.errors import BadSettings
from gate.image.script_parser import OPAQUE, Opaque, Value, bindings, evaluate, parse, read_or_reject
from gate.text import is_text, truncate

TABLE, SCHEMA = "version_table", "version_table_schema"
"""The arguments of `context.configure` that name the version table."""

MAX_EXPRESSION_LENGTH = 200
"""Characters of an expression that a message shows."""

SCHEMA_ATTRIBUTES = frozenset({"default_schema_name"})
"""Attributes of a dialect that replace the schema in which Alembic searches for the version table."""

TRANSLATE_MAP = "schema_translate_map"
"""SQLAlchemy's execution option that replaces schemas; its key None stands for a table without one."""

_SEARCH_PATH = re.compile(r"(?:\b|-c)search_path\s*(?:=|\bto\b)\s*['\"]?([^\s,;'\"]*)", re.IGNORECASE)
"""`SET search_path TO x` in SQL, `-c search_path=x` among libpq's options."""

DEFAULT_SCHEMAS = frozenset({"public", "$user"})
"""What PostgreSQL's own search_path begins with: naming it again chooses nothing."""

LOCATIONS = frozenset({"version_locations", "_version_locations"})
"""Attributes of a `ScriptDirectory` that name the folders of the scripts. (The main option of that name has no effect
in env.py: Alembic reads it before.)"""

CHANGING_METHODS = frozenset({"append", "extend", "insert", "remove", "pop", "clear"})
"""Methods that change a list."""


class Expression(NamedTuple):
    """A place in env.py, for messages."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.text}"


class VersionTable(NamedTuple):
    """The version table that env.py configures.

    `table` and `schema` are None where env.py names none. `computed_table` and `computed_schema`: an expression that
    only executing env.py can evaluate, or one of several different names. `unseen`: what the text of env.py does not
    show, as a clause with file and line, "" if it shows all. `may_repeat`: whether env.py has a loop, or calls
    `context.configure` more than once; `several`: where one run configures several version tables or databases then, as
    such a clause, "" if it does not.
    """

    table: str | None = None
    schema: str | None = None
    computed_table: Expression | None = None
    computed_schema: Expression | None = None
    unseen: str = ""
    may_repeat: bool = False
    several: str = ""


def read_env_py(source: bytes, path: str) -> VersionTable:
    """Read the arguments of `context.configure(version_table=…, version_table_schema=…)`.

    They may be keyword arguments or items of a dict that the call unpacks. Raises `BadScripts` with file and line for a
    syntax error, and `BadSettings` if env.py assigns the folders of the scripts.
    """
    return read_or_reject(lambda: EnvPy(parse(source, path), path).read(), path)


class EnvPy:
    """One parsed env.py. `nodes`: all of its nodes, each once."""

    def __init__(self, module: ast.Module, path: str) -> None:
        self.module, self.path = module, path
        self.nodes = [*ast.walk(module)]
        self.bound = bindings(module)
        self.local = _bound_in_functions(self.nodes)

    def read(self) -> VersionTable:
        """Read the version table; raises `BadSettings` if env.py assigns the folders of the scripts."""
        self._reject_assigned_locations()
        table, computed_table = self._named(TABLE)
        schema, computed_schema = self._named(SCHEMA)
        if schema is None:
            computed_schema = computed_schema or self._chosen_schema()
        return VersionTable(
            table, schema, computed_table, computed_schema, self._unseen_options(), may_repeat=self._may_repeat()
        )

    def _may_repeat(self) -> bool:
        """Whether one run may configure several version tables: it needs a loop, or more than one call."""
        calls = [node for node in self.nodes if isinstance(node, ast.Call) and self._is_configure(node.func)]
        online = sum(not is_offline(call) for call in calls)
        return online > 1 or (online == 1 and any(map(is_loop, self.nodes)))

    def _named(self, name: str) -> tuple[str | None, Expression | None]:
        """Return the only name that env.py passes, or the expression that makes it uncertain."""
        passed = [(node, self._value(node)) for node in passed_values(self.nodes, name)]
        computed = [node for node, value in passed if not _is_name(value)]
        if not computed and len({value for _, value in passed}) > 1:
            computed = [passed[-1][0]]
        if computed:
            return None, self._expression(computed[0], f"{name}={ast.unparse(computed[0])}")
        names = [value for _, value in passed if isinstance(value, str)]
        return (names[0] if names else None), None

    def _value(self, node: ast.expr) -> Value | Opaque:
        if isinstance(node, ast.Name) and node.id in self.local:
            return OPAQUE
        return evaluate(node, self.bound)

    def _expression(self, node: ast.expr | ast.stmt, text: str = "") -> Expression:
        return Expression(self.path, node.lineno, truncate(text or ast.unparse(node), MAX_EXPRESSION_LENGTH))

    # ---- the schema, where another statement than `configure` chooses it

    def _chosen_schema(self) -> Expression | None:
        """Return a statement that changes the search_path or the dialect's default schema."""
        choice = next(self._schema_choices(), None)
        return self._expression(choice) if choice else None

    def _schema_choices(self) -> Iterator[ast.stmt | ast.expr]:
        """Yield each such statement."""
        docstrings = {id(node.value) for node in self.nodes if isinstance(node, ast.Expr)}
        for node in self.nodes:
            match node:
                case ast.Attribute(attr=attribute, ctx=ast.Store()) if attribute in SCHEMA_ATTRIBUTES:
                    yield self._statement_of(node)
                case ast.Constant(value=str(text)) if _sets_search_path(text) and id(node) not in docstrings:
                    yield self._statement_of(node)
                case ast.keyword(arg=argument, value=value) if argument == TRANSLATE_MAP and _translates(value):
                    yield self._statement_of(value)
                case ast.Dict(keys=keys, values=values) if any(map(_is_translation, keys, values)):
                    yield self._statement_of(node)

    def _statement_of(self, node: ast.expr) -> ast.stmt | ast.expr:
        """Return the innermost simple statement around a node, or the node itself in a compound statement."""
        simple = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return)
        around = (s for s in self.nodes if isinstance(s, simple) and any(inner is node for inner in ast.walk(s)))
        return next(around, node)

    # ---- what the text does not show

    def _unseen_options(self) -> str:
        calls = [node for node in self.nodes if isinstance(node, ast.Call) and self._is_configure(node.func)]
        online = [call for call in calls if not is_offline(call)]
        if not online:
            return f"{self.path} calls no context.configure with a connection in its own text"
        for call in online:
            for keyword in call.keywords:
                if keyword.arg is None and not self._is_shown(keyword.value):
                    place = self._expression(keyword.value, f"**{ast.unparse(keyword.value)}")
                    return f"{place} contains options that are not in its text"
        return self._branch(online) or self._handed_on(calls)

    def _is_configure(self, function: ast.expr) -> bool:
        match function:
            case ast.Name(id="configure") | ast.Attribute(value=ast.Attribute(attr="context"), attr="configure"):
                return True
            case ast.Attribute(value=ast.Name(id=name), attr="configure"):
                return name == "context" or name in self._aliases
        return False

    @property
    def _aliases(self) -> set[str]:
        """The names by which env.py imports `alembic.context`."""
        aliases = [a for node in self.nodes if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names]
        return {alias.asname for alias in aliases if alias.asname and alias.name in {"context", "alembic.context"}}

    def _is_shown(self, node: ast.expr) -> bool:
        """Whether the text shows all keys of a dict."""
        match node:
            case ast.Dict(keys=keys, values=values):
                return all(
                    self._is_shown(value) if key is None else isinstance(key, ast.Constant)
                    for key, value in zip(keys, values, strict=True)
                )
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return all(keyword.arg is not None or self._is_shown(keyword.value) for keyword in keywords)
            case ast.Name(id=name):
                return self._is_shown_name(name)
        return False

    def _is_shown_name(self, name: str) -> bool:
        """Whether a name is bound to dicts only whose keys the text shows, and no call can add another key."""
        values = [
            node.value
            for node in self.nodes
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and is_target(node, name)
        ]
        uses = [node for node in self.nodes if isinstance(node, ast.Name) and node.id == name]
        stores = sum(isinstance(node.ctx, ast.Store) for node in uses)
        loads = len(uses) - stores
        harmless = sum(self._harmless_uses(node, name) for node in self.nodes)
        bound_elsewhere = name in _arguments(self.nodes) or name in _imported(self.nodes)
        if not values or len(values) != stores or loads > harmless or bound_elsewhere:
            return False
        return all(not _mentions(value, name) and self._is_shown(value) for value in values)

    def _harmless_uses(self, node: ast.AST, name: str) -> int:
        """Count the uses of a dict in a node that add no key, or one that the text shows."""
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=used), attr="update"), args=args, keywords=keywords):
                unpacked = [keyword.value for keyword in keywords if keyword.arg is None]
                return used == name and all(map(self._is_shown, (*args, *unpacked)))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=used), attr="get" | "keys" | "items" | "values")):
                return used == name
            case ast.Subscript(value=ast.Name(id=used), slice=key, ctx=ctx):
                return used == name and (isinstance(key, ast.Constant) or isinstance(ctx, ast.Load))
            case ast.keyword(arg=None, value=ast.Name(id=used)):
                return used == name
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return sum(key is None and isinstance(v, ast.Name) and v.id == name for key, v in pairs)
        return 0

    def _branch(self, online: list[ast.Call]) -> str:
        """Return the place of a name that is passed by one branch, or by one of several calls."""
        passed = [node for name in (TABLE, SCHEMA) for node in passed_values(self.nodes, name)]
        inner = [part for node in self.nodes for branch in _branches(node) for part in ast.walk(branch)]
        in_branch = [node for node in passed if any(part is node for part in inner)]
        if in_branch:
            return f"{self._expression(in_branch[0])} is passed in one branch of env.py"
        direct = [{k.arg for k in call.keywords} & {TABLE, SCHEMA} for call in online]
        if passed and any(each != direct[0] for each in direct):
            return f"{self._expression(online[-1])} names another version table than an earlier call"
        return ""

    def _handed_on(self, calls: list[ast.Call]) -> str:
        """Return the place where `context.configure` is used without being called: a partial, or an argument."""
        called = {id(call.func) for call in calls}
        for node in self.nodes:
            if isinstance(node, ast.Attribute) and self._is_configure(node) and id(node) not in called:
                return f"{self._expression(node)} is called elsewhere"
        return ""

    # ---- the folders of the scripts

    def _reject_assigned_locations(self) -> None:
        place = next((node for node in self.nodes if _assigns_locations(node)), None)
        if isinstance(place, ast.expr | ast.stmt):
            raise BadSettings(
                f"{self._expression(place)} changes the folders of the migration scripts while env.py runs, so the "
                "heads of this image cannot be known without executing it. Set version_locations in the Alembic "
                "configuration instead, or give gate a configuration of its own that does (gate -c FILE)."
            )


def _assigns_locations(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=targets):
            return any(_is_locations(part) for target in targets for part in _targets(target))
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target, value=ast.expr()):
            return any(map(_is_locations, _targets(target)))
        case ast.Delete(targets=targets):
            return any(map(_is_locations, targets))
        case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in CHANGING_METHODS:
            return _is_locations(changed)
        case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value=name), _]):
            return name in LOCATIONS
    return False


def _targets(target: ast.expr) -> list[ast.expr]:
    """The targets of an assignment, those within a tuple, too."""
    return (
        [part for each in target.elts for part in _targets(each)]
        if isinstance(target, ast.Tuple | ast.List)
        else [target]
    )


def _is_locations(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr in LOCATIONS


def passed_values(nodes: list[ast.AST], name: str) -> Iterator[ast.expr]:
    """Yield the expressions that any call, dict or item assignment gives to a name."""
    for node in nodes:
        match node:
            case ast.keyword(arg=str(arg), value=value) if arg == name:
                yield value
            case ast.Dict(keys=keys, values=values):
                yield from (
                    v for k, v in zip(keys, values, strict=True) if isinstance(k, ast.Constant) and k.value == name
                )
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=key))], value=value) if key == name:
                yield value
            case ast.Call(func=ast.Attribute(attr="setdefault"), args=[ast.Constant(value=key), value]) if key == name:
                yield value


def is_loop(node: ast.AST) -> bool:
    """Whether a node runs something several times: a loop, a comprehension, or a call of `map`."""
    loops = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return isinstance(node, loops) or (isinstance(node, ast.Call) and called_name(node) in {"map", "starmap"})


def called_name(call: ast.Call) -> str:
    """Return the last part of the name of the function that is called."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _sets_search_path(text: str) -> bool:
    found = _SEARCH_PATH.search(text)
    return found is not None and found[1].lower() not in DEFAULT_SCHEMAS


def _is_translation(key: ast.expr | None, value: ast.expr) -> bool:
    return isinstance(key, ast.Constant) and key.value == TRANSLATE_MAP and _translates(value)


def _translates(value: ast.expr) -> bool:
    """Whether a schema_translate_map may replace the schema of a table without one."""
    if not isinstance(value, ast.Dict):
        return True
    pairs = zip(value.keys, value.values, strict=True)
    return any(
        not isinstance(key, ast.Constant) or (key.value is None and not _is_none(schema)) for key, schema in pairs
    )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_offline(call: ast.Call) -> bool:
    """Whether a call configures the offline mode: it passes a URL and no connection."""
    names = {keyword.arg for keyword in call.keywords}
    return "url" in names and "connection" not in names


def _branches(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a statement that need not run; the choice of the offline or online mode does not count."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test):
            by_mode = any(isinstance(n, ast.Attribute) and n.attr == "is_offline_mode" for n in ast.walk(test))
            return [] if by_mode else [node]
        case ast.Try(handlers=handlers, orelse=orelse):
            return [*handlers, *orelse]
        case ast.Match() | ast.For() | ast.While():
            return [node]
    return []


def is_target(node: ast.Assign | ast.AnnAssign, name: str) -> bool:
    """Return whether an assignment binds a name."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _mentions(node: ast.expr, name: str) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))


def _arguments(nodes: list[ast.AST]) -> set[str]:
    return {node.arg for node in nodes if isinstance(node, ast.arg)}


def _imported(nodes: list[ast.AST]) -> set[str]:
    aliases = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return {(alias.asname or alias.name).split(".")[0] for alias in aliases}


def _bound_in_functions(nodes: list[ast.AST]) -> set[str]:
    """Return the names of arguments and local variables: inside a function they hide the module's."""
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    arguments = {a.arg for f in functions for a in ast.walk(f.args) if isinstance(a, ast.arg)}
    stored = {n.id for f in functions for n in ast.walk(f) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return arguments | stored


def _is_name(value: Value | Opaque) -> bool:
    """Return whether a value can be sent to a server: a lone surrogate cannot."""
    return value is None or (isinstance(value, str) and is_text(value))
