"""GATE_SCHEMAS: one gate before a schema for each tenant."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

import gate as api
from demo.embedded_postgres import free_port
from gate.database.postgresql.schemas import BATCH_SIZE
from gate.errors import BadSettings, DatabaseUnavailable
from gate.image.expectations import ExpectedTable
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.hostile_text import HOSTILE
from tests.support.needs import record
from tests.support.programs import await_true
from tests.support.projects import Project

STARTED = "server started\n"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def create(database: TestDatabase, *names: str, revision: str = "a3", table: str = "alembic_version") -> None:
    """Create schemas, each stamped with a revision."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        for start in range(0, len(names), 200):
            connection.execute(
                "".join(
                    f"CREATE SCHEMA {quoted(name)};"
                    f"CREATE TABLE {quoted(name)}.{table} (version_num varchar(32) PRIMARY KEY);"
                    f"INSERT INTO {quoted(name)}.{table} VALUES ('{revision}');"
                    for name in names[start : start + 200]
                )
            )


@pytest.fixture
def tenants(database: TestDatabase) -> TestDatabase:
    """Ten schemas at head: t0 to t9."""
    create(database, *(f"t{n}" for n in range(10)))
    return database


def restamp(database: TestDatabase, name: str, revision: str) -> None:
    database.execute(f"UPDATE {quoted(name)}.alembic_version SET version_num = '{revision}'")


def test_all_schemas_are_checked_and_the_worst_decides(gate: GateRunner, tenants: TestDatabase) -> None:
    ended = gate("check", "--schemas", "t*")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "CURRENT drift: 10 of 10 schemas expected=a3")
    restamp(tenants, "t7", "a2")
    restamp(tenants, "t9", "a1")
    ended = gate("check", GATE_SCHEMAS="t*")
    assert (ended.code, ended.out.splitlines()[0]) == (
        1,
        "BEHIND drift: 8 of 10 schemas expected=a3; BEHIND t7 (a2), t9 (a1)",
    )
    found = json.loads(gate("check", "--json", GATE_SCHEMAS="t*").out)
    assert found["schemas"]["by_verdict"] == {"BEHIND": 2, "CURRENT": 8}
    assert [each["schema"] for each in found["schemas"]["not_current"]] == ["t7", "t9"]


def test_a_server_waits_until_the_last_schema_fits(gate: GateRunner, tenants: TestDatabase) -> None:
    restamp(tenants, "t3", "a1")
    waiting = gate.start("run", "--poll-max", "0.2", "--", *SERVER, GATE_SCHEMAS="t*")
    event = waiting.await_event("gate.waiting")
    assert event["drift"] == "drift: 9 of 10 schemas expected=a3; BEHIND t3 (a1)"
    restamp(tenants, "t3", "a3")
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, STARTED)


def test_progress_elsewhere_does_not_flood_the_log(gate: GateRunner, tenants: TestDatabase) -> None:
    for n in range(10):
        restamp(tenants, f"t{n}", "a1")
    waiting = gate.start("run", "--poll-max", "0.1", "--", *SERVER, GATE_SCHEMAS="t*")
    waiting.await_event("gate.waiting")
    for n in range(10):
        restamp(tenants, f"t{n}", "a3")
    ended = waiting.wait()
    assert ended.code == 0
    assert ended.names().count("gate.waiting") < 5


@pytest.mark.parametrize(
    ("schemas", "line"),
    [
        ("t1,t2", "2 of 2 schemas"),
        ("t2,t1,t2", "2 of 2 schemas"),
        ("t?", "10 of 10 schemas"),
        ("t1,t*", "10 of 10 schemas"),
        ("SELECT nspname FROM pg_namespace WHERE nspname LIKE 't_'", "10 of 10 schemas"),
        ("SELECT nspname, 1 FROM pg_namespace WHERE nspname = 't1';", "1 of 1 schemas"),
        ("SELECT 't1' UNION ALL SELECT 't1' -- the same", "1 of 1 schemas"),
        ("WITH x AS (SELECT 't1' AS a) SELECT * FROM x", "1 of 1 schemas"),
        ("VALUES ('t1'), ('t2')", "2 of 2 schemas"),
        ("SELECT 't' || n FROM generate_series(0, 9) n WHERE 't%' <> ':a'", "10 of 10 schemas"),
    ],
)
def test_names_patterns_and_a_select_name_schemas(
    gate: GateRunner, tenants: TestDatabase, schemas: str, line: str
) -> None:
    ended = gate("check", GATE_SCHEMAS=schemas)
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"CURRENT drift: {line} expected=a3")


