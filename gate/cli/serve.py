"""`gate serve`: readiness as a process of its own, for a sidecar: /health, /health/ready and /metrics."""

from __future__ import annotations

import os
from collections.abc import Iterable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gate import log
from gate.asgi import Ready
from gate.drift.comparison import Drift, Verdict
from gate.errors import GateError
from gate.process import gc_tuning
from gate.process.log_thread import LogThread
from gate.readiness.answer import (
    READINESS_PATH,
    TEXT,
    Readiness,
    Receive,
    Scope,
    Send,
    alive,
    make_answer,
    send_answer,
)
from gate.readiness.bug_report import BugReports
from gate.readiness.http_server import Server
from gate.readiness.listener import listen
from gate.settings import settings
from gate.settings.arguments import Arguments


class Metrics(Collector):
    """The verdict as Prometheus metrics."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready

    def collect(self) -> Iterable[Metric]:
        """Return gauges, made from the current verdict."""
        readiness = self._ready.cache.current()
        drift = readiness.drift
        yield _gauge("gate_schema_current", "1 if the schema is at the heads of this image", _is_current(readiness))
        yield _gauge("gate_schema_ready", "1 if /health/ready answers 200", float(readiness.ready))
        verdicts = GaugeMetricFamily("gate_schema_verdict", "1 for the verdict of the last check", labels=["verdict"])
        for verdict in Verdict:
            verdicts.add_metric([verdict], float(drift is not None and drift.verdict is verdict))
        yield verdicts
        if drift is not None and drift.schemas is not None:
            schemas = GaugeMetricFamily("gate_schemas", "Schemas with this verdict", labels=["verdict"])
            numbers = drift.schemas.by_verdict()
            for verdict in Verdict:
                schemas.add_metric([verdict], float(numbers.get(verdict, 0)))
            yield schemas
        pending = _or_nan(_runnable_revisions(drift) if drift else None)
        yield _gauge("gate_pending_revisions", "Revisions that an upgrade would run", pending)
        deferred = _or_nan(len(drift.deferred) if drift else None)
        yield _gauge("gate_deferred_revisions", "Revisions that may wait until after the deployment", deferred)
        missing = _or_nan(drift.missing_total if drift else None)
        yield _gauge(
            "gate_missing_items", "Tables, columns and rights that the code needs and the database lacks", missing
        )
        yield _gauge("gate_seconds_since_seen", "Seconds since the last successful check", _or_nan(readiness.age))
        waiting = self._ready.cache.waiting_seconds()
        yield _gauge("gate_waiting_seconds", "Seconds for which the schema has not fitted", waiting)


class Sidecar:
    """The ASGI application of `gate serve`."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._logged = ""
        self._registry = CollectorRegistry()
        self._registry.register(Metrics(ready))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope.get("path"):
            case "/health":
                await send_answer(send, alive())
            case "/metrics":
                await self._ready.refresh()
                body = generate_latest(self._registry)
                await send_answer(send, make_answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, body))
            case path if path == READINESS_PATH:
                await self._ready(scope, receive, send)
            case _:
                body = b"/health, /health/ready or /metrics\n"
                await send_answer(send, make_answer(HTTPStatus.NOT_FOUND, TEXT, body))
        self._log_change()

    def _log_change(self) -> None:
        """Log once why the answer has changed. The HTTP answer gives fewer details, since anybody may read it."""
        failure, readiness = self._ready.cache.failure, self._ready.cache.current()
        is_bug = failure is not None and not isinstance(failure, GateError)
        finding = f"The check failed with {type(failure).__name__}" if is_bug else failure or readiness.drift
        text = str(finding).rstrip(".")
        if finding is None or text == self._logged:
            return
        self._logged = text
        fits = readiness.ready and (readiness.drift is None or readiness.drift.fits)
        level = "info" if fits and failure is None else "critical"
        status = 200 if readiness.ready else 503
        log.emit(level, "gate.answer_changed", f"{text}. {READINESS_PATH} answers {status}.", status=status)


def serve(arguments: Arguments) -> int:
    """Serve until a signal; raises `BadSettings` at the start if a setting is wrong or the address is taken."""
    current = settings.read(os.environ, arguments.flags)
    log.configure(current.log_format, current.log_level)
    host, port = arguments.listen
    ready = Ready(config=arguments.config, section=arguments.name, flags=arguments.flags, ttl=current.ttl)
    ready.logs_missing = False
    ready.bugs = BugReports(lambda text: log.emit("critical", "gate.bug", text))
    with listen((host, port), "--listen") as listening, LogThread():
        log.emit("info", "gate.serving", f"gate answers on {host or '*'}:{port}.", port=port)
        gc_tuning.collect_normally()
        Server(ready.bugs.watch(Sidecar(ready))).run([listening])
    return 0


def _is_current(readiness: Readiness) -> float:
    return float(readiness.drift is not None and readiness.drift.verdict is Verdict.CURRENT)


def _runnable_revisions(drift: Drift) -> int:
    """Return 0 where the image does not know the stamp: Alembic would refuse the upgrade."""
    return 0 if drift.unknown else len(drift.pending)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)
