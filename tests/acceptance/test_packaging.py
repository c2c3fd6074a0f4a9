"""What is published works where nothing else is installed, with the newest dependencies and with the oldest promised.

Each environment is a new one; its packages come from the index that pip is configured with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import environment_without_settings, free_port
from gate import __version__
from tests.conftest import TestDatabase
from tests.support.programs import ProgramResult, await_true, start
from tests.support.projects import Project

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SELECTED = (
    "tests/unit/drift/test_models.py",
    "tests/unit/expect",
    "tests/unit/image/test_alembic_agrees.py",
    "tests/unit/image/test_target_agrees.py",
    "tests/unit/migration/test_error_codes.py",
    "tests/unit/readiness/test_bug_report.py",
    "tests/unit/test_log.py",
    "tests/unit/waiting/test_backoff.py",
    "tests/integration/test_readiness.py",
    "tests/acceptance/tenants/test_settings.py::test_a_terminal_shows_a_progress_bar_and_every_line_of_the_log_whole",
    "tests/acceptance/test_env_py.py",
    "tests/acceptance/test_incident.py",
    *(
        f"tests/acceptance/test_placeholder.py::{name}"
        for name in (
            "test_alive_and_not_ready_and_saying_why",
            "test_a_browser_gets_a_page_that_says_nothing_internal",
            "test_the_server_gets_the_port_and_no_descriptor_of_gates",
            "test_garbage_and_floods_do_not_disturb_the_waiting",
            "test_a_request_that_never_ends_is_given_up",
            "test_serve_answers_for_a_sidecar",
            "test_metrics_tell_no_number_before_anything_was_seen",
        )
    ),
    *(
        f"tests/acceptance/test_signals.py::{name}"
        for name in (
            "test_a_signal_while_waiting_for_the_lock_ends_gate_at_once",
            "test_a_signal_while_migrating_cancels_the_statement_and_rolls_back",
        )
    ),
)
"""What calls each dependency of gate: Alembic, SQLAlchemy, psycopg, structlog, tenacity, tqdm, uvicorn."""

NIGHTLY = (
    *(f"tests/unit/{part}" for part in ("database", "expect", "migration", "readiness", "waiting")),
    "tests/unit/drift/test_models.py",
    "tests/unit/image/test_alembic_agrees.py",
    "tests/unit/image/test_target_agrees.py",
    "tests/unit/test_log.py",
    "tests/integration/test_readiness.py",
    "tests/acceptance/tenants/test_settings.py",
    "tests/acceptance/test_env_py.py",
    "tests/acceptance/test_incident.py",
    "tests/acceptance/test_placeholder.py",
    "tests/acceptance/test_signals.py",
)
"""Whole folders and files, with GATE_TEST_LOWEST=all."""

CONSUMER = """
from gate import drift_of, fits
from gate.asgi import Ready
from sqlalchemy import create_engine

engine = create_engine("sqlite://")
verdict: str = drift_of(engine).verdict
waiting: bool = not fits(engine)
ready: Ready = Ready(engine, ttl=1.0)
"""
MISTAKE = "text: str = fits(engine, config=7)\n"


def pip(python: Path, *arguments: str) -> None:
    """Install into another environment, with this one's pip."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def environment(folder: Path) -> Path:
    """Make an empty one; its Python is given."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def run(command: list[str], folder: Path, **told: str) -> ProgramResult:
    return start(command, told, folder).wait()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without an index nothing can be installed, which says nothing about gate."""
    command = ["download", "--quiet", "--no-deps", "--dest", str(tmp_path_factory.mktemp("probe")), "tenacity"]
    done = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("pip reaches no package index here")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as pip does where there is no wheel."""
    source = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    return built("wheel", source / sdist.name.removesuffix(".tar.gz"), tmp_path_factory.mktemp("wheel"))


def built(kind: str, source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def clean(index: None, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and what it asks for, in the versions of constraints.txt."""
    python = environment(tmp_path_factory.mktemp("clean") / "venv")
    pip(python, "--constraint", str(ROOT / "constraints.txt"), str(wheel))
    return python


