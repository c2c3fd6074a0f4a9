"""The error of an upgrade in one line, with the application's own file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gate.migration.child.failure import describe, location_of


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


class DatabaseError(Exception):
    orig = ValueError("relation does not exist")
    statement = "SELECT *\n FROM   nowhere"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no\n good"), "ValueError: no good"),
        (AssertionError(), "AssertionError"),
        (KeyError("key"), "KeyError: 'key'"),
        (SystemExit(3), "it called sys.exit(3)"),
        (SystemExit(), "it called sys.exit()"),
        (SystemExit("no"), "it called sys.exit('no')"),
        (caused(RuntimeError(), ValueError("the cause")), "RuntimeError, after ValueError: the cause"),
        (Unprintable(), "Unprintable"),
        (ExceptionGroup("two", [ExceptionGroup("inner", [OSError("first")]), ValueError("second")]), "OSError: first"),
        (DatabaseError(), "ValueError: relation does not exist (in: SELECT * FROM nowhere)"),
    ],
)
def test_an_error_is_described_in_one_line(error: BaseException, text: str) -> None:
    assert describe(error) == text


def run(path: Path, source: str) -> BaseException:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    names: dict[str, Any] = {}
    try:
        exec(compile(source, str(path), "exec"), names)
    except BaseException as error:  # noqa: BLE001 - whatever it raises
        return error
    raise AssertionError


def test_a_script_in_an_installed_package_is_located(tmp_path: Path) -> None:
    path = tmp_path / "site-packages" / "app" / "migrations" / "versions" / "a1.py"
    error = run(path, "\n{}['key']\n")
    assert location_of(error, []) is None or str(path) not in str(location_of(error, []))
    assert location_of(error, [str(tmp_path / "site-packages" / "app" / "migrations")]) == f"{path}, line 2"


def test_the_innermost_of_the_applications_frames_counts(tmp_path: Path) -> None:
    helper = tmp_path / "helper.py"
    source = f"exec(compile('\\n1 / 0', {str(helper)!r}, 'exec'))\n"
    error = run(tmp_path / "migrations" / "a1.py", source)
    assert location_of(error, [str(tmp_path / "migrations")]) == f"{helper}, line 2"


def test_a_syntax_error_is_located_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a1.py"
    assert location_of(run(path, "x = 1\ndef (\n"), []) == f"{path}, line 2"


def test_an_error_in_a_group_is_located(tmp_path: Path) -> None:
    path = tmp_path / "a1.py"
    caught = "except Exception as error:\n    errors.append(error)"
    source = f"errors = []\ntry:\n    1 / 0\n{caught}\nraise ExceptionGroup('x', errors)\n"
    assert location_of(run(path, source), []) == f"{path}, line 3"
