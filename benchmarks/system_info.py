"""The machine and the versions of a run."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.workspace import Workspace

PACKAGES = ("schema-gate", "psycopg", "alembic", "SQLAlchemy", "structlog", "tenacity", "fastapi", "uvicorn")


def rows(workspace: Workspace) -> list[list[str]]:
    [(postgres,)] = workspace.server.execute("SHOW server_version")
    return [
        ["processor", f"{_processor()}, {os.cpu_count()} cores"],
        ["system", f"{platform.system()} {platform.release().split('-')[0]}, {platform.libc_ver()[0]}"],
        ["Python", platform.python_version()],
        ["PostgreSQL", f"{postgres} on the same machine, over loopback, `fsync=off`"],
        ["packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)],
    ]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
