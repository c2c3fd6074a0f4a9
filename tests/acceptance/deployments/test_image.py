"""The image that the Dockerfile builds, run as it should be run: no root, no capability, nothing to write to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.containers import PYTHON_IMAGE, ROOT, Containers, podman_output

# One worker for all that needs these images, so that each is built once; the builds download the libraries.
pytestmark = [pytest.mark.xdist_group("containers"), pytest.mark.timeout(600)]


def test_container_waits_and_podman_stop_ends_it(containers: Containers) -> None:
    web = containers.start(containers.create_database())
    line = web.await_event("gate.waiting")
    assert line["level"] == "critical"
    assert "drift: db=none expected=0003" in line["message"]
    assert web.stop() == 143


def test_container_migrates_with_run_migrations_and_serves(containers: Containers) -> None:
    web = containers.start(containers.create_database(), RUN_MIGRATIONS="1")
    web.await_event("gate.migrated")
    assert [item["name"] for item in json.loads(web.get("/items"))] == ["a lamp", "a chair"]
    assert podman_output("exec", web.name, "id", "--user") == "10001"
    assert "uvicorn" in podman_output("exec", web.name, "cat", "/proc/1/cmdline")


def test_waiting_container_starts_once_another_container_has_migrated(containers: Containers) -> None:
    url = containers.create_database()
    web = containers.start(url)
    web.await_event("gate.waiting")
    containers.migrate(url)
    assert json.loads(web.get("/health")) == {"status": "ok"}
    assert len(json.loads(web.get("/items"))) == 2


def test_what_the_recipe_does_not_copy_never_reaches_the_build(containers: Containers, tmp_path: Path) -> None:
    context = tmp_path / "context"
    for name in ("gate", "examples/fastapi"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dockerignore", "constraints.txt", "entrypoint.sh", "LICENSE", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, context)
    wanted = {str(file.relative_to(context)) for file in context.rglob("*") if file.is_file()} - {".dockerignore"}
    for unwanted in (".env", ".git/config", "examples/fastapi/.env", "gate/__pycache__/asgi.pyc", "tests/test_x.py"):
        (context / unwanted).parent.mkdir(parents=True, exist_ok=True)
        (context / unwanted).write_text("secret")
    tag, recipe = f"{containers.image}-context", tmp_path / "Dockerfile"
    recipe.write_text(f"FROM {PYTHON_IMAGE}\nCOPY . /context\nWORKDIR /context\n")
    containers.build_image(tag, context, f"--file={recipe}")
    copied = podman_output("run", "--rm", tag, "find", ".", "-type", "f", "-printf", "%P\n").splitlines()
    assert set(copied) == wanted
