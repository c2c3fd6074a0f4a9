"""The original fix, in real frameworks under real servers: 503 with the drift, healing without a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import NullPool, StaticPool, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

import gate
from demo.embedded_postgres import EmbeddedPostgres, free_port
from gate import wsgi
from gate.asgi import Ready
from gate.database.lock import LOCK_CLASS, Migrator
from gate.database.stamp import Stamp, TableName
from gate.drift.comparison import Drift, Verdict
from gate.drift.inspector import Inspection
from gate.errors import BadSettings, DatabaseUnavailable
from gate.readiness.cache import VerdictCache
from tests.conftest import TestDatabase
from tests.support.programs import RunningProgram, await_true, start
from tests.support.projects import Project, make_project

FASTAPI = """
from fastapi import FastAPI
from starlette.routing import Route
from sqlalchemy import create_engine
from gate.asgi import Ready

ready = Ready(create_engine({url!r}), ttl=0.2)
app = FastAPI(lifespan=ready.lifespan)
app.router.routes.append(Route("/health/ready", ready))
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Route
from sqlalchemy.ext.asyncio import create_async_engine
from gate.asgi import Ready

ready = Ready(create_async_engine({url!r}.replace("+psycopg", "+asyncpg")), ttl=0.2)
app = Starlette(lifespan=ready.lifespan, routes=[Route("/health/ready", ready)])
"""
FLASK = """
from flask import Flask
from gate.wsgi import Ready

ready = Ready({url!r}, ttl=0.2)
app = Flask(__name__)
app.wsgi_app = ready.in_front_of(app.wsgi_app)
ready.startup()
"""
SHARING = """
from flask import Flask
from gate.wsgi import Ready
from sqlalchemy import create_engine, text

engine = create_engine({url!r})
ready = Ready(engine)
app = Flask(__name__)
app.wsgi_app = ready.in_front_of(app.wsgi_app)
ready.startup()


