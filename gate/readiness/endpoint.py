"""What the application's own process does with readiness: remember it, answer with it, say so once at the start."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gate.drift import messages
from gate.drift.application import ApplicationInspector
from gate.drift.comparison import Verdict
from gate.drift.inspector import TIMEOUT_MARGIN, Inspection
from gate.errors import GateError
from gate.readiness.answer import Answer, Readiness, answer, prefers_text
from gate.readiness.cache import VerdictCache
from gate.settings import settings

if TYPE_CHECKING:
    from gate.drift.application import Source


logger = logging.getLogger("gate")
"""The standard library's, since this is somebody else's process and its logging is configured already."""

DEFAULT_TTL, DEFAULT_TIMEOUT = 10.0, 10.0
"""Of the settings, where they are wrong: the look itself will tell that."""


class ReadinessEndpoint:
    """Readiness for one application, however its server asks.

    `source`: a URL, an SQLAlchemy `Engine` or `AsyncEngine` (no connection beside its pool's is made), or None for
    DATABASE_URL. `config`, `section`: as `alembic -c` and `-n`. `flags`: settings by variable. `ttl`: seconds for which
    a verdict is reused (None: GATE_TTL). `startup_timeout`: seconds that the look at the start may take.
    """

    def __init__(
        self,
        source: Source = None,
        *,
        config: str | Sequence[str] | None = None,
        section: str | None = None,
        flags: Mapping[str, str] | None = None,
        ttl: float | None = None,
        startup_timeout: float = 5.0,
    ) -> None:
        self.inspector = ApplicationInspector(source, config, section, flags)
        told, limit = _read_limits()
        self.cache = VerdictCache(told if ttl is None else ttl, limit + TIMEOUT_MARGIN)
        self.startup_timeout = startup_timeout
        self._answers: tuple[Readiness | None, dict[tuple[str, bool], Answer]] = (None, {})

    def answer(self, readiness: Readiness, method: str, accept: str) -> Answer:
        """The HTTP answer; made once for each verdict and kind of question."""
        made_for, answers = self._answers
        if made_for is not readiness:
            made_for, answers = self._answers = (readiness, {})
        key = (method, prefers_text(accept))
        if key not in answers and len(answers) < len(("GET", "HEAD")) * 2:
            answers[key] = answer(readiness, method, accept)
        return answers.get(key) or answer(readiness, method, accept)

    def told_at_start(self, inspection: Inspection) -> None:
        """Log CRITICAL on drift; the start goes on (advisory)."""
        self.cache.record(inspection)
        drift, stamp = inspection.drift, inspection.stamp
        if drift.verdict in {Verdict.CURRENT, Verdict.UNSTAMPED}:
            logger.info("%s", drift)
        else:
            advice = messages.remedy(drift, stamp.migrator, standby=stamp.standby)
            logger.critical("%s. %s %s", drift, messages.finding(drift, stamp.database), advice)
        if drift.redundant:
            logger.warning("%s. %s", drift, messages.redundant_rows(drift))

    def failed_at_start(self, error: Exception) -> None:
        """Log CRITICAL that nothing could be seen; the start goes on."""
        self.cache.record_failure(error)
        why = str(error) if isinstance(error, GateError) else type(error).__name__
        logger.critical("The schema could not be checked at the start: %s", why)


def _read_limits() -> tuple[float, float]:
    """For how long a verdict is reused, and how long connecting and reading may take together."""
    try:
        told = settings.read(os.environ)
    except GateError:
        return DEFAULT_TTL, DEFAULT_TIMEOUT
    return told.ttl, told.connect_timeout + told.query_timeout
