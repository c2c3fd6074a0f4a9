"""Reports an upgrade to gate: one JSON object per line on a descriptor."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gate.descriptors import InheritedDescriptor
from gate.migration.child.error_codes import lock_conflict, shows_lost_database, sqlstate_of
from gate.migration.child.failure import describe, location_of
from gate.migration.child.fence import FenceRefusal, ServerChanged


class Reporter:
    """Reports the upgrade to gate.

    `revision`: the one that runs now, None between the revisions; `script_folders`: those of env.py and the revisions;
    `connected`: whether a connection to the database has been opened; `verified`: whether a dry run of env.py has
    verified its connection.
    """

    def __init__(self, descriptor: int) -> None:
        self._pipe = InheritedDescriptor(descriptor)
        self.revision: str | None = None
        self.script_folders: list[str] = []
        self.connected = False
        self.verified = False
        self._unopened: BaseException | None = None
        self._committed: str | None = None
        self._closed = False

    def report(self, type_: str, **fields: object) -> None:
        """Write one line of JSON; errors are ignored, since gate may have ended."""
        with suppress(OSError):
            # The first line break ends what a migration may have written to the pipe.
            self._pipe.write(b"\n" + json.dumps({"type": type_, **fields}).encode() + b"\n")

    def report_steps(self, steps: list[Any]) -> Iterator[Any]:
        """Yield the steps and report each; Alembic asks for the next step when it has applied the last."""
        self.report("plan", total=len(steps))
        for number, step in enumerate(steps, start=1):
            self.revision = step.to_revisions[0]
            began = time.monotonic()
            self.report("started", revision=self.revision, step=number)
            yield step
            self.report("applied", revision=self.revision, step=number, seconds=round(time.monotonic() - began, 3))
            self.revision = None

    def report_autocommit(self) -> None:
        """Report that the current revision uses AUTOCOMMIT; env.py may use it outside the revisions."""
        if self.revision:
            self.report("autocommit", revision=self.revision)

    def report_commit(self) -> None:
        """Report that something of the current revision was committed, once for each revision."""
        if self.revision and self.revision != self._committed:
            self._committed = self.revision
            self.report("committed", revision=self.revision)

    def report_connected(self, pid: int) -> None:
        """Report a connection by its id in the server."""
        self.connected = True
        self.report("connected", pid=pid)

    def record_opened(self) -> None:
        """Record that a connection has been opened, which may be lost before it is used."""
        self.connected = True

    def record_unopened(self, error: BaseException, has_gates_parameters: bool) -> None:  # noqa: FBT001 - a callback
        """Record the error of a connection that could not be opened, if its parameters are known to be right.

        A revision may open connections that no dry run has seen.
        """
        if has_gates_parameters or (self.verified and self.revision is None):
            self._unopened = error

    def record_closed(self) -> None:
        """Record that the migration has closed a connection itself, and used it after that."""
        self._closed = True

    def report_failure(self, error: BaseException) -> None:
        """Report an error without its traceback and without the parameters of its statement, which may be secret."""
        original = getattr(error, "orig", None) or error
        refused = isinstance(error, FenceRefusal)
        self.report(
            "failed",
            kind="database" if refused else "migration",
            revision=self.revision,
            message=str(error) if isinstance(error, FenceRefusal | ServerChanged) else describe(error),
            location=location_of(error, self.script_folders),
            sqlstate=sqlstate_of(original),
            lost=not refused and self._shows_lost_database(error),
            conflict="" if refused else lock_conflict(error),
        )

    def _shows_lost_database(self, error: BaseException) -> bool:
        if isinstance(error, ServerChanged):
            return True
        return shows_lost_database(error, connected=self.connected and not self._closed, unopened=self._unopened)
