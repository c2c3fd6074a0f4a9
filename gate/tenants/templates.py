"""The templates of one call: first one that has imported Alembic, then one with what env.py imports, too.

What env.py imports is known after the dry run of the first upgrade. Until the second template can be forked, no other
upgrade begins: each would import all of that itself. A template that may not be forked is left out: upgrades are then
forked from the one before, or started anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from gate.errors import ResourceShortage
from gate.migration.plan import Plan
from gate.migration.progress import Progress
from gate.migration.template import Template
from gate.migration.upgrade_request import TemplateRequest

START_TIMEOUT = 30.0
"""Seconds for the first template to start; until then nothing is upgraded."""

PRELOAD_TIMEOUT = 60.0
"""Seconds for the second one, after which upgrades begin without it: importing a large application takes 16."""

MIN_SCHEMAS = 3
"""The number of schemas for which a template pays."""


class Templates:
    """Starts templates, and knows which one to fork. Use it in the main thread only."""

    def __init__(self, plan: Plan, environment: Mapping[str, str]) -> None:
        self._plan, self._environment = plan, environment
        self._all: list[Template] = []
        self._has_learned = False
        self._deadline = 0.0

    def start(self, schemas: int) -> None:
        """Start the first one if it pays, and wait until it can be forked."""
        if schemas >= MIN_SCHEMAS and not self._plan.command:
            self._start([], [])
            for template in self._all:
                template.poll(START_TIMEOUT)

    def current(self) -> Template | None:
        """Return the template to fork, None = start a new process."""
        for template in self._all:
            template.poll()
        usable = [template for template in self._all if template.is_ready and not template.is_gone]
        for outdated in usable[:-1]:
            outdated.retire()
        return usable[-1] if usable else None

    def limit(self, jobs: int) -> int:
        """Return how many upgrades may run, at most `jobs`."""
        if not self._all:
            return jobs
        if not self._has_learned:
            return 1
        return jobs if self._all[-1].poll() or time.monotonic() > self._deadline else 0

    def wait(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the one that starts."""
        self._all[-1].poll(timeout)

    def learn(self, progress: Progress | None, tenant: str, *, has_ended: bool = False) -> None:
        """Start a template with what an upgrade has imported, once.

        `tenant`: the schema of that upgrade; `has_ended`: whether it will report nothing more.
        """
        if self._has_learned or not self._all:
            return
        if progress and progress.imported:
            # A module that is named after a schema is that schema's own.
            self._start([name for name in progress.imported if tenant not in name.split(".")], progress.path)
        self._has_learned = has_ended or bool(progress and progress.imported)
        self._deadline = time.monotonic() + PRELOAD_TIMEOUT

    def _start(self, modules: list[str], path: list[str]) -> None:
        c = self._plan.configuration
        request = TemplateRequest(c.ini, c.toml, c.section, list(self._plan.targets), modules, path)
        with suppress(ResourceShortage):  # upgrades need fewer resources without it
            self._all.append(Template(request, self._environment))

    def close(self) -> None:
        """End all templates."""
        for template in self._all:
            template.close()
