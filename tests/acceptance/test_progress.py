"""How a running migration shows its progress: on a terminal, to the next replica and to waiting gates."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from contextlib import suppress

from demo.embedded_postgres import environment_without_settings
from tests.conftest import GateRunner, TestDatabase
from tests.support.programs import GATE_COMMAND, TIMEOUT
from tests.support.projects import Project


def test_a_terminal_shows_a_line_that_replaces_itself(gate: GateRunner, project: Project) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(1)")')
    ours, theirs = pty.openpty()
    environment = environment_without_settings() | {"DATABASE_URL": gate.url}
    migrating = subprocess.Popen(
        [*GATE_COMMAND, "migrate"], cwd=gate.folder, env=environment, stderr=theirs, stdin=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody writes to it any more
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert migrating.wait(TIMEOUT) == 0
    assert re.search(rb"\r\x1b\[K4/4 a4 \d+ s", shown)
    assert b"INFO     gate.migrated: The schema is current" in shown


def test_the_second_failure_in_one_revision_is_named_as_such(
    gate: GateRunner, project: Project, database: TestDatabase
) -> None:
    project.add("a4", "a3", 'op.execute("SELECT pg_sleep(2)")\nraise ValueError("no good")')
    first = gate.start("migrate")
    first.await_event("gate.revision_started", lambda e: e["revision"] == "a4")
    second = gate("migrate", GATE_POLL_MAX="0.3")
    assert first.wait().code == second.code == 65
    assert "a4" in second.event("gate.migration_unfinished")["message"]
    assert "Two migrators have now failed in revision a4" in second.event("gate.failed")["message"]
    assert database.tables() == set()


def test_without_a_lock_only_when_it_is_asked_for(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("migrate", GATE_LOCK="none")
    assert ended.code == 0
    assert "without a lock" in ended.event("gate.migrating")["message"]
    assert database.stamped() == {"a3"}
