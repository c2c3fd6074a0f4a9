"""Python's caches of compiled scripts: one is believed exactly where Python itself would believe it."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from gate.errors import BadScripts
from gate.image import script_directory
from gate.image.alembic_config import Configuration

GOOD = "revision = 'a1'\ndown_revision = None\n\ndef upgrade():\n    x = (1)\n"
BROKEN = GOOD.replace("(1)", "(1(")
"""Of the same length; nothing but a parser sees the difference."""

A_MINUTE = 60


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    made = tmp_path / "versions" / "a1.py"
    made.write_text(GOOD)
    return made


def look(script: Path) -> list[str]:
    place = Configuration("", "", "alembic", script.parent.parent, (script.parent,))
    return [*script_directory.read(place).graph.revisions]


def compiled(script: Path, mode: PycInvalidationMode = PycInvalidationMode.TIMESTAMP) -> Path:
    py_compile.compile(str(script), doraise=True, invalidation_mode=mode)
    return Path(cache_from_source(str(script)))


def break_it(script: Path, *, later: int) -> None:
    """Write other text of the same length, so many seconds after the first."""
    before = script.stat()
    script.write_text(BROKEN)
    os.utime(script, (before.st_atime, before.st_mtime + later))


def python_imports(script: Path) -> bool:
    command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(script.parent)!r}); import a1"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, env=plain, stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_a_script_that_python_has_compiled_is_not_parsed_again(script: Path) -> None:
    compiled(script)
    break_it(script, later=0)  # a parser would see that, and so would Python if it did not believe its cache
    assert look(script) == ["a1"]
    assert python_imports(script)


def test_a_script_that_was_broken_after_it_was_compiled_is_refused(script: Path) -> None:
    compiled(script)
    break_it(script, later=A_MINUTE)
    with pytest.raises(BadScripts, match=r"a1\.py, line 5: Python cannot read this script"):
        look(script)
    assert not python_imports(script)


def test_a_script_without_a_cache_is_parsed(script: Path) -> None:
    assert not script_directory.has_valid_bytecode(str(script))
    script.write_text(BROKEN)
    with pytest.raises(BadScripts):
        look(script)


@pytest.mark.parametrize("mode", [PycInvalidationMode.CHECKED_HASH, PycInvalidationMode.UNCHECKED_HASH])
def test_a_cache_by_hash_is_no_proof_without_reading_the_source(script: Path, mode: PycInvalidationMode) -> None:
    compiled(script, mode)
    assert not script_directory.has_valid_bytecode(str(script))


def lengthen(script: Path, _: Path) -> None:
    status = script.stat()
    script.write_text(GOOD + "#\n")
    os.utime(script, (status.st_atime, status.st_mtime))


def of_another_python(_: Path, cache: Path) -> None:
    cache.write_bytes(b"\x00\x0d\x0d\x0a" + cache.read_bytes()[4:])


def cut_off(_: Path, cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:15])


def a_pipe(_: Path, cache: Path) -> None:
    cache.unlink()
    os.mkfifo(cache)


def a_folder(_: Path, cache: Path) -> None:
    cache.unlink()
    cache.mkdir()


@pytest.mark.parametrize("spoil", [lengthen, of_another_python, cut_off, a_pipe, a_folder])
def test_a_cache_that_is_not_this_sources_proves_nothing_and_holds_nobody_up(
    script: Path, spoil: Callable[[Path, Path], None]
) -> None:
    cache = compiled(script)
    assert script_directory.has_valid_bytecode(str(script))
    spoil(script, cache)
    assert not script_directory.has_valid_bytecode(str(script))
