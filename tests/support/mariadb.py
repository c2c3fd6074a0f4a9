"""A MariaDB server on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pymysql

from demo.embedded_postgres import free_port
from tests.support.programs import await_true

INIT = "CREATE USER tester@'127.0.0.1';\nGRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;\n"
"""--init-file requires one statement per line."""


@dataclass
class MariaDb:
    """One server; the user `tester` needs no password."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gate-mariadb-")))
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> MariaDb:
        """Initialise the data directory, start the server and wait until it accepts connections."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        with (self.folder / "log").open("wb") as log:
            installed = subprocess.run(
                ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", f"--user={self._user}"],
                stdout=log, stderr=log, env=self._environment, check=False,
            )  # fmt: skip
            assert installed.returncode == 0, (self.folder / "log").read_text()
            (self.folder / "init.sql").write_text(INIT)
            (self.folder / "init.sql").chmod(0o644)
        self._run()
        return self

    def restart(self, number: signal.Signals) -> None:
        """Stop the server with a signal, SIGTERM for a shutdown or SIGKILL for a crash, and start it again."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait()
        (self.folder / "init.sql").write_text("")
        self._run()

    @property
    def _user(self) -> str:
        return "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    @property
    def _environment(self) -> dict[str, str]:
        """A starting server deletes each file #sql* of its TMPDIR, also those of another one that runs just then."""
        return {**os.environ, "TMPDIR": str(self.folder)}

    def _run(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "mariadbd", "--no-defaults", f"--datadir={self.folder}/data", f"--user={self._user}",
                    f"--port={self.port}", "--bind-address=127.0.0.1",
                    f"--socket={self.folder}/socket", f"--init-file={self.folder}/init.sql", "--skip-name-resolve",
                ],
                stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip
        await_true(self._is_ready, lambda: (self.folder / "log").read_text())

    def _is_ready(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.Error:
            return False
        return True

    def execute(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""
        with (
            pymysql.connect(
                host="127.0.0.1", port=self.port, user="tester", database=database, autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return list(cursor.fetchall())

    def url(self, database: str) -> str:
        """Return the URL of one database."""
        return f"mysql+pymysql://tester@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        """Stop the server and delete its files."""
        if self.process:
            self.process.terminate()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
