"""Readiness inside an application: checks the database, caches the verdict, answers, and logs at the start."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from gate.drift import messages
from gate.drift.application import ApplicationInspector
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import TIMEOUT_MARGIN, Inspection
from gate.errors import GateError
from gate.readiness.answer import Answer, Readiness, answer, make_answer, prefers_text
from gate.readiness.bug_report import BugReports
from gate.readiness.cache import VerdictCache
from gate.readiness.negotiation import TEXT
from gate.settings import settings

if TYPE_CHECKING:
    from gate.database.missing import Missing
    from gate.drift.application import Source


logger = logging.getLogger("gate")
"""The standard library's, since the application has configured logging already."""

DEFAULT_TTL, DEFAULT_TIMEOUT = 10.0, 10.0
"""Seconds, used if the settings are wrong; the check reports that."""


class ReadinessEndpoint:
    """The base of `gate.asgi.Ready` and `gate.wsgi.Ready`, which take the same parameters.

    - `source`: an SQLAlchemy `Engine` or `AsyncEngine`, whose pool the checks use; a database URL; or None for
      `DATABASE_URL` and the other variables that `gate check` reads.
    - `config`, `section`: Alembic's configuration file or files and its section, as for `alembic -c` and `alembic -n`;
      by default `ALEMBIC_CONFIG`, else `alembic.ini` or `pyproject.toml` in the working directory.
    - `flags`: settings that override the environment, by variable: `{"GATE_QUERY_TIMEOUT": "2"}`.
    - `models`: a `MetaData`, a declarative base, SQLModel, or a sequence of them: what the code needs. By default what
      `gate expect` has recorded, if it has.
    - `ttl`: seconds for which a verdict is reused, `GATE_TTL` by default; six times as long once it is CURRENT.
    - `startup_timeout`: seconds that the check at the start may take.

    No error is raised for wrong settings or scripts: the answer is 503, and the log says why.
    """

    logs_missing = True
    """Whether a request logs what is missing where the answer stays 200; `gate serve` logs each change itself."""

    def __init__(
        self,
        source: Source = None,
        *,
        config: str | Sequence[str] | None = None,
        section: str | None = None,
        flags: Mapping[str, str] | None = None,
        models: object = None,
        ttl: float | None = None,
        startup_timeout: float = 5.0,
    ) -> None:
        self.inspector = ApplicationInspector(source, config, section, flags, models)
        default_ttl, timeout = _read_limits()
        self.cache = VerdictCache(default_ttl if ttl is None else ttl, timeout + TIMEOUT_MARGIN)
        self.startup_timeout = startup_timeout
        self.bugs = BugReports(logger.critical)
        self._answers: tuple[Readiness | None, dict[tuple[str, bool], Answer]] = (None, {})
        self._logged_missing: tuple[Missing, ...] = ()

    def answer(self, readiness: Readiness, method: str, accept: str) -> Answer:
        """Return the HTTP answer; it is rendered once for each verdict, method and content type."""
        rendered_for, answers = self._answers
        if rendered_for is not readiness:
            self._log_missing(readiness.drift)
            rendered_for, answers = self._answers = (readiness, {})
        key = (method, prefers_text(accept))
        if key not in answers and len(answers) < len(("GET", "HEAD")) * 2:
            answers[key] = answer(readiness, method, accept)
        return answers.get(key) or answer(readiness, method, accept)

    def _log_missing(self, drift: Drift | None) -> None:
        """Log once what is missing where the answer stays 200, since nothing else shows it."""
        if drift is None or not self.logs_missing:
            return
        missing = drift.missing if drift.verdict is Verdict.INCOMPLETE and drift.is_ready else ()
        if missing and missing != self._logged_missing:
            remedy = messages.remedy(drift, starting=True)
            logger.critical("%s. %s %s. %s", drift, messages.LACKS, messages.missing_text(drift), remedy)
        self._logged_missing = missing

    def answer_bug(self, error: Exception) -> Answer:
        """Report an error that gate does not expect, and return the answer to the request that hit it."""
        self.bugs.report(error)
        return make_answer(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"gate failed; the log says why\n")

    def report_failed_check(self) -> None:
        """Report why the last check failed, if that is none of gate's own errors."""
        failure = self.cache.failure
        if failure is not None and not isinstance(failure, GateError):
            self.bugs.report(failure)

    def record_startup(self, inspection: Inspection) -> None:
        """Cache the verdict of the check at the start and log it: drift is CRITICAL, and the application starts."""
        self.cache.record(inspection)
        drift, stamp = inspection.drift, inspection.stamp
        if drift.verdict in {Verdict.CURRENT, Verdict.UNSTAMPED, Verdict.AHEAD}:
            logger.info("%s", drift)
        elif drift.verdict is Verdict.DEFERRED:
            logger.info("%s. %s", drift, messages.finding(drift, stamp.database))
        else:
            remedy = messages.remedy(drift, stamp.migrator, standby=stamp.standby, role=stamp.role, starting=True)
            finding = messages.finding(drift, stamp.database, inspection.table)
            logger.critical("%s. %s %s", drift, finding, remedy)
            self._logged_missing = drift.missing
        for warning in inspection.warnings.values():
            logger.warning("%s", warning)
        if drift.redundant:
            logger.warning("%s. %s", drift, messages.redundant_rows(drift))

    def record_startup_failure(self, error: Exception) -> None:
        """Cache and log that the check at the start failed: CRITICAL, and the application starts."""
        self.cache.record_failure(error)
        reason = str(error) if isinstance(error, GateError) else type(error).__name__
        logger.critical("The schema could not be checked at the start: %s", reason)


def _read_limits() -> tuple[float, float]:
    """Return the ttl and the time-out of a check, both in seconds."""
    try:
        values = settings.read(os.environ)
    except GateError:
        return DEFAULT_TTL, DEFAULT_TIMEOUT
    return values.ttl, values.connect_timeout + values.query_timeout
