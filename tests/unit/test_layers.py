"""The folders are layers: imports run down only, pure modules stay pure, each library has one module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gate

SOURCE = Path(gate.__file__).parent

MAY_IMPORT = {
    "foundation": set[str](),
    "settings": {"foundation"},
    "image": {"foundation"},
    "process": {"foundation"},
    "database": {"settings", "image", "process"},
    "drift": {"database"},
    "migration": {"drift"},
    "readiness": {"drift"},
    "expect": {"image"},
    "tenants": {"migration"},
    "waiting": {"tenants", "readiness"},
    "cli": {"waiting", "asgi", "expect"},
    "asgi": {"readiness"},
    "wsgi": {"readiness"},
    "__init__": {"drift"},
    "__main__": {"cli"},
}
"""Each layer -> the layers right below it; whatever they may import, it may import, too."""

FOUNDATION = {"descriptors", "errors", "files", "log", "redaction", "text"}
"""The modules at the top of the package that every layer may import."""

PURE = (
    "text errors redaction settings.variables settings.reader settings.settings settings.database_url "
    "image.script_parser image.plain_script image.env_py image.configure_calls image.revision_graph "
    "database.missing database.postgresql.sql migration.preview expect.failures expect.changes "
    "drift.comparison drift.decision drift.messages tenants.summary readiness.answer waiting.outcome"
).split()
"""Values in, values out: no clock, no file, no process."""

ONE_MODULE = {
    "tenacity": {"waiting.backoff"},
    "structlog": {"log"},
    "uvicorn": {"readiness.http_server"},
    "h11": {"readiness.http_server"},
    "prometheus_client": {"cli.serve"},
    "tqdm": {"tenants.progress_bar"},
    "argparse": {"cli.parser", "migration.child.upgrade", "expect.child"},  # Alembic takes an argparse.Namespace
    "alembic": {
        "migration.child.upgrade",
        "migration.child.template",
        "migration.child.render",
        "migration.child.fence",
        "image.alembic_loader",
        "expect.child",
    },
    "psycopg": {"database.postgresql.connection"},
    "sqlalchemy": {
        "database.generic",
        "database.mysql",
        "database.sqlite",
        "database.postgresql.engine",
        "database.reflection",
        "migration.child.upgrade",
        "migration.child.render",
        "migration.child.connection_guard",
        "migration.child.fence",
        "migration.child.lock_timeout",
        "migration.child.session_tags",
        "drift.application",
        "drift.models",
        "expect.child",
    },
}
"""Each third-party library -> the modules that may import it."""

OUTSIDE = {"os", "sys", "subprocess", "socket", "threading", "signal", "pathlib", "time", "random", "asyncio"}


@dataclass(frozen=True)
class Import:
    """One imported module. `eager` = it is loaded together with the module that imports it."""

    module: str
    line: int
    eager: bool


@cache
def modules() -> list[str]:
    """All modules below `gate`, dotted; a folder's own `__init__` is named after the folder."""
    paths = (path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def file_of(module: str) -> Path:
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def layer(module: str) -> str:
    """The layer of a module: its folder, or the foundation for what everybody may use."""
    top = module.split(".", maxsplit=1)[0]
    return "foundation" if top in FOUNDATION else top


def below(name: str) -> set[str]:
    """The layer and all layers that it may import."""
    return {name}.union(*map(below, MAY_IMPORT[name]))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(file_of(module).read_bytes())


@cache
def imports(module: str) -> list[Import]:
    return [*_imports(tree(module), eager=True)]


def _imports(node: ast.AST, *, eager: bool) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, node.lineno, eager) for alias in names)
        case ast.ImportFrom(module=str(module), level=0, names=names) if module.split(".")[0] == "gate":
            yield from (Import(_imported(module, alias.name), node.lineno, eager) for alias in names)
        case ast.ImportFrom(module=str(module), level=0):
            yield Import(module, node.lineno, eager)
        case ast.ImportFrom():
            pytest.fail(f"a relative import in line {node.lineno}: modules are named in full")
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _only_for_types(node)
        yield from _imports(child, eager=eager and not lazy)


