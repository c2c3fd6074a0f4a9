"""A project whose env.py upgrades the schema that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.projects import Project, make_project
from tests.support.tenants import add_logged, use_cookbook_env


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Revisions a1 and a2, where a2 records each schema in which it ran."""
    project = make_project(tmp_path / "project").chain("a1")
    use_cookbook_env(project)
    add_logged(project, "a2", "a1")
    return project
