"""The lines of docs/images.md and the recipes in deploy/, each on an image as users have it; what musl needs."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.containers import PYTHON_IMAGE, ROOT, Container, Containers, podman, podman_output
from tests.support.docs import dockerfile_recipes
from tests.support.projects import make_project

pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]

APPLICATION = f"""\
FROM {PYTHON_IMAGE}
RUN python3 -m venv /opt/app
ENV PATH=/opt/app/bin:$PATH
RUN pip install --no-cache-dir {{pins}}
WORKDIR /app
COPY project ./
USER 10001
"""
WITH_LINES = """\
FROM {application}
USER 0
{lines}
USER 10001
CMD ["python3", "-m", "http.server", "8000"]
"""
SERVER = WITH_LINES.splitlines()[-1]
# Both from before gate's own minimum.
OLD_PINS = "sqlalchemy==1.4.54 alembic==1.15.2 psycopg2-binary"
NEW_PINS = f"sqlalchemy=={version('sqlalchemy')} alembic=={version('alembic')} psycopg2-binary"
ENV_1_4 = """
import os
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

metadata = MetaData()
Table("t_a1", metadata, Column("id", Integer))

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=metadata)
    context.run_migrations()
else:
    with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
"""
WITHOUT_SHELL = f"""\
FROM {PYTHON_IMAGE}
RUN find / -xdev ! -type d '(' -name sh -o -name bash -o -name dash -o -name rbash ')' -delete
"""
VERSIONS = "import alembic, sqlalchemy; print(alembic.__version__, sqlalchemy.__version__)"


@pytest.fixture(scope="session")
def from_a_wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What lets `pip install schema-gate` of a build find this checkout, as it will find a release."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(ROOT)]
    subprocess.run(pip, check=True, timeout=300)
    shutil.copy(ROOT / "constraints.txt", folder)
    (folder / "pip.conf").write_text("[global]\nfind-links = /wheels\nconstraint = /wheels/constraints.txt\n")
    return f"--volume={folder}:/wheels:ro", f"--volume={folder}/pip.conf:/etc/pip.conf:ro"


@pytest.fixture(scope="session")
def application(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What builds an application with these pins."""
    folder = tmp_path_factory.mktemp("application")
    make_project(folder / "project", environment=ENV_1_4).chain("a1", "a2")

    def build(pins: str) -> str:
        tag = f"{containers.image}-application-{secrets.token_hex(4)}"
        containers.build_from(APPLICATION.format(pins=pins), tag, folder)
        return tag

    return build


@pytest.fixture(scope="session")
def old_application(application: Callable[[str], str]) -> str:
    return application(OLD_PINS)


@pytest.fixture
def with_lines(containers: Containers, tmp_path: Path, from_a_wheel: tuple[str, ...]) -> Callable[[str, str], str]:
    """What adds lines of docs/images.md to an application's image."""

    def build(application: str, lines: str) -> str:
        tag = f"{application}-behind-gate"
        containers.build_from(
            WITH_LINES.format(application=application, lines=lines), tag, tmp_path / "lines", *from_a_wheel
        )
        return tag

    return build


