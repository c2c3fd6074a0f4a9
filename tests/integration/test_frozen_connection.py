"""A way to the database that freezes: what is connected hangs and is never told so, while new connections work."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from demo.embedded_postgres import free_port
from gate import wsgi
from gate.asgi import Ready
from gate.drift.application import ApplicationInspector
from gate.errors import DatabaseUnavailable
from gate.process import threads
from gate.readiness.cache import VerdictCache
from tests.conftest import TestDatabase
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.programs import TIMEOUT, await_true, start
from tests.support.projects import Project

if TYPE_CHECKING:
    from gate.drift.application import Source

LIMITS = {"GATE_CONNECT_TIMEOUT": "1", "GATE_QUERY_TIMEOUT": "1"}

SERVED = """
from gate.{kind} import Ready
from sqlalchemy import create_engine

ready = Ready({source}, ttl=0.2, startup_timeout=1)
app = ready{before}
"""


@pytest.fixture
def way(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for variable, value in LIMITS.items():
        monkeypatch.setenv(variable, value)
    with faulty_proxy(database.server.port) as way:
        yield way


@pytest.fixture
def url(database: TestDatabase, way: FaultyProxy) -> str:
    return database.url.replace(f":{database.server.port}", f":{way.port}")


@pytest.fixture
def ini(project: Project) -> str:
    return str(project.folder / "alembic.ini")


def of_driver(url: str, driver: str) -> str:
    return url.replace("postgresql:", f"postgresql+{driver}:")


ENGINES: dict[str, Callable[[str], Source]] = {
    "Engine": lambda url: create_engine(of_driver(url, "psycopg")),
    "AsyncEngine": lambda url: create_async_engine(of_driver(url, "asyncpg")),
}


@pytest.mark.parametrize("kind", ENGINES)
def test_readiness_heals_after_a_pooled_connection_froze_and_says_so_meanwhile(
    kind: str, database: TestDatabase, way: FaultyProxy, url: str, ini: str
) -> None:
    database.stamp("a1")
    engine = ENGINES[kind](url)
    ready = Ready(engine, config=ini, ttl=0.1)

    async def story() -> None:
        assert not (await ready.refresh()).ready
        way.freeze()
        database.stamp("a3")
        await until(lambda: asked_away(ready))
        await until(lambda: asked_ready(ready))
        if isinstance(engine, AsyncEngine):
            await engine.dispose(close=False)

    asyncio.run(story())


async def asked_away(ready: Ready) -> bool:
    return (await ready.refresh()).away is not None


async def asked_ready(ready: Ready) -> bool:
    return (await ready.refresh()).ready


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not await happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_a_wsgi_application_heals_after_a_pooled_connection_froze(
    database: TestDatabase, way: FaultyProxy, url: str, ini: str
) -> None:
    database.stamp("a1")
    ready = wsgi.Ready(create_engine(of_driver(url, "psycopg")), config=ini, ttl=0.1)
    look = ready.inspector.inspect
    assert not ready.cache.refresh(look).ready
    way.freeze()
    database.stamp("a3")
    await_true(lambda: ready.cache.refresh(look).away is not None, lambda: "the database is not said to be away")
    await_true(lambda: ready.cache.refresh(look).ready, lambda: ready.cache.current().line)


def test_looks_that_never_end_do_not_pile_up(database: TestDatabase, ini: str) -> None:
    began: list[int] = []
    end = threading.Event()

    def hangs() -> None:
        began.append(1)
        end.wait()

    cache = VerdictCache(ttl=0, timeout=0.01)
    cache.record(ApplicationInspector(database.url, ini).inspect())
    for _ in range(2 * threads.MAX_FROZEN):
        cache.refresh(hangs)  # type: ignore[arg-type] # it never gives anything
    end.set()
    assert len(began) == threads.MAX_FROZEN


def test_a_look_whose_way_froze_does_not_keep_the_next_one_from_seeing(
    database: TestDatabase, way: FaultyProxy, url: str, ini: str
) -> None:
    database.stamp("a3")
    inspector = ApplicationInspector(url, ini)
    for _ in range(threads.MAX_FROZEN - 1):
        with psycopg.connect(database.url) as other:
            other.execute("LOCK TABLE alembic_version")
            freezing = threading.Thread(target=freeze_when_it_waits, args=(database, way))
            freezing.start()
            with pytest.raises(DatabaseUnavailable, match="did not answer within"):
                inspector.inspect()
            freezing.join()
        assert inspector.inspect().drift.verdict == "CURRENT"


def freeze_when_it_waits(database: TestDatabase, way: FaultyProxy) -> None:
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'alembic_version'::regclass"
    await_true(lambda: bool(database.execute(waits)), lambda: "no look waits for the lock")
    way.freeze()


def status(port: int) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code
    except httpx.TransportError:
        return 0


def test_workers_forked_while_the_look_at_the_start_hangs_look_for_themselves(
    database: TestDatabase, way: FaultyProxy, url: str, project: Project
) -> None:
    database.stamp("a3")
    (project.folder / "app.py").write_text(
        SERVED.format(kind="wsgi", source=repr(url), before="\nready.startup()"),
    )
    way.is_open = False
    port = free_port()
    server = start(
        [sys.executable, "-m", "gunicorn", "--preload", "-w", "1", "app:app", "-b", f"127.0.0.1:{port}"],
        {"PYTHONPATH": str(project.folder), **LIMITS},
        project.folder,
    )
    try:
        await_true(lambda: status(port) == 503, lambda: "".join(server.err), server.process)
        way.is_open = True
        await_true(lambda: status(port) == 200, lambda: "".join(server.err), server.process)
    finally:
        server.process.terminate()
        server.process.wait()


def test_a_look_that_hangs_does_not_keep_the_server_from_ending(
    database: TestDatabase, way: FaultyProxy, url: str, project: Project
) -> None:
    database.stamp("a1")
    source = f"create_engine({of_driver(url, 'psycopg')!r})"
    (project.folder / "app.py").write_text(SERVED.format(kind="asgi", source=source, before=""))
    port = free_port()
    server = start(
        [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--lifespan", "off"],
        {"PYTHONPATH": str(project.folder), **LIMITS},
        project.folder,
    )
    try:
        await_true(lambda: status(port) == 503, lambda: "".join(server.err), server.process)
        way.freeze()
        await_true(lambda: away(port), lambda: "".join(server.err), server.process)
        server.process.terminate()
        assert server.wait().code in {0, -15}
    finally:
        server.end()


def away(port: int) -> bool:
    found = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).json()
    return found["database_away_seconds"] is not None
