"""One schema of many: notices that it was dropped, and explains that it was never there."""

from __future__ import annotations

from dataclasses import dataclass

from gate.database.lock import Migrator
from gate.database.postgresql.engine import PostgresEngine
from gate.database.stamp import Stamp
from gate.drift import comparison
from gate.drift.inspector import Inspection, Inspector
from gate.errors import DatabaseUnavailable, GateError, MigrationFailed
from gate.migration.progress import Progress
from gate.text import short_name

EXPLANATION_TIMEOUT = 5.0
"""Seconds for the check whether a schema exists whose migration has failed."""


class SchemaDropped(Exception):
    """The schema was dropped while gate migrated it, or was about to: to go on would create it again."""


class SchemaInspector(Inspector):
    """Inspects one schema.

    `engine`: the one of the job, which reuses its connections; `exists`: whether the schema did when all were
    inspected; else env.py may create it.
    """

    def __init__(self, inspector: Inspector, engine: PostgresEngine, *, exists: bool) -> None:
        super().__init__(
            inspector.graph,
            inspector.table,
            inspector.database,
            inspector.needs,
            migrating=inspector.migrating,
            siblings=inspector.siblings,
        )
        self._engine, self._exists = engine, exists

    @property
    def engine(self) -> PostgresEngine:
        """The engine of the job."""
        return self._engine

    def inspect(self, limit: float | None = None) -> Inspection:
        """Do what `Inspector.inspect` does; raises `SchemaDropped`."""
        try:
            return super().inspect(limit)
        except DatabaseUnavailable:
            self._engine.close()  # a call may still wait on its connection
            raise

    def compare(self, stamp: Stamp) -> Inspection:
        """Compare the stamp with the image, unless the schema was dropped; other schemas cast no doubt on this one."""
        if stamp.schema_exists:
            return super().compare(stamp)
        if self._exists:
            raise SchemaDropped
        drift = comparison.compare(self.graph, stamp.rows, shortfall=stamp.shortfall)
        return Inspection(stamp, drift, table=f"{self.table.schema}.{self.table.table}")

    def explain(self, error: MigrationFailed) -> MigrationFailed:
        """Return the error of the migration, with the cause if the schema does not exist and env.py creates none."""
        if self._exists:
            return error
        try:
            exists = self.inspect(EXPLANATION_TIMEOUT).stamp.schema_exists
        except GateError:
            return error
        if exists:
            return error
        name = short_name(self.table.schema or "")
        text = (
            f"Schema {name} does not exist, and env.py did not create it. Create it, let env.py create it, or take it "
            f"out of GATE_SCHEMAS. {error}"
        )
        return MigrationFailed(text, error.revision)


@dataclass(slots=True)
class SchemasProgress(Progress):
    """The progress of many schemas: `step` of `total` are done."""

    def migrator(self) -> Migrator:
        """Return the description of this migrator for the placeholder."""
        return _SchemasMigrator(*super(SchemasProgress, self).migrator())


class _SchemasMigrator(Migrator):
    def at(self, moment: float) -> str:
        """Render as `web-1 at schema 12/200 for 14 s`."""
        host, age = self.host or "an unnamed host", max(0, round(moment - self.since))
        return f"{host} at schema {self.step}/{self.total} for {age} s"
