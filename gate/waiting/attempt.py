"""One attempt to pass the gate, which GATE_ON_FAILURE=stay repeats."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gate import errors, log
from gate.drift.histories import load_projects
from gate.drift.project import Project
from gate.errors import BadSettings, DatabaseLost, GateError
from gate.readiness.answer import Readiness
from gate.readiness.placeholder import Placeholder
from gate.settings import settings
from gate.settings.arguments import Arguments
from gate.waiting.backoff import Deadline
from gate.waiting.builder import LoopBuilder, may_migrate
from gate.waiting.histories import pass_all
from gate.waiting.loop import WaitLoop
from gate.waiting.termination_log import TerminationLog

if TYPE_CHECKING:
    from gate.migration.progress import Progress


MAX_LOST_RETRIES = 5
"""How often gate migrates again by itself after the database went away: a migration may crash the server itself."""


@dataclass(slots=True)
class Attempt:
    """Reads settings and image anew each time it is run, since either may have been fixed in between.

    `deadline`: GATE_TIMEOUT, for all attempts and histories together. `inspect_only`: some attempt has failed, and
    later ones may not migrate. `retries_left`: how many attempts may still follow one in which the database went away.
    """

    arguments: Arguments
    termination: TerminationLog
    placeholder: Placeholder
    deadline: Deadline = field(default_factory=Deadline, init=False)
    inspect_only: bool = field(default=False, init=False)
    retries_left: int = field(default=MAX_LOST_RETRIES, init=False)
    _unfinished: set[str] = field(default_factory=set, init=False)
    _logged: set[tuple[str, str]] = field(default_factory=set, init=False)

    @property
    def upgrade_began(self) -> bool:
        """Whether some attempt has started an upgrade that did not succeed."""
        return bool(self._unfinished)

    def run(self) -> None:
        """Return when the server may start; raises every `GateError` that ends the waiting."""
        try:
            self._run()
        except GateError as error:
            self.inspect_only |= not self._may_repeat(error)
            raise

    def _may_repeat(self, error: GateError) -> bool:
        """Whether a later attempt may still migrate."""
        if isinstance(error, DatabaseLost):
            self.retries_left -= 1
            return self.retries_left >= 0
        # Wrong settings or scripts before any upgrade may be fixed.
        return error.exit_code == BadSettings.exit_code and not self.upgrade_began

    def _run(self) -> None:
        current = settings.read(os.environ, self.arguments.flags)
        log.configure(current.log_format, current.log_level)
        self.deadline = replace(self.deadline, timeout=current.timeout)
        self.placeholder.start(current.placeholder, current.health_path, current.placeholder_page)
        migrates = may_migrate(self.arguments, current)
        histories = self.arguments.histories
        projects = load_projects(
            current, histories, whole=migrates, post_deploy=migrates and current.post_deploy, migrating=migrates
        )
        loops = [self._build(project, each.label) for project, each in zip(projects, histories, strict=True)]
        try:
            pass_all(loops)
        finally:
            self._unfinished -= {loop.section for loop in loops if loop.migrated}

    def _build(self, project: Project, section: str) -> WaitLoop:
        """Build the loop of one history, before any is migrated: wrong settings of the last one end all."""

        def show_progress(progress: Progress) -> None:
            self._unfinished.add(section)
            readiness = Readiness(progress.planned, age=0, migrating=str(progress.migrator()), server_started=False)
            self.placeholder.publish(readiness._replace(section=section))

        with log.about(section), errors.about(section):
            self._log_warnings(project.warnings(), section)
            builder = LoopBuilder(project, self.arguments, self.inspect_only, section)
            return builder.build(self.placeholder, self.termination, self.deadline, show_progress)

    def _log_warnings(self, warnings: dict[str, str], section: str) -> None:
        for event, text in warnings.items():
            if (event, section) not in self._logged:
                log.emit("warning", event, text)
            self._logged.add((event, section))