def _imported(package: str, name: str) -> str:
    """`from gate.drift import messages` imports a module, `from gate.drift.messages import remedy` a name of one."""
    own = f"{package}.{name}".removeprefix("gate.")
    if own in modules():
        return f"gate.{own}"
    return "gate.__init__" if package == "gate" else package


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def of_gate(module: str) -> list[Import]:
    return [each for each in imports(module) if each.module.startswith("gate.")]


def test_there_are_modules_and_they_import_each_other() -> None:
    assert len(modules()) > 20
    assert any(each.module == "gate.drift.comparison" for each in of_gate("drift.messages"))


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer(module) for module in modules()} == MAY_IMPORT.keys(), "give each new folder its place in MAY_IMPORT"


@pytest.mark.parametrize("module", modules())
def test_imports_run_down_only(module: str) -> None:
    climbing = [
        f"line {each.line}: {each.module}"
        for each in of_gate(module)
        if layer(each.module.removeprefix("gate.")) not in below(layer(module)) | {"__init__"}
    ]
    assert climbing == []


def test_settings_image_and_process_never_import_each_other() -> None:
    assert all(below(name) == {name, "foundation"} for name in ("settings", "image", "process"))


def test_no_modules_import_each_other_in_a_circle() -> None:
    needs = {module: {e.module.removeprefix("gate.") for e in of_gate(module)} for module in modules()}
    order = [*TopologicalSorter(needs).static_order()]
    assert {*order} == {*modules()}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_knows_neither_the_clock_nor_the_outside(module: str) -> None:
    assert [each for each in imports(module) if each.module.split(".")[0] in OUTSIDE] == []


@pytest.mark.parametrize("library", ONE_MODULE)
def test_each_library_is_imported_in_its_own_modules_only(library: str) -> None:
    users = {module for module in modules() if any(e.module.split(".")[0] == library for e in imports(module))}
    assert users == ONE_MODULE[library]


@pytest.mark.parametrize("library", ["psycopg", "sqlalchemy", "alembic"])
def test_a_heavy_library_is_loaded_only_by_the_modules_that_are_loaded_for_it(library: str) -> None:
    eager = {module for module in modules() for e in imports(module) if e.eager and e.module.split(".")[0] == library}
    loaded_late = {
        "database.reflection",
        "database.generic",
        "database.mysql",
        "database.sqlite",
        "migration.child.upgrade",
        "migration.child.template",
        "migration.child.render",
        "migration.child.connection_guard",
        "migration.child.fence",
        "migration.child.lock_timeout",
        "migration.child.session_tags",
    }
    assert eager <= (set() if library == "psycopg" else loaded_late)


def test_only_the_command_line_parses_arguments() -> None:
    names = {
        module
        for module in modules()
        for node in ast.walk(tree(module))
        if "ArgumentParser" in {getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "name", "")}
    }
    assert names == {"cli.parser"}


LONGEST_MODULE, LONGEST_FUNCTION = 500, 40
"""Lines."""


@pytest.mark.parametrize("module", modules())
def test_a_module_is_as_long_as_its_idea_and_no_longer_than_500_lines(module: str) -> None:
    assert len(file_of(module).read_text().splitlines()) <= LONGEST_MODULE
    functions = [n for n in ast.walk(tree(module)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if f.end_lineno and f.end_lineno - f.lineno >= LONGEST_FUNCTION]
    assert long == []


@pytest.mark.parametrize("module", modules())
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree(module))


def test_there_is_no_module_for_whatever_fits_nowhere() -> None:
    names = {part for module in modules() for part in module.split(".")}
    assert {"utils", "util", "helpers", "common", "misc"}.isdisjoint(names)
