"""Debian's PostgreSQL on loopback, for applications that need an extension which the embedded one lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from demo.embedded_postgres import EmbeddedPostgres

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Its folders of programs, one for each version that is installed."""


class DebianPostgres(EmbeddedPostgres):
    """Like the embedded one, from the programs of `apt-get install postgresql`."""

    def start(self) -> DebianPostgres:
        """Initialise the cluster, start the server and wait until it answers."""
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.folder, user)
        initdb = [
            str(PROGRAMS[-1] / "initdb"),
            "-D",
            str(self.folder / "data"),
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
        ]
        subprocess.run([*initdb, "--no-sync"], user=user, check=True, capture_output=True, cwd="/")
        self._run(PROGRAMS[-1], user)
        return self
