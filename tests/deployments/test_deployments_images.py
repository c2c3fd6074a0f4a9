"""The recipes in deploy/: an image with pins of its own, an image without a shell; and what musl needs."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.containers import PYTHON_IMAGE, ROOT, Containers, must, podman
from tests.support.projects import make_project

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

# SQLAlchemy 1.4 and the last Alembic before gate's own minimum.
OLD_APPLICATION = f"""\
FROM {PYTHON_IMAGE}
RUN python3 -m venv /opt/app
ENV PATH=/opt/app/bin:$PATH
RUN pip install --no-cache-dir 'sqlalchemy==1.4.54' 'alembic==1.15.2' psycopg2-binary
WORKDIR /app
COPY project ./
USER 10001
CMD ["python3", "-m", "http.server", "8000"]
"""
WITHOUT_SHELL = f"""\
FROM {PYTHON_IMAGE}
RUN find / -xdev ! -type d '(' -name sh -o -name bash -o -name dash -o -name rbash ')' -delete
"""
ENV_1_4 = """
import os
from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.fixture(scope="session")
def old_application(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("old")
    make_project(folder / "project", environment=ENV_1_4).chain("a1", "a2")
    containers.build_from(OLD_APPLICATION, f"{containers.image}-old-app", folder)
    return f"{containers.image}-old-app"


@pytest.fixture(scope="session")
def own_venv(containers: Containers, old_application: str) -> str:
    recipe, base = f"--file={ROOT}/deploy/Dockerfile.own-venv", f"--build-arg=APP_IMAGE={old_application}"
    containers.build_image(f"{containers.image}-own-venv-build", ROOT, recipe, base, "--target=gate")
    containers.build_image(f"{containers.image}-own-venv", ROOT, recipe, base)
    return f"{containers.image}-own-venv"


@pytest.fixture(scope="session")
def distroless(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> str:
    runtime, tag = f"{containers.image}-without-shell", f"{containers.image}-distroless"
    containers.build_from(WITHOUT_SHELL, runtime, tmp_path_factory.mktemp("without-shell"))
    bases = (f"--build-arg=BUILD_IMAGE={PYTHON_IMAGE}", f"--build-arg=RUNTIME_IMAGE={runtime}")
    recipe = f"--file={ROOT}/deploy/Dockerfile.distroless"
    containers.build_image(f"{tag}-build", ROOT, recipe, *bases, "--target=build")
    containers.build_image(tag, ROOT, recipe, *bases)
    return tag


def test_own_venv_leaves_the_applications_pins_and_upgrades_with_its_alembic(
    containers: Containers, own_venv: str
) -> None:
    url = containers.create_database()
    waiting = containers.start(url, image=own_venv)
    assert "expected=a2" in waiting.await_event("gate.waiting")["message"]
    web = containers.start(url, image=own_venv, RUN_MIGRATIONS="1")
    web.await_event("gate.upgrade_command")
    web.await_event("gate.migrated")
    web.get("/alembic.ini")
    waiting.get("/alembic.ini")
    assert containers.execute(url, "SELECT version_num FROM alembic_version") == "a2"
    versions = "import alembic, sqlalchemy; print(alembic.__version__, sqlalchemy.__version__)"
    assert must("exec", web.name, "python3", "-c", versions) == "1.15.2 1.4.54"


def test_own_venv_is_not_built_on_broken_scripts(containers: Containers, own_venv: str, tmp_path: Path) -> None:
    (tmp_path / "a3.py").write_text('revision = "a3"\ndown_revision = "nowhere"\n')
    recipe = (ROOT / "deploy" / "Dockerfile.own-venv").read_text()
    checked = "RUN " + recipe.split("\nRUN ")[-1].split("\n")[0]
    assert "gate" in checked
    (tmp_path / "Dockerfile").write_text(f"FROM {own_venv}\nCOPY a3.py migrations/versions/\n{checked}\n")
    done = podman("build", "--layers=false", str(tmp_path))
    assert done.returncode != 0
    assert "nowhere" in done.stdout + done.stderr


def test_image_without_a_shell_waits_ends_at_once_and_serves(containers: Containers, distroless: str) -> None:
    assert podman("run", "--rm", "--entrypoint=/bin/sh", distroless, "-c", "true").returncode == 127
    url = containers.create_database()
    waiting = containers.start(url, image=distroless)
    waiting.await_event("gate.waiting")
    assert waiting.stop() == 143
    web = containers.start(url, image=distroless, RUN_MIGRATIONS="1")
    assert len(json.loads(web.get("/items"))) == 2


def test_no_setting_stands_in_an_image(containers: Containers, own_venv: str, distroless: str) -> None:
    known = ("GATE_", "RUN_MIGRATIONS", "DATABASE_URL", "MIGRATION_DATABASE_URL", "ALEMBIC_CONFIG")
    for image in (containers.image, own_venv, distroless):
        variables = json.loads(must("image", "inspect", "--format={{json .Config.Env}}", image))
        assert not [variable for variable in variables if variable.startswith(known)]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_dependency_has_a_wheel_for_musl(machine: str, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["http"]]
    platforms = [f"--platform=musllinux_1_{minor}_{machine}" for minor in (2, 1)]
    told = ["--only-binary=:all:", "--python-version=3.13", "--implementation=cp", "--no-cache-dir", "--quiet"]
    constraints = f"--constraint={ROOT}/constraints.txt"
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", f"--target={tmp_path}", constraints]
    done = subprocess.run([*pip, *platforms, *told, *wanted], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
