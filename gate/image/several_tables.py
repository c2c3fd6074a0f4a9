"""The text of env.py -> whether one run of it configures several version tables, or several databases.

Two forms are recognised: a loop whose variable reaches `context.configure` or the search_path, and calls of
`context.configure` in one run that name different tables.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from gate.image.env_py import SCHEMA, TABLE, EnvPy, called_name, is_loop, is_offline
from gate.image.script_parser import parse, read_or_reject

Branches = tuple[tuple[int, int], ...]
"""The branches on the way to a node: the id of each statement that has some, and the number of the branch."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

MAX_WAYS = 100
"""Ways to one call that are followed; functions that call each other can have any number."""

MAX_LOOPS, MAX_CALLS = 1000, 50
"""Loops and calls of `context.configure` in one file that are read."""


def several_tables(source: bytes, path: str) -> str:
    """Return the place in env.py that shows it, as a clause with file and line, "" if none does.

    Raises `BadScripts` if env.py cannot be read.
    """
    env_py = read_or_reject(lambda: _Runs(parse(source, path), path), path)
    return env_py.in_loop() or env_py.in_sequence()


class _Runs(EnvPy):
    """A parsed env.py with what one run of it calls."""

    def __init__(self, module: ast.Module, path: str) -> None:
        super().__init__(module, path)
        self.calls = [
            node
            for node in self.nodes
            if isinstance(node, ast.Call) and self._is_configure(node.func) and not is_offline(node)
        ][:MAX_CALLS]
        self.functions = _named_functions(self.nodes)

    # ---- loops

    def in_loop(self) -> str:
        """Return the call or the choice of a schema that differs in each turn of a loop."""
        choices: list[ast.stmt | ast.expr] = [*self.calls, *self._schema_choices()]
        for loop in list(filter(is_loop, self.nodes))[:MAX_LOOPS]:
            reached = self._reached(loop)
            if not reached.keys().isdisjoint(self.calls):
                varying = self._varying(loop, [*reached])
                for node in choices:
                    if node in reached and _deciding_names(node) & varying:
                        return f"{self._expression(node)} differs in each turn of a loop"
        return ""

    def _reached(self, loop: ast.AST) -> dict[ast.AST, None]:
        """Return the nodes of a loop, and of every function of this file that it names."""
        reached: dict[ast.AST, None] = {}
        todo = [loop]
        while todo:
            for node in ast.walk(todo.pop()):
                if node not in reached:
                    reached[node] = None
                    if isinstance(node, ast.Name) and node.id in self.functions:
                        todo.append(self.functions[node.id])
        return reached

    def _varying(self, loop: ast.AST, reached: Sequence[ast.AST]) -> set[str]:
        """Return the names whose values may differ from one turn of the loop to the next."""
        varying = self._parameters(loop) if isinstance(loop, ast.Call) else _loop_names(loop)
        before = 0
        while len(varying) > before:
            before = len(varying)
            for node in reached:
                varying |= self._bound(node, varying)
        return varying

    def _bound(self, node: ast.AST, varying: set[str]) -> set[str]:
        """Return the names that a node binds to something that varies."""
        match node:
            case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
                pass
            case ast.comprehension(target=target, iter=value) | ast.NamedExpr(target=target, value=value):
                pass
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pass
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                pass
            case ast.Assign(targets=targets, value=value) if _names(value) & varying:
                return set().union(*map(_names, targets))
            case ast.Call() if _names(node) & varying:
                return self._parameters(node)
            case _:
                return set()
        return _names(target) if _names(value) & varying else set()

    def _parameters(self, call: ast.Call) -> set[str]:
        """Return the parameters of the functions of this file that a call names: it calls them, or hands them on."""
        named = [self.functions[name] for name in _names(call) if name in self.functions]
        return {node.arg for function in named for node in ast.walk(function.args) if isinstance(node, ast.arg)}

    # ---- one call after the other

    def in_sequence(self) -> str:
        """Return a call that names another version table than an earlier one, where one run may reach both."""
        if all(self._named_by(call) == self._named_by(self.calls[0]) for call in self.calls):
            return ""
        places = _Places(self.module)
        for first, second in combinations(self.calls, 2):
            if self._named_by(first) != self._named_by(second) and places.may_both_run(first, second):
                return f"{self._expression(second)} names another version table than an earlier call"
        return ""

    def _named_by(self, call: ast.Call) -> dict[str, object]:
        """Return the names that a call passes for the version table, or the expressions that compute them."""
        passed = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg in {TABLE, SCHEMA}}
        values = {name: (self._value(node), node) for name, node in passed.items() if name}
        return {
            name: value if isinstance(value, str) else (ast.dump(node),)
            for name, (value, node) in values.items()
            if value is not None
        }


