"""Which machine and which versions the figures belong to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.stage import Stage

PACKAGES = ("schema-gate", "psycopg", "alembic", "SQLAlchemy", "structlog", "tenacity", "fastapi", "uvicorn")


def rows(stage: Stage) -> list[list[str]]:
    [(postgres,)] = stage.server.execute("SHOW server_version")
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