@pytest.mark.parametrize(
    ("schemas", "code", "reason"),
    [
        ("SELECT nam FROM tenants", 69, 'relation "tenants" does not exist'),
        ("SELECT nam FROM pg_namespace", 78, 'column "nam" does not exist'),
        ("SELECT nspname FROM pg_namespace WHERE", 78, "syntax error"),
        ("SELECT 1; DROP SCHEMA t1", 78, "syntax error"),
        ("WITH x AS (DROP SCHEMA t1) SELECT 1", 78, "syntax error"),
        ("WITH x AS (DELETE FROM t1.alembic_version RETURNING 'a') SELECT * FROM x", 78, "WITH clause"),
        ("SELECT NULL", 78, "returns NULL"),
        ("SELECT ''", 78, "returns ''"),
        ("SELECT nspname FROM pg_namespace", 78, "no schema of an application"),
        ("SELECT generate_series(1, 1000000)", 78, "more than 100,000 schemas"),
        ("SELECT 'x' WHERE false", 78, "names no schema"),
        ("none_*", 78, "names no schema"),
        ("SELECT pg_sleep(60)::text", 69, "statement timeout"),
        ("t1,gone", 1, "Schema gone does not exist."),
    ],
)
def test_a_wrong_list_is_refused_with_its_reason(
    gate: GateRunner, tenants: TestDatabase, schemas: str, code: int, reason: str
) -> None:
    ended = gate("check", GATE_SCHEMAS=schemas, GATE_QUERY_TIMEOUT="2")
    assert ended.code == code
    assert reason in ended.out + ended.err
    assert "Traceback" not in ended.err
    assert len(tenants.execute("SELECT 1 FROM pg_namespace WHERE nspname LIKE 't_'")) == 10