class _Place(NamedTuple):
    """Where a node is: the branches around it in its function, and the name of the function, "" = none."""

    branches: Branches
    function: str

    def within(self, statement: ast.AST, branch: int) -> _Place:
        """Return a place in a branch of a statement that is here."""
        return self._replace(branches=(*self.branches, (id(statement), branch)))


class _Places:
    """The branches that lead to each node of a module."""

    def __init__(self, module: ast.Module) -> None:
        self._places = _places(module)
        self._uses: dict[str, list[_Place]] = {}
        for node, place in self._places.items():
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._uses.setdefault(node.id, []).append(place)

    def may_both_run(self, first: ast.AST, second: ast.AST) -> bool:
        """Whether some way to the one node excludes no way to the other."""
        return any(not _exclude(one, other) for one in self._ways(first) for other in self._ways(second))

    def _ways(self, node: ast.AST) -> list[Branches]:
        """Return the branches on each way to a node, through the functions that contain it and where they are named."""
        ways: list[Branches] = []
        todo = [(self._places[node], frozenset[str]())]
        while todo and len(ways) < MAX_WAYS:
            place, seen = todo.pop()
            if not place.function:
                ways.append(place.branches)
            elif place.function not in seen:
                uses = self._uses.get(place.function, [])
                around = [use._replace(branches=place.branches + use.branches) for use in uses]
                todo += [(each, seen | {place.function}) for each in around]
        return ways


def _exclude(one: Branches, other: Branches) -> bool:
    taken = dict(one)
    return any(taken.get(statement, branch) != branch for statement, branch in other)


def _places(module: ast.Module) -> dict[ast.AST, _Place]:
    """Return the place of each node."""
    places: dict[ast.AST, _Place] = {}
    todo: list[tuple[ast.AST, _Place]] = [(module, _Place((), ""))]
    while todo:
        node, place = todo.pop()
        places[node] = place
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            place = _Place((), node.name)
        for branch, block in _blocks(node):
            inner = place if branch is None else place.within(node, branch)
            for child in block:
                todo.append((child, inner))
                if isinstance(child, ast.If) and isinstance(child.body[-1], ast.Return | ast.Raise | ast.Continue):
                    inner = inner.within(child, 1)  # what follows is its other branch
    return places


def _blocks(node: ast.AST) -> list[tuple[int | None, Sequence[ast.AST]]]:
    """Return the parts of a node, each with the number of its branch, None for what always runs."""
    match node:
        case ast.If(test=test, body=body, orelse=orelse):
            return [(None, [test]), (0, body), (1, orelse)]
        case ast.IfExp(test=test, body=one, orelse=other):
            return [(None, [test]), (0, [one]), (1, [other])]
        case ast.Match(subject=subject, cases=cases):
            return [(None, [subject]), *((number, [case]) for number, case in enumerate(cases))]
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
            return [(0, body), (0, orelse), *((1 + n, [each]) for n, each in enumerate(handlers)), (None, finalbody)]
    return [(None, [*ast.iter_child_nodes(node)])]


def _named_functions(nodes: Sequence[ast.AST]) -> dict[str, Function]:
    functions: dict[str, Function] = {}
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                functions[name] = node
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as function):
                functions[name] = function
    return functions


def _loop_names(loop: ast.AST) -> set[str]:
    """Return the names that each turn of a loop binds anew; one that only counts tries something again."""
    match loop:
        case ast.While(test=test):
            return _names(test)
        case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
            parts = [(target, value)]
        case _:
            parts = [(each.target, each.iter) for each in getattr(loop, "generators", ())]
    counts = {"range", "count"}
    return {
        name
        for target, value in parts
        if not (isinstance(value, ast.Call) and called_name(value) in counts)
        for name in _names(target)
    }


def _deciding_names(node: ast.AST) -> set[str]:
    """Return the names on which the table or the database depends; other options do not change them."""
    if not isinstance(node, ast.Call):
        return _names(node)
    deciding = (TABLE, SCHEMA, "connection", None)  # None: an unpacked dict
    return set().union(*map(_names, node.args), *(_names(k.value) for k in node.keywords if k.arg in deciding))


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
