"""Any alembic.ini and pyproject.toml is read as Alembic reads it, or refused with a message."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadSettings
from gate.image import alembic_config
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
            locations = [Path(os.path.abspath(each)) for each in directory.version_locations or []]
            default = [Path(os.path.abspath(directory.dir)) / "versions"]
            return Path(os.path.abspath(directory.dir)), locations or default
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


@pytest.mark.parametrize("deep", ["[" * 5000, "{a=" * 5000, '"%(here)999999999999s"'])
def test_a_pyproject_that_would_take_all_memory_is_refused(folder: Path, deep: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.alembic]\nscript_location = {deep}")
    with pytest.raises(BadSettings, match=r"pyproject\.toml"):
        alembic_config.read(["none.ini"], None, None)
