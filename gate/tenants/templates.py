"""The templates of one call: first one that has imported Alembic, then one with what env.py imports, too.

What env.py imports is known when the first upgrade has ended. A template that may not be forked is left out: upgrades
are then forked from the one before, or started anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from gate.errors import ResourceShortage
from gate.migration.plan import Plan
from gate.migration.progress import Progress
from gate.migration.template import Template
from gate.migration.upgrade_request import TemplateRequest

START_TIMEOUT = 30.0
"""Seconds for the first template to start; until then nothing is upgraded."""

MIN_SCHEMAS = 3
"""The number of schemas for which a template pays."""


class Templates:
    """Starts templates, and knows which one to fork. Use it in the main thread only."""

    def __init__(self, plan: Plan, environment: Mapping[str, str]) -> None:
        self._plan, self._environment = plan, environment
        self._all: list[Template] = []
        self._has_learned = False

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

    def learn(self, progress: Progress, tenant: str) -> None:
        """Start a template with what an upgrade has imported, once. `tenant`: the schema of that upgrade."""
        if progress.imported and not self._has_learned and self._all:
            self._has_learned = True
            # A module that is named after a schema is that schema's own.
            self._start([name for name in progress.imported if tenant not in name.split(".")], progress.path)

    def _start(self, modules: list[str], path: list[str]) -> None:
        c = self._plan.configuration
        request = TemplateRequest(c.ini, c.toml, c.section, list(self._plan.targets), modules, path)
        with suppress(ResourceShortage):  # upgrades need fewer resources without it
            self._all.append(Template(request, self._environment))

    def close(self) -> None:
        """End all templates."""
        for template in self._all:
            template.close()
