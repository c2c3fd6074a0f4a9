"""`gate serve`: readiness as a process of its own, for a sidecar: /health, /health/ready and /metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gate import log
from gate.asgi import Ready
from gate.drift.comparison import Drift, Verdict
from gate.drift.histories import load_each
from gate.drift.project import Project
from gate.drift.schemas import SEVERITY
from gate.errors import GateError
from gate.process import gc_tuning
from gate.process.log_thread import LogThread
from gate.readiness.answer import (
    READINESS_PATH,
    Readiness,
    Receive,
    Scope,
    Send,
    accept_header,
    alive,
    answer,
    make_answer,
    send_answer,
)
from gate.readiness.bug_report import BugReports
from gate.readiness.cache import VerdictCache
from gate.readiness.http_server import Server
from gate.readiness.listener import listen
from gate.readiness.negotiation import TEXT
from gate.settings import settings
from gate.settings.arguments import Arguments, History
from gate.settings.settings import Settings


class Metrics(Collector):
    """The verdict as Prometheus metrics; with several histories each sample has the label `section`."""

    def __init__(self, each: Mapping[str, VerdictCache]) -> None:
        self._each = each

    def collect(self) -> Iterable[Metric]:
        """Return gauges, made from the current verdict of each history."""
        labels = ["section"] if len(self._each) > 1 else []
        gauges = [GaugeMetricFamily(name, meaning, labels=labels) for name, meaning in GAUGES.items()]
        verdicts = GaugeMetricFamily(
            "gate_schema_verdict", "1 for the verdict of the last check", labels=[*labels, "verdict"]
        )
        schemas = GaugeMetricFamily("gate_schemas", "Schemas with this verdict", labels=[*labels, "verdict"])
        for section, cache in self._each.items():
            own = [section] if labels else []
            values = _values(cache)
            for gauge in gauges:
                gauge.add_metric(own, values[gauge.name])
            drift = cache.current().drift
            numbers = drift.schemas.by_verdict() if drift and drift.schemas else {}
            for verdict in Verdict:
                verdicts.add_metric([*own, verdict], float(drift is not None and drift.verdict is verdict))
                if drift and drift.schemas is not None:
                    schemas.add_metric([*own, verdict], float(numbers.get(verdict, 0)))
        yield from (*gauges[:VERDICTS_AFTER], verdicts, *([schemas] if schemas.samples else []))
        yield from gauges[VERDICTS_AFTER:]


class Sidecar:
    """The ASGI application of `gate serve`; `each`: the endpoint of each history, by its name."""

    def __init__(self, each: Mapping[str, Ready]) -> None:
        self._each = each
        self._logged = dict.fromkeys(each, "")
        self._registry = CollectorRegistry()
        self._registry.register(Metrics({section: ready.cache for section, ready in each.items()}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope.get("path"):
            case "/health":
                await send_answer(send, alive())
            case "/metrics":
                await self._refresh()
                body = generate_latest(self._registry)
                await send_answer(send, make_answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, body))
            case path if path == READINESS_PATH:
                await self._answer(scope, receive, send)
            case _:
                body = b"/health, /health/ready or /metrics\n"
                await send_answer(send, make_answer(HTTPStatus.NOT_FOUND, TEXT, body))
        for section, ready in self._each.items():
            with log.about(section):
                self._log_change(section, ready.cache)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the verdict, or with the worst of several."""
        if len(self._each) == 1:
            [ready] = self._each.values()
            await ready(scope, receive, send)
        else:
            readiness = await self._refresh()
            await send_answer(send, answer(readiness, scope["method"], accept_header(scope)))

    async def _refresh(self) -> Readiness:
        """Return the worst verdict of all histories, after the checks that are due."""
        found = await asyncio.gather(*(ready.refresh() for ready in self._each.values()))
        named = [each._replace(section=section) for section, each in zip(self._each, found, strict=True)]
        return min(named, key=severity)

    def _log_change(self, section: str, cache: VerdictCache) -> None:
        """Log once why the answer has changed. The HTTP answer gives fewer details, since anybody may read it."""
        failure, readiness = cache.failure, cache.current()
        is_bug = failure is not None and not isinstance(failure, GateError)
        finding = f"The check failed with {type(failure).__name__}" if is_bug else failure or readiness.drift
        text = str(finding).rstrip(".")
        if finding is None or text == self._logged[section]:
            return
        self._logged[section] = text
        fits = readiness.ready and (readiness.drift is None or readiness.drift.fits)
        level = "info" if fits and failure is None else "critical"
        status = 200 if readiness.ready else 503
        log.emit(level, "gate.answer_changed", f"{text}. {READINESS_PATH} answers {status}.", status=status)


