"""Any alembic.ini and pyproject.toml is read as Alembic reads it, or refused with a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import example, given
from hypothesis import strategies as st

from gate.errors import BadSettings
from gate.image import alembic_config
from gate.image.alembic_config import MAX_FILE_SIZE
from tests.support.strategies import TEXT, printable_lines

KEYS = st.sampled_from(
    "script_location version_locations path_separator version_path_separator sqlalchemy.url prepend_sys_path "
    "recursive_version_locations sourceless databases here unknown".split()
)
VALUES = (
    st.sampled_from(
        [
            "migrations",
            "%(here)s/migrations",
            "%(nothing)s",
            "%",
            "%%",
            "os",
            ":",
            "true",
            "no:such",
            "json:tool",
            "a..b:c",
            ":",
            "migrations/v1 migrations/v2",
            "a\0b",
            "\n",
            "\n  b",
            "[x]",
            "{}",
            "-1",
            "\udcff",
            "é",
            "#",
            ";",
        ]
    )
    | TEXT
)
TOML_VALUES = st.recursive(
    VALUES.map(lambda text: json.dumps(text.encode("utf-8", "replace").decode()))
    | st.sampled_from(["true", "1", "nan", "1979-05-27"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("any")
    for name in ("migrations/versions", "migrations/v1", "migrations/v2"):
        (path / name).mkdir(parents=True)
    with chdir(path):
        yield path


def alembic_reads(section: str) -> tuple[Path, list[Path]] | None:
    import_path = [*sys.path]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = Config("alembic.ini", toml_file="pyproject.toml", ini_section=section)
            directory = ScriptDirectory.from_config(config)
            # The public attribute has each location as it is written, also one in a package (`json:tool`).
            locations = [Path(os.path.abspath(each)) for each in directory._version_locations]
            return Path(os.path.abspath(directory.dir)), locations
        except Exception:  # noqa: BLE001 - Alembic raises many types on invalid files
            return None
        finally:
            sys.path[:] = import_path


def compare_configurations(section: str) -> None:
    try:
        configuration = alembic_config.read([], None, section)
    except BadSettings as error:
        assert printable_lines(error)
    else:
        expected = alembic_reads(section)
        if expected is not None:
            actual = (
                Path(os.path.abspath(configuration.script_location)),
                [*map(Path, map(os.path.abspath, configuration.version_locations))],
            )
            assert actual == expected


@given(
    options=st.lists(st.tuples(KEYS, VALUES), max_size=5),
    good=st.booleans(),
    noise=TEXT,
    section=st.sampled_from(["alembic", "x", "DEFAULT", "\udcff", "a]\n[b"]),
)
@example(options=[("version_locations", "json:tool")], good=True, noise="", section="alembic")
def test_any_ini_file_is_read_as_alembic_reads_it_or_refused_with_a_sentence(
    folder: Path,
    options: list[tuple[str, str]],
    good: bool,  # noqa: FBT001 - a Hypothesis argument
    noise: str,
    section: str,
) -> None:
    lines = ["script_location = migrations"] if good else []
    text = "\n".join([f"[{section}]", *lines, *(f"{key} = {value}" for key, value in options), noise])
    (folder / "pyproject.toml").unlink(missing_ok=True)
    (folder / "alembic.ini").write_bytes(text.encode("utf-8", "surrogatepass"))
    compare_configurations(section)


@given(
    options=st.dictionaries(KEYS, TOML_VALUES, max_size=4),
    good=st.booleans(),
    noise=TEXT,
)
def test_any_pyproject_is_read_as_alembic_reads_it_or_refused_with_a_sentence(
    folder: Path,
    options: dict[str, str],
    good: bool,  # noqa: FBT001 - a Hypothesis argument
    noise: str,
) -> None:
    given_options = {**options, **({"script_location": '"migrations"'} if good else {})}
    lines = [f"{json.dumps(key)} = {value}" for key, value in given_options.items()]
    (folder / "alembic.ini").unlink(missing_ok=True)
    text = "\n".join(["[tool.alembic]", *lines, noise if not good else ""])
    (folder / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    compare_configurations("alembic")


MAX_PEAK = 300
"""Megabytes of the process, generously: one value below takes gigabytes where nothing bounds it."""

PEAK = """
import sys
from gate.errors import BadSettings
from gate.image import alembic_config
try:
    alembic_config.read([], sys.argv[1], None)
    print()