def test_the_archives_hold_the_package_its_types_and_its_license_and_nothing_else(sdist: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.startswith("gate/")}
        modules = {name for name in archive.namelist() if name.startswith("gate/")}
    assert modules == {
        str(path.relative_to(ROOT)) for path in (ROOT / "gate").rglob("*") if path.suffix in {".py", ".typed"}
    }
    assert "gate/py.typed" in modules
    info = f"schema_gate-{__version__}.dist-info/"
    assert {name.removeprefix(info) for name in packed} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    assert tops <= {
        "gate",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE",
        "PKG-INFO",
        ".gitignore",
    }


def test_the_version_is_one(clean: Path, tmp_path: Path) -> None:
    assert PROJECT["version"] == __version__
    assert run([str(clean.parent / "gate"), "--version"], tmp_path).out == f"gate {__version__}\n"


def test_the_wheel_alone_reads_looks_and_migrates(clean: Path, project: Project, database: TestDatabase) -> None:
    gate, told = str(clean.parent / "gate"), {"DATABASE_URL": database.url}
    assert run([gate, "heads"], project.folder).out == "a3\n"
    assert run([gate, "check"], project.folder, **told).code == 1
    migrated = run([gate, "migrate"], project.folder, **told)
    assert migrated.code == 0, migrated.err
    assert run([gate, "check"], project.folder, **told).out.startswith("CURRENT")


def test_http_needs_its_extra_and_says_so(
    clean: Path, wheel: Path, project: Project, database: TestDatabase, tmp_path: Path
) -> None:
    port = free_port()
    serve, told = [str(clean.parent / "gate"), "serve", "--listen", f"127.0.0.1:{port}"], {"DATABASE_URL": database.url}
    refused = run(serve, project.folder, **told)
    assert (refused.code, "schema-gate[http]" in refused.err) == (78, True)
    pip(clean, "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[http]")
    serving = start(serve, told, project.folder)
    try:
        await_true(lambda: answers(port), lambda: "".join(serving.err), serving.process)
    finally:
        serving.end()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code == 503
    except httpx.TransportError:
        return False


def test_whoever_uses_the_package_sees_its_types(clean: Path, tmp_path: Path) -> None:
    def checked(text: str) -> ProgramResult:
        (tmp_path / "consumer.py").write_text(text)
        command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(clean), "consumer.py"]
        return run(command, tmp_path, MYPYPATH="")

    right, wrong = checked(CONSUMER), checked(CONSUMER + MISTAKE)
    assert right.code == 0, right.out
    assert "[assignment]" in wrong.out
    assert "[arg-type]" in wrong.out


def names(requirements: list[str]) -> dict[str, str]:
    """Each dependency's name, as in a constraint, and its lower bound."""
    pairs = (requirement.split(">=") for requirement in requirements)
    return {name.split("[")[0].lower().replace("-", "_"): lowest for name, lowest in pairs}


def test_the_lowest_constraints_are_those_that_are_promised() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.lower().replace("-", "_").split("==") for line in lines if not line.startswith("#"))
    promised = names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["http"]])
    assert {name: tuple(map(int, pinned[name].split(".")))[: low.count(".") + 1] for name, low in promised.items()} == {
        name: tuple(map(int, low.split("."))) for name, low in promised.items()
    }


@pytest.fixture(scope="module")
def lowest(index: None, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with the lowest versions; behind them, for the tests, what else this environment has."""
    python = environment(tmp_path_factory.mktemp("lowest") / "venv")
    pip(python, "--constraint", str(ROOT / "constraints-lowest.txt"), f"{wheel}[http]")
    here = Path(pytest.__file__).parents[1]
    (site,) = python.parents[1].glob("lib/*/site-packages")
    (site / "zz-behind.pth").write_text(f"{here}\n")
    return python


def test_the_lowest_promised_versions_pass_the_tests_that_tell(lowest: Path) -> None:
    tests = NIGHTLY if os.environ.get("GATE_TEST_LOWEST") == "all" else SELECTED
    command = [str(lowest), "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", *tests]
    without_workers = {n: v for n, v in environment_without_settings().items() if not n.startswith("PYTEST_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**without_workers, "GATE_TEST_EXAMPLES": "10"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " failed" not in done.stdout
