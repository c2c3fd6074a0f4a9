"""The scripts of an image: the files that Alembic would load, parsed to the same revisions, and never executed."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest
from alembic.script import ScriptDirectory

from gate.errors import BadScripts
from gate.image import script_directory
from gate.image.alembic_config import Configuration
from gate.image.env_py import VersionTable
from gate.image.revision_graph import Revision
from gate.image.script_directory import Image
from gate.image.script_parser import MAX_SCRIPT_SIZE


def script(id_: str, down: str | None = None, extra: str = "") -> str:
    return f'"""make {id_}\n\nRevises: {down}\n"""\nrevision = {id_!r}\ndown_revision = {down!r}\n{extra}\n'


LOUD = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    (tmp_path / "alembic.ini").write_text(f"[alembic]\nscript_location = {tmp_path}\n")
    return tmp_path


def put(migrations: Path, **files: str) -> None:
    for name, text in files.items():
        (migrations / "versions" / f"{name}.py").write_text(text)


def configured(migrations: Path, *locations: Path, recursive: bool = False, sourceless: bool = False) -> Configuration:
    ini = migrations / "alembic.ini"
    options = {
        "script_location": migrations,
        "path_separator": "newline",
        "version_locations": "\n ".join(map(str, locations)),
        "recursive_version_locations": str(recursive).lower(),
        "sourceless": str(sourceless).lower(),
    }
    lines = [f"{key} = {value}" for key, value in options.items() if value or key != "version_locations"]
    ini.write_text("\n".join(["[alembic]", *lines, ""]))
    chosen = locations or (migrations / "versions",)
    return Configuration(str(ini), "pyproject.toml", "alembic", migrations, chosen, recursive, sourceless)


def alembic_loads(configuration: Configuration) -> list[Revision]:
    directory = ScriptDirectory(
        str(configuration.script_location),
        version_locations=[*configuration.version_locations],
        recursive_version_locations=configuration.recursive,
        sourceless=configuration.sourceless,
    )

    def names(value: str | Iterable[str] | None) -> tuple[str, ...]:
        return () if value is None else (value,) if isinstance(value, str) else tuple(value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [
            Revision(
                s.revision,
                names(s.down_revision),
                names(s.dependencies),
                tuple(s._orig_branch_labels),
                " ".join(s.doc.split()),
                s.path,
            )
            for s in directory._load_revisions()
        ]


def read(configuration: Configuration) -> Image:
    """Read the image and compare it with Alembic."""
    image = script_directory.read(configuration)
    assert [*image.graph.revisions.values()] == alembic_loads(configuration)
    return image


def error(configuration: Configuration) -> str:
    with pytest.raises(BadScripts) as caught:
        script_directory.read(configuration)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_scripts_are_read_in_alembics_order_and_never_executed(migrations: Path) -> None:
    put(migrations, z=LOUD + script("a1"), B=LOUD + script("b1"), a=LOUD + script("a2", "a1"))
    image = script_directory.read(configured(migrations))
    assert [*image.graph.revisions] == ["b1", "a2", "a1"]
    assert image.graph.heads == ("b1", "a2")
    assert image.asked_alembic == ""
    assert [*migrations.rglob("*.ran")] == []
    assert read(configured(migrations)).graph.heads == ("b1", "a2")


def test_all_fields_of_a_revision_are_read(migrations: Path) -> None:
    put(
        migrations,
        a1=script("a1", None, "branch_labels = ('shop', 'till')"),
        b1=script("b1"),
        b2=f"{script('b2', 'b1')}depends_on = ['till']",
        m1="'''Join\nthem.'''\nrevision = 'm1'\ndown_revision = ('a1', 'b2')",
    )
    image = read(configured(migrations))
    assert image.graph.parents["b2"] == ("b1", "a1")
    assert image.graph.revisions["m1"].message == "Join them."
    assert image.graph.heads == ("m1",)


@pytest.mark.parametrize(
    "name",
    [
        "__init__.py",
        "__init__2.py",
        ".#a1.py",
        "a9.py~",
        "a9.pyc",
        "a9.pyo",
        "a9.txt",
        "a9.py.bak",
        "README",
        "script.py.mako",
        "__pycache__/a9.cpython-311.pyc",
        "__pycache__/a9.py",
        "old/a9.py",
        ".git/a9.py",
        "a\n9.py",
    ],
)
def test_files_that_alembic_ignores_are_ignored(migrations: Path, name: str) -> None:
    put(migrations, a1=script("a1"))
    path = migrations / "versions" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(script("a9"))
    assert [*read(configured(migrations)).graph.revisions] == ["a1"]


@pytest.mark.parametrize("name", [".hidden.py", "a b.py", "größe.py", "x.y.py", "-.py"])
def test_files_that_alembic_reads_are_read_whatever_their_name(migrations: Path, name: str) -> None:
    (migrations / "versions" / name).write_text(script("a1"))
    assert [*read(configured(migrations)).graph.revisions] == ["a1"]


def test_folders_within_are_read_only_where_the_configuration_says_so(migrations: Path) -> None:
    for folder in ("2024", "2023/07", "__pycache__", "2024/__pycache__"):
        path = migrations / "versions" / folder
        path.mkdir(parents=True, exist_ok=True)
        name = folder.replace("/", "_")
        (path / f"{name}.py").write_text(script(f"r{name}"))
    put(migrations, a1=script("a1"))
    assert [*read(configured(migrations)).graph.revisions] == ["a1"]
    assert [*read(configured(migrations, recursive=True)).graph.revisions] == ["a1", "r2023_07", "r2024"]


def test_several_locations_are_read_in_their_order_and_one_given_twice_once(migrations: Path) -> None:
    other = migrations / "other"
    other.mkdir()
    (other / "a.py").write_text(script("o1", "a1"))
    put(migrations, z=script("a1"))
    versions = migrations / "versions"
    assert [*read(configured(migrations, other, versions, other)).graph.revisions] == ["o1", "a1"]
    gone = migrations / "gone"
    assert [*read(configured(migrations, gone, versions)).graph.revisions] == ["a1"]


def test_symbolic_links_are_followed(migrations: Path) -> None:
    store = migrations / "store"
    store.mkdir()
    (store / "a1.py").write_text(script("a1"))
    (store / "note.txt").write_text("no script")
    versions = migrations / "versions"
    (versions / "x.py").symlink_to(store / "a1.py")
    (versions / "x_again.txt").symlink_to(store / "a1.py")
    (versions / "y.py").symlink_to(store / "note.txt")
    assert [*read(configured(migrations)).graph.revisions] == ["a1"]
    (migrations / "linked").symlink_to(versions)
    assert [*read(configured(migrations, migrations / "linked", versions)).graph.revisions] == ["a1"]


def test_a_mounted_config_map_is_read_through_its_links(migrations: Path) -> None:
    versions = migrations / "versions"
    (versions / "..2024_01_01").mkdir()
    (versions / "..2024_01_01" / "a1.py").write_text(script("a1"))
    (versions / "..data").symlink_to("..2024_01_01")
    (versions / "a1.py").symlink_to("..data/a1.py")
    assert [*read(configured(migrations)).graph.revisions] == ["a1"]
    assert [*read(configured(migrations, recursive=True)).graph.revisions] == ["a1"]


def test_alembic_loads_a_computed_revision_and_the_reason_is_kept(migrations: Path) -> None:
    put(migrations, a1=script("a1"), a2="revision = 'a' + str(2)\ndown_revision = 'a1'")
    image = read(configured(migrations))
    assert image.graph.heads == ("a2",)
    assert (
        image.asked_alembic == f"{migrations}/versions/a2.py, line 1: revision is computed and cannot be read as text"
    )


def test_alembic_loads_bytecode_without_source(migrations: Path) -> None:
    put(migrations, a1=script("a1"), a2=script("a2", "a1"))
    source = migrations / "versions" / "a2.py"
    py_compile.compile(str(source), cfile=str(source.with_suffix(".pyc")), doraise=True)
    source.unlink()
    assert read(configured(migrations)).graph.heads == ("a1",)
    image = read(configured(migrations, sourceless=True))
    assert image.graph.heads == ("a2",)
    assert "compiled" in image.asked_alembic


def test_cached_bytecode_counts_only_when_its_source_is_gone(migrations: Path) -> None:
    put(migrations, a1=script("a1"), a2=script("a2", "a1"))
    for name in ("a1", "a2"):
        py_compile.compile(str(migrations / "versions" / f"{name}.py"), doraise=True)
    assert script_directory.read(configured(migrations, sourceless=True)).asked_alembic == ""
    (migrations / "versions" / "a2.py").unlink()
    assert read(configured(migrations, sourceless=True)).graph.heads == ("a2",)


def test_a_computed_revision_that_alembic_cannot_load_is_refused_with_both_reasons(migrations: Path) -> None:
    put(migrations, a1="import application_that_is_not_here\nrevision = application_that_is_not_here.id")
    message = error(configured(migrations))
    assert "a1.py, line 2: revision is computed" in message
    assert f"No module named 'application_that_is_not_here' in {sys.executable}, which runs gate" in message


@pytest.mark.parametrize(
    "end", ["raise SystemExit(3)", "import os; os._exit(3)", "print('{}'); raise KeyboardInterrupt"]
)
def test_a_script_that_ends_the_process_that_loads_it_is_refused(migrations: Path, end: str) -> None:
    put(migrations, a1=f"revision = str('a1')\ndown_revision = None\n{end}\n")
    assert "Alembic cannot load it either" in error(configured(migrations))


def test_the_output_of_a_script_does_not_break_the_answer_of_alembic(migrations: Path) -> None:
    put(migrations, a1="print('hello')\nrevision = str('a1')\ndown_revision = None\n")
    assert read(configured(migrations)).graph.heads == ("a1",)


def test_a_computed_label_asks_alembic_only_where_a_dependency_may_mean_it(migrations: Path) -> None:
    put(migrations, a1=script("a1", None, "branch_labels = (str('shop'),)"), b1=script("b1", None, "depends_on = 'a1'"))
    image = script_directory.read(configured(migrations))
    assert (image.asked_alembic, image.graph.heads) == ("", ("b1",))
    put(migrations, b1=script("b1", None, "depends_on = 'shop'"))
    image = read(configured(migrations))
    assert "branch_labels is computed" in image.asked_alembic
    assert image.graph.parents["b1"] == ("a1",)


def test_a_computed_label_makes_a_row_of_the_version_table_no_less_known(migrations: Path) -> None:
    put(migrations, a1=script("a1", None, "branch_labels = (str('shop'),)"))
    assert script_directory.read(configured(migrations)).graph.resolve("a1") == "a1"


def test_the_version_table_is_read_from_env_py(migrations: Path) -> None:
    put(migrations, a1=script("a1"))
    unseen = f"{migrations / 'env.py'} does not exist as a source file"
    assert script_directory.read(configured(migrations)).version_table == VersionTable(unseen=unseen)
    (migrations / "env.py").write_text(LOUD + "context.configure(version_table='v', version_table_schema='s')")
    assert script_directory.read(configured(migrations)).version_table == VersionTable("v", "s")
    assert [*migrations.rglob("*.ran")] == []


def test_an_env_py_that_cannot_be_read_is_refused(migrations: Path) -> None:
    put(migrations, a1=script("a1"))
    (migrations / "env.py").mkdir()
    assert "env.py, line 1: this is a folder" in error(configured(migrations))


@pytest.mark.parametrize("make_folder", [True, False])
def test_an_image_without_scripts_never_passes(migrations: Path, *, make_folder: bool) -> None:
    if not make_folder:
        (migrations / "versions").rmdir()
    assert "no revisions" in error(configured(migrations))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"\x7fELF\x00\x01", 1),
        (bytes(range(256)), 1),
        (b"revision = 'a2'\ndown_revision = (\n", 2),
        (b"revision = 'a2'\n\ndef f(:\n", 3),
        (b"# nothing here\n", 1),
        (b"revision = 'a2'\n" + b"#" * MAX_SCRIPT_SIZE, 1),
    ],
    ids=["empty", "binary", "all bytes", "broken", "broken below", "no revision", "too long"],
)
def test_one_bad_script_spoils_the_image_and_is_named_with_its_line(
    migrations: Path, content: bytes, line: int
) -> None:
    put(migrations, a1=script("a1"))
    (migrations / "versions" / "a2.py").write_bytes(content)
    assert error(configured(migrations)).startswith(f"{migrations}/versions/a2.py, line {line}: ")


def test_a_long_script_within_reason_is_read(migrations: Path) -> None:
    put(migrations, a1=script("a1") + "DATA = '''" + "x" * (MAX_SCRIPT_SIZE // 2) + "'''")
    assert [*script_directory.read(configured(migrations)).graph.revisions] == ["a1"]


def test_a_folder_where_a_script_should_be_is_refused(migrations: Path) -> None:
    put(migrations, a1=script("a1"))
    (migrations / "versions" / "a2.py").mkdir()
    assert error(configured(migrations)).startswith(f"{migrations}/versions/a2.py, line 1: this is a folder")


def test_a_named_pipe_is_refused_and_does_not_block(migrations: Path) -> None:
    put(migrations, a1=script("a1"))
    os.mkfifo(migrations / "versions" / "a2.py")
    assert "a2.py, line 1: this is not a regular file" in error(configured(migrations))


@pytest.mark.parametrize("target", ["gone.py", "a2.py"], ids=["dangling", "loop"])
def test_a_broken_symbolic_link_is_refused(migrations: Path, target: str) -> None:
    put(migrations, a1=script("a1"))
    (migrations / "versions" / "a2.py").symlink_to(target)
    assert "line 1: cannot be read" in error(configured(migrations))


def test_a_file_where_the_versions_folder_should_be_is_refused(migrations: Path) -> None:
    (migrations / "versions").rmdir()
    (migrations / "versions").write_text(script("a1"))
    error(configured(migrations))


def test_the_same_id_in_two_files_is_refused_with_both_names(migrations: Path) -> None:
    put(migrations, a1=script("a1"), copy=script("a1"))
    message = error(configured(migrations))
    assert f"{migrations}/versions/a1.py" in message
    assert f"{migrations}/versions/copy.py" in message


def test_a_missing_parent_is_refused_with_the_file_that_names_it(migrations: Path) -> None:
    put(migrations, a2=script("a2", "a1"))
    assert f"{migrations}/versions/a2.py: down_revision 'a1'" in error(configured(migrations))


GOOD = "revision = 'a1'\ndown_revision = None\n\ndef upgrade():\n    x = (1)\n"
BROKEN = GOOD.replace("(1)", "(1(")
"""The same length, so that only a parser detects the error."""

MINUTE = 60
"""Seconds."""


@pytest.fixture
def script_path(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    made = tmp_path / "versions" / "a1.py"
    made.write_text(GOOD)
    return made


def ids(script_path: Path) -> list[str]:
    configuration = Configuration("", "", "alembic", script_path.parent.parent, (script_path.parent,))
    return [*script_directory.read(configuration).graph.revisions]


def compiled(script_path: Path, mode: PycInvalidationMode = PycInvalidationMode.TIMESTAMP) -> Path:
    py_compile.compile(str(script_path), doraise=True, invalidation_mode=mode)
    return Path(cache_from_source(str(script_path)))


def break_it(script_path: Path, *, later: int) -> None:
    """Write a syntax error of the same length, with a modification time so many seconds later."""
    before = script_path.stat()
    script_path.write_text(BROKEN)
    os.utime(script_path, (before.st_atime, before.st_mtime + later))


def python_imports(script_path: Path) -> bool:
    command = [
        sys.executable,
        "-B",
        "-c",
        f"import sys; sys.path.insert(0, {str(script_path.parent)!r}); import a1",
    ]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, env=plain, stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_a_script_with_a_valid_cache_is_not_parsed_again(script_path: Path) -> None:
    compiled(script_path)
    break_it(script_path, later=0)  # Python, too, trusts its cache and does not see the error
    assert ids(script_path) == ["a1"]
    assert python_imports(script_path)


def test_a_script_that_was_broken_after_it_was_compiled_is_refused(script_path: Path) -> None:
    compiled(script_path)
    break_it(script_path, later=MINUTE)
    with pytest.raises(BadScripts, match=r"a1\.py, line 5: Python cannot read this script"):
        ids(script_path)
    assert not python_imports(script_path)


def test_a_script_without_a_cache_is_parsed(script_path: Path) -> None:
    assert not script_directory.has_valid_bytecode(str(script_path))
    script_path.write_text(BROKEN)
    with pytest.raises(BadScripts):
        ids(script_path)


@pytest.mark.parametrize("mode", [PycInvalidationMode.CHECKED_HASH, PycInvalidationMode.UNCHECKED_HASH])
def test_a_hash_based_cache_is_not_trusted(script_path: Path, mode: PycInvalidationMode) -> None:
    compiled(script_path, mode)
    assert not script_directory.has_valid_bytecode(str(script_path))


def lengthen(script_path: Path, _: Path) -> None:
    status = script_path.stat()
    script_path.write_text(GOOD + "#\n")
    os.utime(script_path, (status.st_atime, status.st_mtime))


def from_another_python(_: Path, cache: Path) -> None:
    cache.write_bytes(b"\x00\x0d\x0d\x0a" + cache.read_bytes()[4:])


def truncate(_: Path, cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:15])


def replace_by_pipe(_: Path, cache: Path) -> None:
    cache.unlink()
    os.mkfifo(cache)


def replace_by_folder(_: Path, cache: Path) -> None:
    cache.unlink()
    cache.mkdir()


@pytest.mark.parametrize("spoil", [lengthen, from_another_python, truncate, replace_by_pipe, replace_by_folder])
def test_an_invalid_cache_is_not_trusted_and_does_not_block(
    script_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    cache = compiled(script_path)
    assert script_directory.has_valid_bytecode(str(script_path))
    spoil(script_path, cache)
    assert not script_directory.has_valid_bytecode(str(script_path))
