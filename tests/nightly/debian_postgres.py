"""Debian's PostgreSQL on loopback, for applications that need an extension which the embedded one lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from demo.embedded_postgres import EmbeddedPostgres, free_port

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
        self._run(user)
        return self

    def follow(self, primary: DebianPostgres) -> DebianPostgres:
        """Copy a running server, start the copy as its hot standby, and wait until it answers."""
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.folder, user)
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        backup = [
            str(PROGRAMS[-1] / "pg_basebackup"),
            "-D",
            str(self.folder / "data"),
            "-d",
            source,
            "-R",
            "-c",
            "fast",
        ]
        subprocess.run(backup, user=user, check=True, capture_output=True, cwd="/")
        self._run(user)
        return self

    def _run(self, user: str | None) -> None:
        self.port = free_port()
        program, data = str(PROGRAMS[-1] / "postgres"), str(self.folder / "data")
        command = [program, "-D", data, "-p", str(self.port), "-k", "", *self._settings()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd="/")
        self._await_ready()
