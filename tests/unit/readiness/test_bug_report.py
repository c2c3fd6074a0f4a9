"""An error that gate does not expect during a request is reported once for each kind, with nothing of the request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine

from gate import asgi, wsgi
from gate.readiness.answer import make_answer
from gate.readiness.bug_report import BugReports
from tests.support.projects import Project

SECRET = "S3cr3tW0rd"


class Hostile(dict[str, Any]):
    """An ASGI scope or a WSGI environment without any value; it stands for what gate does not expect."""

    def __missing__(self, key: str) -> Any:
        if key == "type":
            return "http"
        raise ZeroDivisionError(SECRET)


def failure() -> Exception:
    try:
        make_answer(200, "", None)  # type: ignore[arg-type]
    except TypeError as error:
        return error
    raise AssertionError


def test_each_kind_is_reported_once_by_type_and_place() -> None:
    written: list[str] = []
    bugs = BugReports(written.append, interval=0)
    for _ in range(3):
        bugs.report(failure())
        bugs.report(ValueError(SECRET))
    assert len(written) == 2
    assert "TypeError in gate/readiness/answer.py, line " in written[0]
    assert "ValueError in gate." in written[1]
    assert SECRET not in written[1]


def test_further_kinds_are_reported_no_sooner_than_the_interval() -> None:
    written: list[str] = []
    bugs = BugReports(written.append, interval=1000)
    bugs.report(failure())
    bugs.report(ValueError())
    assert len(written) == 1


@pytest.mark.parametrize("interface", [asgi.Ready, wsgi.Ready])
def test_a_bug_in_an_applications_endpoint_is_a_500_and_one_line(
    project: Project, caplog: pytest.LogCaptureFixture, interface: Callable[..., Any]
) -> None:
    ready = interface("postgresql://127.0.0.1:1/x", config=str(project.folder / "alembic.ini"))
    with caplog.at_level(logging.CRITICAL, "gate"):
        statuses = [_ask(ready) for _ in range(3)]
    (record,) = caplog.records
    assert statuses == [500, 500, 500]
    assert "ZeroDivisionError in gate/" in record.getMessage()
    assert SECRET not in record.getMessage()


def test_a_check_that_fails_as_gate_does_not_expect_is_one_line(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    def connect() -> None:
        raise ZeroDivisionError(SECRET)

    ready = wsgi.Ready(
        create_engine("postgresql+psycopg://", creator=connect), config=str(project.folder / "alembic.ini"), ttl=0
    )
    with caplog.at_level(logging.CRITICAL, "gate"):
        for _ in range(3):
            ready({"REQUEST_METHOD": "GET"}, lambda *_: None)
    (record,) = caplog.records
    assert "ZeroDivisionError in gate/drift/application.py, line " in record.getMessage()
    assert SECRET not in record.getMessage()


def _ask(ready: Any) -> int:
    statuses: list[int] = []
    if isinstance(ready, wsgi.Ready):
        ready(Hostile(), lambda status, _: statuses.append(int(status.split()[0])))
        return statuses[0]

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    asyncio.run(ready(Hostile(), None, send))
    return statuses[0]
