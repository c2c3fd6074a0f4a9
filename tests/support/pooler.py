"""PgBouncer in front of the PostgreSQL of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres, free_port
from tests.support.programs import await_true

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = postgres
pool_mode = {mode}
default_pool_size = {size}
query_wait_timeout = 20
ignore_startup_parameters = extra_float_digits
"""


@dataclass
class Pooler:
    """One PgBouncer; `mode` is its pool_mode, `size` its default_pool_size."""

    folder: Path
    server: EmbeddedPostgres
    mode: str
    size: int
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Pooler:
        """Start PgBouncer and wait until it listens."""
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self.port = free_port()
        self.folder.mkdir()
        configuration = self._configure(self.server.port)
        configuration.chmod(0o644)
        user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # PgBouncer refuses to run as root
        with (self.folder / "log").open("wb") as log, configuration.open("rb") as readable:
            self.process = subprocess.Popen(
                [program, f"/proc/self/fd/{readable.fileno()}"],
                stdout=log,
                stderr=log,
                user=user,
                pass_fds=[readable.fileno()],
            )
            await_true(self._listens, lambda: (self.folder / "log").read_text())
        return self

    def _configure(self, server: int) -> Path:
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(CONFIGURATION.format(server=server, port=self.port, mode=self.mode, size=self.size))
        return configuration

    def lead_to(self, server: int) -> None:
        """Let new connections of PgBouncer lead to another server's port; those in use stay until they are released."""
        self._configure(server)
        with psycopg.connect(
            self.url("pgbouncer"), autocommit=True, prepare_threshold=None, cursor_factory=psycopg.ClientCursor
        ) as console:
            console.execute("RELOAD")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, database: str) -> str:
        """Return the URL of one database through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """Kill PgBouncer."""
        if self.process:
            self.process.kill()
            self.process.wait()


PoolerFactory = Callable[..., Pooler]
"""Called with a pool mode and, optionally, the size of the pool; starts a PgBouncer."""


@contextmanager
def pooler_factory(folder: Path, server: EmbeddedPostgres) -> Iterator[PoolerFactory]:
    """Yield a function that starts PgBouncers, which stop with the block. Skip the test if PgBouncer is missing."""
    if not (shutil.which("pgbouncer") or Path("/usr/sbin/pgbouncer").exists()):
        pytest.skip("PgBouncer is not installed")
    with ExitStack() as started:

        def start(mode: str, size: int = 20) -> Pooler:
            pooler = Pooler(folder / f"pooler-{mode}", server, mode, size).start()
            started.callback(pooler.stop)
            return pooler

        yield start