@app.get("/row/<int:number>")
def row(number):
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT :n, pg_sleep(0.01)"), {{"n": number}}).scalar())
"""
UVICORN = ("-m", "uvicorn", "app:app", "--port")
GUNICORN = ("-m", "gunicorn", "-w", "2", "app:app", "-b")
PRELOADED = ("-m", "gunicorn", "--preload", "-w", "3", "app:app", "-b")
SERVERS = {
    "FastAPI under uvicorn": (FASTAPI, UVICORN),
    "Starlette under uvicorn": (STARLETTE, UVICORN),
    "FastAPI under gunicorn": (
        FASTAPI,
        ("-m", "gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "app:app", "-b"),
    ),
    "Flask under gunicorn": (FLASK, GUNICORN),
}


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(
    started: ExitStack, project: Project, source: str, words: tuple[str, ...], url: str
) -> tuple[RunningProgram, str]:
    port = free_port()
    (project.folder / "app.py").write_text(source.format(url=url.replace("postgresql:", "postgresql+psycopg:")))
    where = str(port) if words[-1] == "--port" else f"127.0.0.1:{port}"
    running = start([sys.executable, *words, where], {"PYTHONPATH": str(project.folder)}, project.folder)
    started.callback(running.process.wait)
    started.callback(running.process.terminate)
    address = f"http://127.0.0.1:{port}"
    await_true(lambda: status(f"{address}/health/ready") > 0, lambda: "".join(running.err), running.process)
    return running, address


def status(url: str) -> int:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("name", SERVERS)
def test_drift_is_503_and_heals_without_a_restart(
    name: str, started: ExitStack, project: Project, database: TestDatabase
) -> None:
    database.stamp("a1")
    running, address = serve(started, project, *SERVERS[name], database.url)
    answer = httpx.get(f"{address}/health/ready", timeout=10)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "drift: db=a1 expected=a3"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["retry-after"]) > 0
    told = "drift: db=a1 expected=a3. Database"
    await_true(lambda: told in "".join(running.err + running.out), lambda: "".join(running.err), running.process)
    database.stamp("a3")
    await_true(lambda: status(f"{address}/health/ready") == 200, lambda: httpx.get(f"{address}/health/ready").text)


def test_forked_workers_share_no_connection_of_the_look_at_the_start(
    started: ExitStack, project: Project, database: TestDatabase
) -> None:
    database.stamp("a3")
    _, address = serve(started, project, SHARING, PRELOADED, database.url)
    with ThreadPoolExecutor(6) as askers:
        rows = [*askers.map(lambda number: httpx.get(f"{address}/row/{number}", timeout=10).text, range(100))]
    assert rows == [str(number) for number in range(100)]


def test_a_database_in_memory_outlives_the_look_at_the_start(project: Project) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (id int)"))
    wsgi.Ready(engine, config=str(project.folder / "alembic.ini")).startup()
    assert gate.drift_of(engine, config=str(project.folder / "alembic.ini")).verdict == "UNSTAMPED"


def test_head_text_and_other_methods(started: ExitStack, project: Project, database: TestDatabase) -> None:
    database.stamp("a1")
    _, address = serve(started, project, FLASK, GUNICORN, database.url)
    url = f"{address}/health/ready"
    assert httpx.get(url, headers={"accept": "text/plain"}).text == "drift: db=a1 expected=a3\n"
    head = httpx.head(url)
    assert (head.status_code, head.content) == (503, b"")
    assert int(head.headers["content-length"]) > 0
    refused = httpx.post(url)
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD"


ACCEPTED = {
    "application/json": "{",
    "text/plain": "drift",
    "Text/Plain;charset=utf-8": "drift",
    "application/json, text/plain, */*": "{",
    "text/plain;q=0, application/*": "{",
    "text/plain; q=0.000": "{",
    "text/plain, application/json;q=0": "drift",
    "text/plain;q=0.1": "drift",
    "text/plainer": "{",
    "*/*": "{",
    "": "{",
}


def test_each_gets_the_kind_that_it_accepts_whoever_asked_before(database: TestDatabase, project: Project) -> None:
    database.stamp("a1")
    ready = Ready(database.url, config=str(project.folder / "alembic.ini"), ttl=60)

    async def story() -> None:
        for asked in (*ACCEPTED, *reversed(ACCEPTED)):
            assert (await ask(ready, asked.encode()))[1].startswith(ACCEPTED[asked]), asked

    asyncio.run(story())


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


async def ask(ready: Ready, accept: bytes = b"application/json") -> tuple[int, str]:
    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/health/ready", "headers": [(b"accept", accept)]}
    await ready(scope, lambda: None, send)  # type: ignore[arg-type,return-value] # never receives
    body = sent[1]["body"]
    assert isinstance(body, bytes)
    assert isinstance(sent[0]["status"], int)
    return sent[0]["status"], body.decode()


def test_the_last_verdict_stands_while_the_database_is_away(own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    project = make_project(tmp_path / "p").chain("a1")
    own_server.execute("CREATE TABLE alembic_version AS SELECT 'a1'::varchar(32) AS version_num")
    ready = Ready(own_server.url("postgres"), config=str(project.folder / "alembic.ini"), ttl=0)

    async def story() -> None:
        assert (await ask(ready))[0] == 200
        own_server.stop()
        deadline = time.monotonic() + 30
        while "database away" not in (found := await ask(ready))[1]:
            assert found[0] == 200
            assert time.monotonic() < deadline
        assert found[0] == 200
        assert str(own_server.port) not in found[1]

    asyncio.run(story())


def test_a_migrator_is_only_what_was_last_seen_while_the_database_is_away(tmp_path: Path) -> None:
    migrator = Migrator("web-1", 1, 2, "a2", int(time.time()) - 14, 4711)
    drift = Drift(Verdict.BEHIND, ("a1",), ("a2",), ("a2",))
    cache = VerdictCache(ttl=10, timeout=10)
    cache.record(Inspection(Stamp("shop", "public", ("a1",), migrator=migrator), drift))
    seen = r"web-1 at revision a2 \(1/2\) for 1[45] s, backend 4711"
    assert re.fullmatch(seen, cache.current().migrating or "")
    cache.record_failure(DatabaseUnavailable())
    assert re.fullmatch(f"when last seen, 0 s ago: {seen}", cache.current().migrating or "")


def test_nothing_ever_seen_is_503_and_says_no_more_than_that(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p").chain("a1")
    url = f"postgresql://user:sesame@127.0.0.1:{free_port()}/x"
    ready = Ready(url, config=str(project.folder / "alembic.ini"))
    code, body = asyncio.run(ask(ready))
    assert code == 503
    assert "cannot be inspected" in body
    assert "sesame" not in body
    assert "127.0.0.1" not in body


def test_broken_scripts_are_503_without_a_files_name(tmp_path: Path, database: TestDatabase) -> None:
    project = make_project(tmp_path / "p").chain("a1")
    (project.versions / "secretfile.py").write_text("def (:")
    code, body = asyncio.run(ask(Ready(database.url, config=str(project.folder / "alembic.ini"))))
    assert code == 503
    assert "scripts of this image are unusable" in body
    assert "secretfile" not in body


def test_an_unknown_stamp_is_ready(database: TestDatabase, project: Project) -> None:
    database.stamp("newer")
    code, body = asyncio.run(ask(Ready(database.url, config=str(project.folder / "alembic.ini"))))
    assert code == 200
    assert "drift: db=newer expected=a3" in body


def test_a_thousand_requests_share_one_look(database: TestDatabase, project: Project) -> None:
    database.stamp("a1")
    ready = Ready(database.url, config=str(project.folder / "alembic.ini"), ttl=60)
    looks: list[int] = []
    look = ready.inspector.inspect

    def counted() -> Inspection:
        looks.append(1)
        return look()

    async def story() -> None:
        ready.inspector.inspect = counted  # type: ignore[method-assign,assignment] # counting, the look itself is real
        answers = await asyncio.gather(*(ask(ready) for _ in range(1000)))
        assert {code for code, _ in answers} == {503}

    asyncio.run(story())
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("rows", "levels", "words"),
    [
        (("zz99",), ["CRITICAL"], "does not know"),
        (("a3",), ["INFO"], "drift: db=a3 expected=a3"),
        (("a1", "a3"), ["INFO", "WARNING"], "delete the redundant row"),
        (("a2",), ["CRITICAL"], "Nobody is migrating"),
    ],
)
def test_startup_says_what_gate_would_say(
    caplog: pytest.LogCaptureFixture, database: TestDatabase, project: Project,
    rows: tuple[str, ...], levels: list[str], words: str,
) -> None:  # fmt: skip
    database.stamp(*rows)
    with caplog.at_level(logging.INFO, logger="gate"):
        asyncio.run(Ready(database.url, config=str(project.folder / "alembic.ini")).startup())
    assert [record.levelname for record in caplog.records] == levels
    assert words in caplog.text


@contextmanager
def a_migrator(database: TestDatabase) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Another gate's lock."""
    key = TableName().key
    with psycopg.connect(database.url, application_name=Migrator("web", 1, 1, "a3", 1).application_name(key)) as holder:
        holder.execute(f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, {key.signed})")
        yield holder


