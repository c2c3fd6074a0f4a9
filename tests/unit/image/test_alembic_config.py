"""The Alembic configuration is read as Alembic's own command reads it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory

from gate.errors import BadSettings
from gate.image import alembic_config
from gate.image.alembic_config import Configuration

Files = Mapping[str, str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the current folder; afterwards undo what Alembic imports and prepends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)
    path, modules = [*sys.path], {*sys.modules}
    # Python caches the finder of "."; a real gate never changes its current folder.
    sys.path_importer_cache.clear()
    yield tmp_path
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name.startswith("shop"):
            del sys.modules[name]


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def gate_reads(arguments: Sequence[str], variable: str | None) -> Configuration:
    flags = [word for flag, word in pairwise(arguments) if flag == "-c"]
    sections = [word for flag, word in pairwise(arguments) if flag == "-n"]
    return alembic_config.read(flags, variable, sections[0] if sections else None)


def alembic_reads(arguments: Sequence[str]) -> ScriptDirectory:
    command = CommandLine()
    options = command.parser.parse_args([*arguments, "heads"])
    toml, ini = command._inis_from_config(options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return ScriptDirectory.from_config(Config(ini, toml_file=toml, ini_section=options.name))


def ini(*lines: str, section: str = "alembic") -> str:
    return "\n".join([f"[{section}]", *lines, ""])


def toml(*lines: str) -> str:
    return "\n".join(['[project]\nname = "shop"\n[tool.alembic]', *lines, ""])


M, N = "migrations/env.py", "other/env.py"

PROJECTS: dict[str, tuple[Files, Sequence[str], str | None]] = {
    "relative": ({"alembic.ini": ini("script_location = migrations"), M: ""}, (), None),
    "here": ({"alembic.ini": ini("script_location = %(here)s/migrations"), M: ""}, (), None),
    "here of another folder": (
        {"conf/a.ini": ini("script_location = %(here)s/../migrations"), M: ""},
        ("-c", "conf/a.ini"),
        None,
    ),
    "relative to the current folder, not to the file": (
        {"conf/a.ini": ini("script_location = migrations"), M: "", "conf/migrations/env.py": ""},
        ("-c", "conf/a.ini"),
        None,
    ),
    "percent": ({"alembic.ini": ini("script_location = 100%%/x"), "100%/x/env.py": ""}, (), None),
    "interpolation of another option": (
        {"alembic.ini": ini("base = migrations", "script_location = %(base)s"), M: ""},
        (),
        None,
    ),
    "default section": ({"alembic.ini": "[DEFAULT]\nscript_location = migrations\n[alembic]\n", M: ""}, (), None),
    "comments and colons": ({"alembic.ini": ini("; x", "# y", "script_location: migrations"), M: ""}, (), None),
    "toml": ({"pyproject.toml": toml('script_location = "migrations"'), M: ""}, (), None),
    "toml here": ({"pyproject.toml": toml('script_location = "%(here)s/migrations"'), M: ""}, (), None),
    "toml percent": ({"pyproject.toml": toml('script_location = "100%%/x"'), "100%/x/env.py": ""}, (), None),
    "both, the ini first": (
        {
            "alembic.ini": ini("script_location = migrations"),
            "pyproject.toml": toml('script_location = "other"'),
            M: "",
            N: "",
        },
        (),
        None,
    ),
    "both, each with its part": (
        {
            "alembic.ini": ini("sqlalchemy.url = sqlite://"),
            "pyproject.toml": toml(
                'script_location = "migrations"', 'version_locations = ["%(here)s/v1", "v2"]', "sourceless = true"
            ),
            M: "",
        },
        (),
        None,
    ),
    "both, the ini overrides the list": (
        {
            "alembic.ini": ini("path_separator = os", "version_locations = v3"),
            "pyproject.toml": toml('script_location = "migrations"', 'version_locations = ["v1"]'),
            M: "",
        },
        (),
        None,
    ),
    "-c ini": (
        {"alembic.ini": ini("script_location = other"), "a.ini": ini("script_location = migrations"), M: "", N: ""},
        ("-c", "a.ini"),
        None,
    ),
    "-c toml": (
        {"conf/pyproject.toml": toml('script_location = "migrations"'), M: ""},
        ("-c", "conf/pyproject.toml"),
        None,
    ),
    "-c toml beside alembic.ini": (
        {
            "alembic.ini": ini("script_location = other"),
            "conf/pyproject.toml": toml('script_location = "migrations"', 'version_locations = ["v1"]'),
            M: "",
            N: "",
        },
        ("-c", "conf/pyproject.toml"),
        None,
    ),
    "-c twice": (
        {
            "conf/a.ini": ini("path_separator = os"),
            "conf/pyproject.toml": toml('script_location = "%(here)s/m"'),
            "conf/m/env.py": "",
        },
        ("-c", "conf/a.ini", "-c", "conf/pyproject.toml"),
        None,
    ),
    "a toml of another name is an ini": (
        {"a.toml": ini("script_location = migrations"), M: ""},
        ("-c", "a.toml"),
        None,
    ),
    "variable ini": ({"conf/a.ini": ini("script_location = migrations"), M: ""}, (), "conf/a.ini"),
    "variable toml": (
        {"conf/pyproject.toml": toml('script_location = "migrations"'), M: ""},
        (),
        "conf/pyproject.toml",
    ),
    "-c over the variable": (
        {"a.ini": ini("script_location = migrations"), "b.ini": ini("script_location = other"), M: "", N: ""},
        ("-c", "a.ini"),
        "b.ini",
    ),
    "-c toml and variable ini": (
        {
            "b.ini": ini("version_locations = v9", "path_separator = os"),
            "x/pyproject.toml": toml('script_location = "migrations"'),
            M: "",
        },
        ("-c", "x/pyproject.toml"),
        "b.ini",
    ),
    "-n": (
        {
            "alembic.ini": ini("script_location = other") + ini("script_location = migrations", section="shop"),
            M: "",
            N: "",
        },
        ("-n", "shop"),
        None,
    ),
    "-n means nothing to the toml": (
        {"pyproject.toml": toml('script_location = "migrations"'), M: ""},
        ("-n", "shop"),
        None,
    ),
    "recursive and sourceless": (
        {
            "alembic.ini": ini(
                "script_location = migrations", "recursive_version_locations = true", "sourceless = true"
            ),
            M: "",
        },
        (),
        None,
    ),
    "only the word true is true": (
        {
            "alembic.ini": ini("script_location = migrations", "recursive_version_locations = True", "sourceless = 1"),
            M: "",
        },
        (),
        None,
    ),
    "empty list": (
        {"pyproject.toml": toml('script_location = "migrations"', "version_locations = []"), M: ""},
        (),
        None,
    ),
    "package": (
        {
            "alembic.ini": ini("script_location = shop_a:db/migrations", "prepend_sys_path = ."),
            "shop_a/__init__.py": "",
            "shop_a/db/migrations/env.py": "",
        },
        (),
        None,
    ),
    "package of packages": (
        {
            "alembic.ini": ini(
                "script_location = shop_b.db:migrations", "prepend_sys_path = src", "path_separator = os"
            ),
            "src/shop_b/__init__.py": "",
            "src/shop_b/db/__init__.py": "",
            "src/shop_b/db/migrations/env.py": "",
        },
        (),
        None,
    ),
    "package with several folders": (
        {
            "alembic.ini": ini("script_location = shop_c:db:migrations", "prepend_sys_path = %(here)s/src"),
            "src/shop_c/__init__.py": "",
            "src/shop_c/db/migrations/env.py": "",
        },
        (),
        None,
    ),
    "package from the toml": (
        {
            "pyproject.toml": toml('script_location = "shop_d:migrations"', 'prepend_sys_path = ["%(here)s/src"]'),
            "src/shop_d/__init__.py": "",
            "src/shop_d/migrations/env.py": "",
        },
        (),
        None,
    ),
    "namespace package": (
        {
            "alembic.ini": ini("script_location = shop_e:migrations", "prepend_sys_path = ."),
            "shop_e/migrations/env.py": "",
        },
        (),
        None,
    ),
    "namespace package below a package": (
        {
            "alembic.ini": ini("script_location = shop_g.plugins.fab:migrations", "prepend_sys_path = ."),
            "shop_g/__init__.py": "",
            "shop_g/plugins/fab/__init__.py": "",
            "shop_g/plugins/fab/migrations/env.py": "",
        },
        (),
        None,
    ),
    "package in version_locations": (
        {
            "alembic.ini": ini(
                "script_location = migrations",
                "prepend_sys_path = .",
                "path_separator = space",
                "version_locations = shop_f:versions migrations/versions",
            ),
            "shop_f/__init__.py": "",
            "shop_f/versions/a1.py": "",
            M: "",
        },
        (),
        None,
    ),
}


@pytest.mark.parametrize(("files", "arguments", "variable"), list(PROJECTS.values()), ids=list(PROJECTS))
def test_a_project_is_found_where_alembic_finds_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: Files, arguments: Sequence[str], variable: str | None
) -> None:
    write(folder, files)
    if variable:
        monkeypatch.setenv("ALEMBIC_CONFIG", variable)
    assert_equal(gate_reads(arguments, variable), alembic_reads(arguments))


def assert_equal(found: Configuration, alembic: ScriptDirectory) -> None:
    assert found.script_location.absolute() == Path(alembic.dir).absolute()
    assert [*found.version_locations] == [*alembic._version_locations]
    assert found.recursive == alembic.recursive_version_locations
    assert found.sourceless == alembic.sourceless


@pytest.mark.parametrize(
    "lines",
    [
        ("path_separator = space", "version_locations = v1 %(here)s/v2  v3"),
        ("path_separator = os", f"version_locations = v1{os.pathsep}%(here)s/v 2{os.pathsep} v3 {os.pathsep}"),
        ("path_separator = :", "version_locations = v1:%(here)s/v2"),
        ("path_separator = ;", "version_locations = v1;%(here)s/v2; v3"),
        ("path_separator = newline", "version_locations =", "  v1", "  %(here)s/v 2", "  v3"),
        ("version_path_separator = space", "version_locations = v1 %(here)s/v2"),
        ("version_path_separator = os", f"version_locations = v1{os.pathsep}v2"),
        ("version_path_separator = :", "version_locations = v1:v2"),
        ("version_path_separator = ;", "version_locations = v1;v2"),
        ("version_path_separator = newline", "version_locations =", "  v1", "  v2"),
        ("path_separator = ;", "version_path_separator = :", "version_locations = v1;v2"),
        ("version_locations = v1 v2",),
        ("version_locations = v1,v2",),
        ("version_locations = v1, v2,  v3   v4",),
        ("version_locations = %(here)s/v1 %(here)s/v2",),
        ("version_locations = v1",),
        ("version_locations =",),
        ("path_separator = os",),
    ],
)
def test_the_version_locations_are_split_as_alembic_splits_them(folder: Path, lines: tuple[str, ...]) -> None:
    write(folder, {"alembic.ini": ini("script_location = migrations", *lines), M: ""})
    assert_equal(gate_reads((), None), alembic_reads(()))


def test_a_package_is_found_and_never_imported(folder: Path) -> None:
    loud = "raise SystemExit('the application was imported')"
    write(
        folder,
        {
            "alembic.ini": ini("script_location = shop_loud.db:migrations", "prepend_sys_path = ."),
            "shop_loud/__init__.py": loud,
            "shop_loud/db/__init__.py": loud,
            "shop_loud/db/migrations/env.py": loud,
        },
    )
    assert gate_reads((), None).script_location.absolute() == folder / "shop_loud/db/migrations"
    assert "shop_loud" not in sys.modules


def test_the_arguments_for_alembic_itself_are_kept(folder: Path) -> None:
    write(folder, {"a.ini": ini("script_location = migrations", section="shop"), M: ""})
    found = gate_reads(("-c", "a.ini", "-n", "shop"), None)
    assert (found.ini, found.toml, found.section) == ("a.ini", "pyproject.toml", "shop")


def test_the_url_of_the_ini_file_is_read_and_never_shown(folder: Path) -> None:
    lines = ("script_location = migrations", "sqlalchemy.url = postgresql://app:S3cr3t%%40@db/shop")
    write(folder, {"alembic.ini": ini(*lines), M: ""})
    found = gate_reads((), None)
    assert found.url == "postgresql://app:S3cr3t%40@db/shop"
    assert "S3cr3t" not in repr(found)


def test_a_percent_in_an_unused_url_is_no_error_as_in_alembic(folder: Path) -> None:
    lines = ("script_location = migrations", "sqlalchemy.url = postgresql://app:p%40w@db/shop")
    write(folder, {"alembic.ini": ini(*lines), M: ""})
    assert_equal(gate_reads((), None), alembic_reads(()))


BROKEN: dict[str, tuple[Files, Sequence[str], str | None, str]] = {
    "nothing": ({}, (), None, "No Alembic configuration in"),
    "pyproject.toml without the table": ({"pyproject.toml": "[project]"}, (), None, "No Alembic configuration in"),
    "-c names nothing": ({}, ("-c", "gone.ini"), None, "gone.ini is not a file"),
    "the variable names nothing": ({}, (), "gone.ini", "gone.ini is not a file"),
    "-c names a folder": ({M: ""}, ("-c", "migrations"), None, "migrations is not a file"),
    "-c names two ini files": (
        {"a.ini": ini(), "b.ini": ini()},
        ("-c", "a.ini", "-c", "b.ini"),
        None,
        "-c names two ini files, a.ini and b.ini",
    ),
    "no such section": (
        {"alembic.ini": ini("script_location = migrations"), M: ""},
        ("-n", "shop"),
        None,
        "alembic.ini has no section [shop]",
    ),
    "no script_location": ({"alembic.ini": ini()}, (), None, "alembic.ini has no script_location in [alembic]"),
    "no such folder": (
        {"alembic.ini": ini("script_location = gone")},
        (),
        None,
        "alembic.ini: script_location names the folder gone, which does not exist",
    ),
    "no such folder in the toml": (
        {"pyproject.toml": toml('script_location = "gone"')},
        (),
        None,
        "pyproject.toml: script_location names the folder gone, which does not exist",
    ),
    "a percent": ({"alembic.ini": ini("script_location = 100%/x")}, (), None, "write %% for a plain %"),
    "a percent in the toml": ({"pyproject.toml": toml('script_location = "100%/x"')}, (), None, "pyproject.toml"),
    "no ini file": ({"alembic.ini": "script_location = x"}, (), None, "alembic.ini is not a valid ini file"),
    "an option twice": (
        {"alembic.ini": ini("script_location = a", "script_location = b")},
        (),
        None,
        "alembic.ini is not a valid ini file",
    ),
    "no TOML": ({"pyproject.toml": "[tool.alembic"}, (), None, "pyproject.toml is not a valid TOML file"),
    "no table": ({"pyproject.toml": "[tool]\nalembic = 1"}, (), None, "[tool.alembic] must be a table"),
    "a number as location": ({"pyproject.toml": toml("script_location = 5")}, (), None, "must be text"),
    "text as list": (
        {"pyproject.toml": toml('script_location = "migrations"', 'version_locations = "v1"'), M: ""},
        (),
        None,
        "version_locations in [tool.alembic] must be a list",
    ),
    "text as flag": (
        {"pyproject.toml": toml('script_location = "migrations"', 'sourceless = "true"'), M: ""},
        (),
        None,
        "sourceless in [tool.alembic] must be true or false",
    ),
    "unknown separator": (
        {"alembic.ini": ini("script_location = migrations", "path_separator = |", "version_locations = a|b"), M: ""},
        (),
        None,
        "path_separator must be one of space, newline, os, : or ;, not '|'",
    ),
    "unknown package": (
        {"alembic.ini": ini("script_location = shop_gone:migrations")},
        (),
        None,
        "'shop_gone', which cannot be imported",
    ),
}


@pytest.mark.parametrize(("files", "arguments", "variable", "words"), list(BROKEN.values()), ids=list(BROKEN))
def test_an_invalid_configuration_is_refused_with_the_file_and_the_error(
    folder: Path, files: Files, arguments: Sequence[str], variable: str | None, words: str
) -> None:
    write(folder, files)
    with pytest.raises(BadSettings) as caught:
        gate_reads(arguments, variable)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_with_undecodable_text_is_refused(folder: Path) -> None:
    (folder / "alembic.ini").write_bytes(b"[alembic]\nscript_location = \xff\xfe\n")
    with pytest.raises(BadSettings, match=r"alembic\.ini is not a valid ini file"):
        gate_reads((), None)


def test_a_tool_key_in_pyproject_that_is_not_a_table_is_refused_without_a_traceback(folder: Path) -> None:
    write(folder, {"pyproject.toml": "tool = 1"})
    with pytest.raises(BadSettings):
        gate_reads((), None)
