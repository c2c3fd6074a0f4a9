"""What this user may not reach, or what a bind mount made a folder, is named with its path and its permission."""

from __future__ import annotations

import codecs
import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest

from gate.errors import BadScripts, BadSettings, GateError
from gate.image import alembic_config, script_directory

ANOTHER_USER = 54321
INI = "[alembic]\nscript_location = migrations\n"


@contextmanager
def another_user() -> Iterator[None]:
    """Root may read everything, so it becomes another user; anybody else is kept out by the modes alone."""
    if os.geteuid():
        yield
        return
    codecs.lookup("idna")  # a thread that resolves a name meanwhile could not load it, and Python remembers that
    os.seteuid(ANOTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)
        importlib.invalidate_caches()  # folders that this user could not read were cached as empty


@pytest.fixture
def folder() -> Iterator[Path]:
    """A project that another user can reach, as the working directory."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        made.chmod(0o755)
        (made / "migrations" / "versions").mkdir(parents=True)
        (made / "migrations" / "env.py").touch()
        (made / "migrations" / "versions" / "a1.py").write_text('revision = "a1"\ndown_revision = None\n')
        (made / "alembic.ini").write_text(INI)
        with chdir(made):
            yield made
        made.chmod(0o700)


def failure(*config: str, section: str | None = None) -> str:
    with another_user(), pytest.raises(GateError) as caught:
        script_directory.read(alembic_config.read(config, None, section))
    assert isinstance(caught.value, BadSettings | BadScripts)
    assert caught.value.exit_code == 78
    return str(caught.value)


@pytest.mark.parametrize("name", ["alembic.ini", "pyproject.toml"])
def test_a_configuration_that_may_not_be_read_is_named_with_its_mode(folder: Path, name: str) -> None:
    (folder / name).touch()
    (folder / name).chmod(0)
    said = failure()
    assert f"{name} cannot be read: Permission denied" in said
    assert "0000" in said
    (folder / name).chmod(0o600)


@pytest.mark.parametrize("name", ["alembic.ini", "pyproject.toml"])
def test_a_folder_in_the_place_of_a_configuration_is_told_as_one(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    assert f"{name} is not a file but a folder" in failure()


def test_a_named_pipe_in_the_place_of_a_configuration_blocks_nothing(folder: Path) -> None:
    (folder / "alembic.ini").unlink()
    os.mkfifo(folder / "alembic.ini")
    assert "alembic.ini is not a regular file" in failure()


def test_a_link_to_nothing_is_named_with_its_target(folder: Path) -> None:
    (folder / "alembic.ini").unlink()
    (folder / "alembic.ini").symlink_to("/no/such/alembic.ini")
    assert "symbolic link to /no/such/alembic.ini" in failure()
    assert "symbolic link to /no/such/alembic.ini" in failure("alembic.ini")


@pytest.mark.parametrize("barrier", [".", "conf"])
def test_the_folder_that_keeps_this_user_out_is_named(folder: Path, barrier: str) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "alembic.ini").write_text(INI)
    (folder / barrier).chmod(0)
    said = failure(str(folder / "conf" / "alembic.ini"))
    (folder / barrier).chmod(0o755)
    assert f"may not enter the folder {folder / barrier} (mode 0000)" in said


def test_a_working_directory_that_keeps_this_user_out_is_named(folder: Path) -> None:
    folder.chmod(0)
    said = failure()
    folder.chmod(0o755)
    assert f"may not enter the folder {folder} (mode 0000)" in said


def test_a_package_that_keeps_this_user_out_is_named(folder: Path) -> None:
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = pkg:migrations\nprepend_sys_path = .\n")
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").touch()
    (folder / "migrations").rename(folder / "pkg" / "migrations")
    (folder / "pkg").chmod(0)
    said = failure()
    (folder / "pkg").chmod(0o755)
    assert "pkg" in said
    assert "Permission denied" in said or "cannot be imported" in said


def test_a_deleted_working_directory_is_told_as_one() -> None:
    with tempfile.TemporaryDirectory() as outside, chdir(outside):
        gone = Path(outside) / "gone"
        gone.mkdir()
        os.chdir(gone)
        gone.rmdir()
        assert "working directory cannot be used" in failure()
        os.chdir(outside)


@pytest.mark.parametrize(
    "name", ["migrations", "migrations/versions", "migrations/env.py", "migrations/versions/a1.py"]
)
def test_scripts_that_may_not_be_read_are_named(folder: Path, name: str) -> None:
    (folder / name).chmod(0)
    said = failure()
    (folder / name).chmod(0o755)
    assert str(folder / name) in said or f"{name}" in said
    assert "Permission denied" in said


def test_a_script_location_that_is_a_file_is_told_as_one(folder: Path) -> None:
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = alembic.ini\n")
    assert "which is not a folder" in failure()


def test_an_env_py_that_is_a_folder_or_a_link_to_nothing_is_told_as_one(folder: Path) -> None:
    (folder / "migrations" / "env.py").unlink()
    (folder / "migrations" / "env.py").mkdir()
    assert "env.py, line 1: this is a folder" in failure()
    (folder / "migrations" / "env.py").rmdir()
    (folder / "migrations" / "env.py").symlink_to("gone.py")
    assert "a symbolic link leads to this file, which does not exist" in failure()


def test_a_missing_section_lists_those_that_there_are(folder: Path) -> None:
    (folder / "alembic.ini").write_text(f"{INI}[shop]\n[logging]\n")
    assert "has no section [shops]" in (said := failure(section="shops"))
    assert "It has [alembic], [shop], [logging]." in said
    assert "has no script_location in [shop]" in failure(section="shop")


def test_missing_scripts_name_the_folder_that_was_searched(folder: Path) -> None:
    (folder / "migrations" / "versions" / "a1.py").unlink()
    assert f"no migration script was found in {folder / 'migrations' / 'versions'}" in failure()