def test_no_schema_is_accepted_where_there_may_be_none(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("run", "--", *SERVER, GATE_SCHEMAS="t*", GATE_SCHEMAS_MAY_BE_EMPTY="1")
    assert (ended.code, ended.out) == (0, STARTED)


def test_hostile_names_are_read_as_they_are(gate: GateRunner, database: TestDatabase) -> None:
    names = [
        name.encode()[:60].decode(errors="ignore")
        for name in (*HOSTILE.values(), "a,b", '"', "-x", " ", "Ü", "%%", "*")
    ]
    create(database, *names)
    listed = ",".join(map(quoted, names))
    ended = gate("check", GATE_SCHEMAS=listed)
    assert ended.out.splitlines()[0] == f"CURRENT drift: {len(names)} of {len(names)} schemas expected=a3", ended
    for name in names:
        restamp(database, name, "a1")
    ended = gate("check", "--json", GATE_SCHEMAS=listed)
    assert [each["schema"] for each in json.loads(ended.out)["schemas"]["not_current"]] == names


def test_more_schemas_than_one_transaction_may_lock_are_read(gate: GateRunner, database: TestDatabase) -> None:
    number = 2 * BATCH_SIZE + 1
    create(database, *(f"t{n:04}" for n in range(number)))
    restamp(database, "t0700", "a2")
    ended = gate("check", GATE_SCHEMAS="t*")
    assert ended.out.splitlines()[0] == (
        f"BEHIND drift: {number - 1:,} of {number:,} schemas expected=a3; BEHIND t0700 (a2)"
    )


@pytest.fixture
def churn(database: TestDatabase) -> Iterator[Callable[[], int]]:
    """Create and drop schemas all the time; returns how often that was."""
    stop, rounds = threading.Event(), [0]

    def work() -> None:
        with psycopg.connect(database.url, autocommit=True) as connection:
            while not stop.is_set():
                for n in range(20):
                    connection.execute(
                        f"CREATE SCHEMA x{n}; CREATE TABLE x{n}.alembic_version (version_num varchar(32));"
                        f"INSERT INTO x{n}.alembic_version VALUES ('a3')"
                    )
                for n in range(20):
                    connection.execute(f"DROP SCHEMA x{n} CASCADE")
                rounds[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    yield lambda: rounds[0]
    stop.set()
    thread.join()


def test_schemas_that_are_dropped_meanwhile_disturb_no_check(
    tenants: TestDatabase, project: Project, churn: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("GATE_SCHEMAS", "SELECT nspname FROM pg_namespace WHERE nspname ~ '^(t|x)[0-9]'")
    deadline = time.monotonic() + 60
    while churn() < 10:
        assert time.monotonic() < deadline
        drift = api.drift_of(tenants.url)
        assert drift.schemas
        assert drift.schemas.by_verdict().keys() <= {"CURRENT", "EMPTY"}


def test_a_role_without_a_right_is_told_the_grant(gate: GateRunner, tenants: TestDatabase) -> None:
    grants = [f"GRANT USAGE ON SCHEMA t{n} TO {{role}}" for n in range(10)]
    grants += [f"GRANT SELECT ON t{n}.alembic_version TO {{role}}" for n in range(9)]
    url = tenants.create_role("secret", *grants)
    ended = gate("check", DATABASE_URL=url, GATE_SCHEMAS="t*")
    assert ended.code == 69
    assert "GRANT SELECT ON t9.alembic_version TO" in ended.err


def test_hidden_rows_are_not_taken_for_none(gate: GateRunner, tenants: TestDatabase) -> None:
    grants = [f"GRANT USAGE ON SCHEMA t{n} TO {{role}}" for n in range(10)]
    grants += [f"GRANT SELECT ON t{n}.alembic_version TO {{role}}" for n in range(10)]
    url = tenants.create_role("secret", *grants)
    tenants.execute("ALTER TABLE t4.alembic_version ENABLE ROW LEVEL SECURITY")
    ended = gate("check", DATABASE_URL=url, GATE_SCHEMAS="t*")
    assert ended.code == 69
    assert "Row-level security is enabled for the version table t4.alembic_version" in ended.err


def test_a_null_row_is_not_taken_for_a_revision(gate: GateRunner, tenants: TestDatabase) -> None:
    tenants.execute("ALTER TABLE t5.alembic_version DROP CONSTRAINT alembic_version_pkey")
    tenants.execute("ALTER TABLE t5.alembic_version ALTER version_num DROP NOT NULL")
    tenants.execute("INSERT INTO t5.alembic_version VALUES (NULL)")
    ended = gate("check", GATE_SCHEMAS="t*")
    assert ended.code == 69
    assert "t5.alembic_version of database" in ended.err


def test_a_locked_version_table_does_not_hang_the_check(gate: GateRunner, tenants: TestDatabase) -> None:
    with psycopg.connect(tenants.url) as connection:
        connection.execute("LOCK TABLE t2.alembic_version")
        ended = gate("check", GATE_SCHEMAS="t*", GATE_QUERY_TIMEOUT="1")
    assert ended.code == 69
    assert "statement timeout" in ended.err


def test_what_the_code_needs_is_checked_in_the_first_schema(
    gate: GateRunner, tenants: TestDatabase, project: Project
) -> None:
    record(project.folder, ExpectedTable(None, "items", ("id", "stock")), ExpectedTable(None, "countries", ("code",)))
    tenants.execute("CREATE TABLE t0.items (id int, stock int)")
    tenants.execute("CREATE TABLE public.countries (code text)")
    ended = gate("check", GATE_SCHEMAS="t*")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "CURRENT drift: 10 of 10 schemas expected=a3")
    tenants.execute("ALTER TABLE t0.items DROP stock")
    ended = gate("check", GATE_SCHEMAS="t*")
    assert ended.code == 1
    assert ended.out.startswith(
        "INCOMPLETE drift: 9 of 10 schemas expected=a3; INCOMPLETE t0 (a3) missing=t0.items.stock"
    )


def test_an_engine_and_a_connection_see_all_schemas_and_stay_usable(
    tenants: TestDatabase, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("GATE_SCHEMAS", "t*")
    engine = create_engine(tenants.url.replace("postgresql:", "postgresql+psycopg:"))
    assert str(api.drift_of(engine)) == "drift: 10 of 10 schemas expected=a3"
    with engine.connect() as connection, connection.begin():
        connection.execute(text("CREATE TABLE kept (id int)"))
        monkeypatch.setenv("GATE_SCHEMAS", "SELECT nope FROM nope")
        with pytest.raises(DatabaseUnavailable, match="The SELECT of GATE_SCHEMAS failed"):
            api.drift_of(connection)
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar() == 0
    engine.dispose()


async def _drift_of_async(url: str) -> str:
    engine = create_async_engine(url)
    try:
        return str(await api.async_drift_of(engine))
    finally:
        await engine.dispose()


def test_an_asynchronous_engine_sees_all_schemas(
    tenants: TestDatabase, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("GATE_SCHEMAS", "t*")
    url = tenants.url.replace("postgresql:", "postgresql+asyncpg:")
    assert asyncio.run(_drift_of_async(url)) == "drift: 10 of 10 schemas expected=a3"


def test_another_engine_is_refused_with_the_way_out(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("GATE_SCHEMAS", "t*")
    for source in ("sqlite://", create_engine("sqlite://")):
        with pytest.raises(BadSettings, match="GATE_SCHEMAS needs PostgreSQL"):
            api.drift_of(source)


def test_readiness_and_metrics_count_and_name_no_tenant(gate: GateRunner, tenants: TestDatabase) -> None:
    port = free_port()
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}", GATE_SCHEMAS="t*", GATE_TTL="0")
    serving.await_event("gate.serving")
    ready = f"http://127.0.0.1:{port}/health/ready"
    assert httpx.get(ready).json()["schemas"] == {"CURRENT": 10}
    restamp(tenants, "t7", "a2")
    await_true(lambda: httpx.get(ready).status_code == 503, lambda: httpx.get(ready).text)
    answer = httpx.get(ready)
    assert answer.json()["detail"] == "drift: 9 of 10 schemas expected=a3; BEHIND 1"
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'gate_schemas{verdict="BEHIND"} 1.0' in metrics
    assert 'gate_schemas{verdict="CURRENT"} 9.0' in metrics
    assert "t7" not in answer.text + metrics


def test_a_plan_is_shown_for_one_schema(gate: GateRunner, tenants: TestDatabase) -> None:
    restamp(tenants, "t3", "a2")
    assert gate("plan", "--schemas", "t3").out.splitlines()[0] == "BEHIND drift: db=a2 expected=a3"
    ended = gate("plan", "--schemas", "t*")
    assert ended.code == 78
    assert "gate plan --schemas NAME" in ended.err