def serve(arguments: Arguments) -> int:
    """Serve until a signal; raises `BadSettings` at the start if a setting is wrong or the address is taken."""
    current = settings.read(os.environ, arguments.flags)
    log.configure(current.log_format, current.log_level)
    host, port = arguments.listen
    bugs = BugReports(lambda text: log.emit("critical", "gate.bug", text))
    application = bugs.watch(Sidecar(_endpoints(arguments, current, bugs)))
    with listen((host, port), "--listen") as listening, LogThread():
        log.emit("info", "gate.serving", f"gate answers on {host or '*'}:{port}.", port=port)
        gc_tuning.collect_normally()
        Server(application).run([listening])
    return 0


def _endpoints(arguments: Arguments, current: Settings, bugs: BugReports) -> dict[str, Ready]:
    """Make the endpoint of each history; with several, each loads all, since they must not share a version table."""
    endpoints = {}
    for each in arguments.histories:
        ready = Ready(config=each.config, section=each.section, flags=arguments.flags, ttl=current.ttl)
        ready.logs_missing = False
        ready.bugs = bugs
        if each.label:
            ready.inspector.load = partial(load_one, arguments, each)
        endpoints[each.label] = ready
    return endpoints


def load_one(arguments: Arguments, history: History) -> Project:
    """Load the project of one of several histories; raises its error."""
    loaded = load_each(settings.read(os.environ, arguments.flags), arguments.histories)
    found = loaded[arguments.histories.index(history)]
    if isinstance(found, GateError):
        raise found
    return found


def severity(readiness: Readiness) -> tuple[bool, int]:
    """Sort the worst first: what is not ready, then by the verdict; none at all is the worst."""
    return readiness.ready, -SEVERITY.index(readiness.drift.verdict) if readiness.drift else -len(SEVERITY)


GAUGES = {
    "gate_schema_current": "1 if the schema is at the heads of this image",
    "gate_schema_ready": "1 if /health/ready answers 200",
    "gate_pending_revisions": "Revisions that an upgrade would run",
    "gate_deferred_revisions": "Revisions that may wait until after the deployment",
    "gate_missing_items": "Tables, columns and rights that the code needs and the database lacks",
    "gate_seconds_since_seen": "Seconds since the last successful check",
    "gate_waiting_seconds": "Seconds for which the schema has not fitted",
}
"""The names and the meanings of all metrics but `gate_schema_verdict`."""

VERDICTS_AFTER = 2
"""The number of metrics in front of `gate_schema_verdict`."""


def _values(cache: VerdictCache) -> dict[str, float]:
    """Return the values of these metrics; NaN for what is not known."""
    readiness = cache.current()
    drift = readiness.drift
    return {
        "gate_schema_current": _is_current(readiness),
        "gate_schema_ready": float(readiness.ready),
        "gate_pending_revisions": _or_nan(_runnable_revisions(drift) if drift else None),
        "gate_deferred_revisions": _or_nan(len(drift.deferred) if drift else None),
        "gate_missing_items": _or_nan(drift.missing_total if drift else None),
        "gate_seconds_since_seen": _or_nan(readiness.age),
        "gate_waiting_seconds": cache.waiting_seconds(),
    }


def _is_current(readiness: Readiness) -> float:
    return float(readiness.drift is not None and readiness.drift.verdict is Verdict.CURRENT)


def _runnable_revisions(drift: Drift) -> int:
    """Return 0 where the image does not know the stamp: Alembic would refuse the upgrade."""
    return 0 if drift.unknown else len(drift.pending)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