except BadSettings as error:
    print(error)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(int(line.split()[1]) >> 10)
"""


def error_and_peak(path: Path) -> tuple[str, int]:
    """The error of reading a configuration, and the peak memory of a process that does only this, in megabytes.

    Whether the system refuses a huge allocation or kills the process for using it depends on vm.overcommit_memory, so
    the address space is limited only far above the bound.
    """
    limited = ["sh", "-c", f'ulimit -v {8 << 20}; exec "$@"', "sh", sys.executable, "-c", PEAK, str(path)]
    ended = subprocess.run(limited, cwd=path.parent, capture_output=True, text=True, timeout=60, check=True)
    error, peak = ended.stdout.splitlines()
    return error, int(peak)


def billion_laughs(references: int) -> str:
    """An ini file in which each of ten options refers to the next one, many times."""
    levels = [f"o{n} = {f'%(o{n + 1})s' * references}" for n in range(9)]
    return "\n".join(["[alembic]", "script_location = %(o0)s", *levels, "o9 = xxxxxxxxxx"])


LARGE_TOML = {
    "nested arrays": "[" * 5000,
    "nested tables": "{a=" * 5000,
    "a width": '"%(here)1500000000s"',
    "a width beyond all memory": '"%(here)999999999999s"',
    "a negative width": '"%(here)-1500000000s"',
    "a precision of a number": '"%(here)1500000000d"',
    "a width of an escape": '"%1500000000%"',
    "another conversion": '"%(here)r"',
    "here, many times": f'"{"%(here)s" * 50_000}"',
    "a key of many parts": f'"migrations"\n{"a." * 50_000}a = 1',
    "a table of many parts": f'"migrations"\n[{"a." * 3_000}a]\n' + "\n".join(f"b{n}.c = 1" for n in range(40_000)),
    "a large file": '"migrations"\n' + "#" * MAX_FILE_SIZE,
}


@pytest.mark.parametrize("value", LARGE_TOML.values(), ids=LARGE_TOML)
def test_a_pyproject_that_would_take_all_memory_is_refused_before_it_does(tmp_path: Path, value: str) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "pyproject.toml").write_text(f"[tool.alembic]\nscript_location = {value}")
    error, peak = error_and_peak(tmp_path / "pyproject.toml")
    assert "pyproject.toml" in error
    assert peak < MAX_PEAK


LARGE_INI = {
    "references to references": billion_laughs(20),
    "two references each, many levels": billion_laughs(6),
    "here, many times": f"[alembic]\nscript_location = {'%(here)s' * 50_000}",
    "a width": "[alembic]\nscript_location = %(here)1500000000s",
    "a large file": "[alembic]\nscript_location = migrations\n" + "#" * MAX_FILE_SIZE,
}


@pytest.mark.parametrize("text", LARGE_INI.values(), ids=LARGE_INI)
def test_an_ini_file_that_would_take_all_memory_is_refused_before_it_does(tmp_path: Path, text: str) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "shop.ini").write_text(text)
    error, peak = error_and_peak(tmp_path / "shop.ini")
    assert "shop.ini" in error
    assert peak < MAX_PEAK


def test_references_within_the_bounds_are_expanded(tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "shop.ini").write_text(
        "[alembic]\nROOT = %(here)s\nscript_location = %(root)s/migrations\nversion_locations = %(ROOT)s/100%%\n"
    )
    with chdir(tmp_path):
        configuration = alembic_config.read([], str(tmp_path / "shop.ini"), None)
    assert configuration.script_location == tmp_path / "migrations"
    assert configuration.version_locations == (tmp_path / "100%",)


WIDEST = {
    "many sections": "".join(f"[{n:x}]\n" for n in range(75_000)) + "[alembic]\nscript_location = migrations\n",
    "many tables": "[tool.alembic]\nscript_location = 'migrations'\n" + "".join(f"[a{n:x}.b]\n" for n in range(45_000)),
    "tables of many parts": "[tool.alembic]\nscript_location = 'migrations'\n"
    + "".join(f"[a{n:x}{'.b' * 50}]\n" for n in range(1_800)),
}


@pytest.mark.parametrize("text", WIDEST.values(), ids=WIDEST)
def test_no_file_up_to_the_limit_takes_much_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "migrations").mkdir()
    path = tmp_path / ("pyproject.toml" if "tool" in text else "shop.ini")
    path.write_text(text)
    assert error_and_peak(path)[1] < 2 * MAX_PEAK