@pytest.fixture(scope="session")
def own_venv(containers: Containers, old_application: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    recipe, tag = f"{containers.image}-own-venv-recipe", f"{containers.image}-own-venv"
    containers.build_stages(recipe, "gate", "deploy/Dockerfile.own-venv", APP_IMAGE=old_application)
    assert podman("run", "--rm", recipe).returncode == 2, "it starts nothing that nobody has named"
    containers.build_from(f"FROM {recipe}\n{SERVER}\n", tag, tmp_path_factory.mktemp("own-venv"))
    return tag


@pytest.fixture(scope="session")
def distroless(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> str:
    tag, runtime = f"{containers.image}-distroless", f"{containers.image}-without-shell"
    containers.build_from(WITHOUT_SHELL, runtime, tmp_path_factory.mktemp("without-shell"))
    recipe = "deploy/Dockerfile.distroless"
    containers.build_stages(tag, "build", recipe, BUILD_IMAGE=PYTHON_IMAGE, RUNTIME_IMAGE=runtime)
    return tag


def waits_then_serves(containers: Containers, image: str) -> Container:
    """One container waits, another migrates, and both serve; give the one that migrated."""
    url = containers.create_database()
    waiting = containers.start(url, image=image)
    assert "expected=a2" in waiting.await_event("gate.waiting")["message"]
    web = containers.start(url, image=image, RUN_MIGRATIONS="1")
    web.await_event("gate.migrated")
    for server in (web, waiting):
        server.get("/alembic.ini")
    assert containers.execute(url, "SELECT version_num FROM alembic_version") == "a2"
    return web


def test_three_lines_of_the_readme_put_gate_into_an_image(
    containers: Containers, application: Callable[[str], str], with_lines: Callable[[str, str], str]
) -> None:
    waits_then_serves(containers, with_lines(application(NEW_PINS), dockerfile_recipes()[0]))


def upgraded_by_the_applications_alembic(containers: Containers, image: str) -> None:
    web = waits_then_serves(containers, image)
    assert web.event("gate.upgrade_command")
    assert podman_output("exec", web.name, "python3", "-c", VERSIONS) == "1.15.2 1.4.54"
    url = containers.create_database()
    containers.migrate(url, image, ("/opt/gate/bin/gate", "migrate", "--upgrade-command", "alembic upgrade heads"))
    assert containers.execute(url, "SELECT version_num FROM alembic_version") == "a2"


def test_own_venv_by_the_readme_leaves_the_applications_pins_and_upgrades_with_its_alembic(
    containers: Containers, old_application: str, with_lines: Callable[[str, str], str]
) -> None:
    upgraded_by_the_applications_alembic(containers, with_lines(old_application, dockerfile_recipes()[1]))


def test_own_venv_by_the_recipe_leaves_the_applications_pins_and_upgrades_with_its_alembic(
    containers: Containers, own_venv: str
) -> None:
    upgraded_by_the_applications_alembic(containers, own_venv)


def test_image_without_a_shell_waits_ends_and_serves(containers: Containers, distroless: str) -> None:
    assert podman("run", "--rm", "--entrypoint=/bin/sh", distroless, "-c", "true").returncode == 127
    url = containers.create_database()
    waiting = containers.start(url, image=distroless)
    waiting.await_event("gate.waiting")
    assert waiting.stop() == 143
    web = containers.start(url, image=distroless, RUN_MIGRATIONS="1")
    assert len(json.loads(web.get("/items"))) == 2


@pytest.mark.parametrize(
    ("mode", "complaint"), [(0o644, "nowhere"), (0o600, "Permission denied")], ids=["broken", "unreadable"]
)
@pytest.mark.parametrize(
    ("recipe", "built"),
    [("Dockerfile", ""), ("deploy/Dockerfile.own-venv", "own_venv"), ("deploy/Dockerfile.distroless", "distroless")],
)
def test_image_whose_user_cannot_use_the_migrations_is_not_built(
    containers: Containers, recipe: str, built: str, mode: int, complaint: str, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    image = request.getfixturevalue(built) if built else containers.image
    (tmp_path / "lost.py").write_text('revision = "lost"\ndown_revision = "nowhere"\n')
    (tmp_path / "lost.py").chmod(mode)
    (checked,) = re.findall(r"^RUN .*gate\b.*heads.*", (ROOT / recipe).read_text(), re.MULTILINE)
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY lost.py migrations/versions/\n{checked}\n")
    done = podman("build", "--layers=false", str(tmp_path))
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_no_setting_stands_in_an_image(containers: Containers, own_venv: str, distroless: str) -> None:
    known = ("GATE_", "RUN_MIGRATIONS", "DATABASE_URL", "MIGRATION_DATABASE_URL", "ALEMBIC_CONFIG")
    for image in (containers.image, own_venv, distroless):
        variables = json.loads(podman_output("image", "inspect", "--format={{json .Config.Env}}", image))
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