def test_startup_says_who_migrates(caplog: pytest.LogCaptureFixture, database: TestDatabase, project: Project) -> None:
    database.stamp("a2")
    with a_migrator(database):
        asyncio.run(Ready(database.url, config=str(project.folder / "alembic.ini")).startup())
    assert "Migrating now: web at revision a3" in caplog.text
    assert "Nobody" not in caplog.text


def test_a_migrator_that_locks_the_version_table_is_named(
    database: TestDatabase, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_QUERY_TIMEOUT", "0.2")
    database.stamp("a2")
    ready = Ready(database.url, config=str(project.folder / "alembic.ini"), ttl=0)
    with a_migrator(database) as holder:
        holder.execute("LOCK TABLE alembic_version")
        code, body = asyncio.run(ask(ready))
    assert code == 503
    assert json.loads(body)["migrating"].startswith("web at revision a3 (1/1)")


def test_startup_never_raises_nor_takes_longer_than_promised(
    caplog: pytest.LogCaptureFixture, project: Project
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.INFO, logger="gate"):
        url = f"postgresql://u:sesame@127.0.0.1:{silent.getsockname()[1]}/x"
        ready = Ready(url, config=str(project.folder / "alembic.ini"), startup_timeout=0.5)
        began = time.monotonic()
        asyncio.run(ready.startup())
        took = time.monotonic() - began
    assert took < 30  # the look itself would hang for as long as the silent host does
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "sesame" not in caplog.text


def test_the_function_for_scripts_and_test_suites(database: TestDatabase, project: Project) -> None:
    ini = str(project.folder / "alembic.ini")
    assert not gate.fits(database.url, config=ini)
    database.stamp("a1")
    assert gate.drift_of(database.url, config=ini).pending == ("a2", "a3")
    database.stamp("a3")
    assert gate.fits(database.url, config=ini)
    assert asyncio.run(gate.async_fits(database.url, config=ini))
    with pytest.raises(DatabaseUnavailable):
        gate.drift_of(f"postgresql://u:p@127.0.0.1:{free_port()}/x", config=ini)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_callers_transaction_is_never_poisoned(database: TestDatabase, project: Project, driver: str) -> None:
    ini = str(project.folder / "alembic.ini")
    engine = create_engine(database.url.replace("postgresql:", f"postgresql+{driver}:"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (id int)"))
        assert gate.drift_of(connection, config=ini).verdict == "UNSTAMPED"
        connection.execute(text("INSERT INTO mine VALUES (1)"))
    assert database.execute("SELECT count(*) FROM mine") == [(1,)]
    assert gate.fits(engine, config=ini)  # UNSTAMPED goes quietly
    with engine.connect() as connection:
        gate.drift_of(connection, config=ini)
        assert not connection.in_transaction()


def test_an_asynchronous_callers_transaction_is_never_poisoned(database: TestDatabase, project: Project) -> None:
    ini = str(project.folder / "alembic.ini")

    async def story() -> None:
        engine = create_async_engine(database.url.replace("postgresql:", "postgresql+asyncpg:"), poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE mine (id int)"))
            assert (await gate.async_drift_of(connection, config=ini)).verdict == "UNSTAMPED"
            await connection.execute(text("INSERT INTO mine VALUES (1)"))
        assert (await gate.async_drift_of(engine, config=ini)).verdict == "UNSTAMPED"
        await engine.dispose()
        with pytest.raises(BadSettings):
            gate.drift_of(engine, config=ini)

    asyncio.run(story())
    assert database.execute("SELECT count(*) FROM mine") == [(1,)]
