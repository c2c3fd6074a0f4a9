"""A database whose content is hostile forges no line, breaks no JSON, and takes neither memory nor time.

Who may write into the database may claim any revision; that is all that he may do to gate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from sqlalchemy import NullPool, create_engine

from demo.embedded_postgres import EmbeddedPostgres, free_port
from gate import drift_of
from gate.database.lock import LOCK_CLASS, LockKey
from gate.errors import DatabaseUnavailable
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.hostile_text import FORGED, HOSTILE, unexpected_lines
from tests.support.programs import ProgramResult, await_true
from tests.support.projects import Project

LITTLE_MEMORY = ("sh", "-c", 'ulimit -v 600000 && exec "$@"', "sh")
"""600 MB of addresses (RLIMIT_AS), of which the interpreter and libpq take half; ten rows of 10 MB do not fit twice."""

WAITING = {"GATE_ON_UNKNOWN": "wait", "GATE_ON_UNSTAMPED": "wait", "GATE_TIMEOUT": "1"}
BAIT = {
    "the beginnings of a thousand URLs": "://:" * 60,
    "the beginnings of a thousand passwords": "password='" * 25,
    "a password's place, quoted": "password=\"'" * 20,
}
"""Texts on which a careless pattern would search for hours."""


def everything(gate: GateRunner, message: Path | None = None, **environment: str) -> dict[str, ProgramResult]:
    """What each command says, under a limit for its memory, in each format."""
    told = {"GATE_TERMINATION_LOG": str(message) if message else "", **WAITING, **environment}
    commands = {
        "check": gate.start("check", prefix=LITTLE_MEMORY, **told),
        "json": gate.start("check", "--json", prefix=LITTLE_MEMORY, **told),
        "log": gate.start("wait", prefix=LITTLE_MEMORY, **told),
        "console": gate.start("run", "--log-format", "console", "--", *SERVER, prefix=LITTLE_MEMORY, **told),
    }
    return {name: command.wait() for name, command in commands.items()}


def assert_nothing_forged(said: Mapping[str, ProgramResult], message: Path | None = None) -> dict[str, object]:
    """Give what `check --json` says."""
    assert {name: [*unexpected_lines(ended)] for name, ended in said.items()} == {name: [] for name in said}
    assert all(line.isprintable() for line in said["check"].out.split("\n"))
    assert all(ended.code in {0, 1, 69, 124} for ended in said.values()), said
    assert len("".join(ended.out + ended.err for ended in said.values())) < 1 << 24
    if message:
        assert message.read_text().isprintable()
    found = json.loads(said["json"].out)
    assert isinstance(found, dict)
    return found


def fill(database: TestDatabase, *rows: str, table: str = "alembic_version") -> None:
    """A version table that was made without Alembic's bounds."""
    database.execute(f"CREATE TABLE {table} (version_num text)")
    with psycopg.connect(database.url, autocommit=True) as connection:
        for row in rows:
            connection.execute(f"INSERT INTO {table} VALUES (%s)", [row])


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_row_forges_nothing(gate: GateRunner, database: TestDatabase, tmp_path: Path, kind: str) -> None:
    fill(database, HOSTILE[kind])
    found = assert_nothing_forged(everything(gate, tmp_path / "message"), tmp_path / "message")
    assert (found["verdict"], found["stamped"]) == ("UNKNOWN", [HOSTILE[kind]])


@pytest.mark.parametrize("bait", [*BAIT.values(), "x" * 255, "\x1b" * 255, "\U000e0001" * 255, FORGED])
def test_a_thousand_long_rows_take_neither_memory_nor_time_nor_a_screen(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, bait: str
) -> None:
    fill(database, *(f"{bait[:250]}{n}" for n in range(1000)))
    said = everything(gate, tmp_path / "message")
    assert assert_nothing_forged(said, tmp_path / "message")["verdict"] == "UNKNOWN"
    assert max(map(len, said["log"].err.split("\n"))) < 1 << 16, "a line stays a line"


def test_rows_of_10_mb_are_not_read_whole(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE TABLE alembic_version AS SELECT repeat('x', 10485760) AS version_num")
    for _ in range(4):
        database.execute("INSERT INTO alembic_version SELECT * FROM alembic_version")
    found = assert_nothing_forged(everything(gate, GATE_QUERY_TIMEOUT="30"))
    assert found["verdict"] == "UNKNOWN"


def test_a_million_rows_are_not_read_whole(gate: GateRunner, database: TestDatabase) -> None:
    database.execute("CREATE VIEW alembic_version AS SELECT n::text AS version_num FROM generate_series(1, 1000000) n")
    found = assert_nothing_forged(everything(gate, GATE_QUERY_TIMEOUT="30"))
    assert found["verdict"] == "UNKNOWN"


def test_a_view_that_never_ends_is_given_up(gate: GateRunner, database: TestDatabase) -> None:
    database.execute(
        "CREATE VIEW alembic_version AS SELECT pg_sleep(n)::text AS version_num FROM generate_series(1,99) n"
    )
    found = assert_nothing_forged(everything(gate, GATE_QUERY_TIMEOUT="1"))
    assert "did not answer in time" in str(found["error"])


def test_an_error_with_hostile_words_forges_nothing(gate: GateRunner, database: TestDatabase, tmp_path: Path) -> None:
    words = "".join(HOSTILE.values()).replace("'", "''")
    database.execute(
        "CREATE FUNCTION complain() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN"
        f" RAISE EXCEPTION USING MESSAGE = '{words}' || repeat('x', 10485760); END $f$"
    )
    database.execute("CREATE VIEW alembic_version AS SELECT complain() AS version_num")
    found = assert_nothing_forged(everything(gate, tmp_path / "message"), tmp_path / "message")
    assert found["verdict"] is None


@contextmanager
def hostile_names(server: EmbeddedPostgres, name: str) -> Iterator[tuple[TestDatabase, str]]:
    """A database, a role that may connect to it, and a schema, all of that name."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        named = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(named))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(named))
        database = TestDatabase(server, quote(name, safe=""))
        try:
            database.execute(sql.SQL("CREATE SCHEMA {}").format(named).as_string(connection))
            yield database, server.url(database.name, user=quote(name, safe=""), password="pw")
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(named))
            connection.execute(sql.SQL("DROP ROLE {}").format(named))


def identifier(kind: str) -> str:
    return HOSTILE[kind].encode()[:63].decode(errors="ignore").strip()


@pytest.mark.parametrize("kind", [*HOSTILE][:4])
def test_hostile_names_of_database_role_and_schema_forge_nothing(
    gate: GateRunner, postgres: EmbeddedPostgres, tmp_path: Path, kind: str
) -> None:
    name = identifier(kind)
    message = tmp_path / "message"
    with hostile_names(postgres, name) as (database, url):
        table = sql.Identifier(name, "alembic_version").as_string(None)
        database.execute(f"CREATE TABLE {table} (version_num text)")
        for found in (
            assert_nothing_forged(everything(gate, message, DATABASE_URL=url), message),
            assert_nothing_forged(everything(gate, message, DATABASE_URL=url, GATE_VERSION_TABLE_SCHEMA=name), message),
        ):
            assert found["verdict"] is None, "another schema has a table of that name, or this role may not see it"
        database.execute(f"DROP TABLE {table}")
        found = assert_nothing_forged(everything(gate, message, DATABASE_URL=url), message)
        assert (found["verdict"], found["database"]) == ("EMPTY", name)


def test_ten_thousand_schemas_with_such_a_table_make_one_short_line(gate: GateRunner, database: TestDatabase) -> None:
    for hundred in range(10):
        database.execute(
            f"DO $$ BEGIN FOR n IN 1..50 LOOP EXECUTE format('CREATE SCHEMA tenant_{hundred}_%s"
            f" CREATE TABLE alembic_version (version_num text)', n); END LOOP; END $$"
        )
    said = everything(gate)
    assert "finds no table alembic_version on its search_path" in str(assert_nothing_forged(said)["error"])
    assert len(said["check"].err) < 1000


@pytest.mark.parametrize(
    "text", [*[*HOSTILE.values()][:3], "3/12 a2 @99999999999999999999999 web", "-9/0 a2 @-1 h", "x" * 63]
)
def test_a_false_holder_of_the_lock_forges_nothing(
    gate: GateRunner, database: TestDatabase, tmp_path: Path, text: str
) -> None:
    database.stamp("a1")
    key = LockKey.of(None, "alembic_version")
    with psycopg.connect(database.url, autocommit=True) as holder:
        holder.execute(f"SELECT pg_advisory_lock({LOCK_CLASS}, {key.signed})")
        holder.execute("SELECT set_config('application_name', %s, false)", [f"{key.tag} {text}"])
        message = tmp_path / "message"
        found = assert_nothing_forged(everything(gate, message), message)
        assert found["migrating"]
        migrating = gate("migrate", GATE_MIGRATION_LOCK_TIMEOUT="1")
    assert (migrating.code, [*unexpected_lines(migrating)]) == (75, [])


def test_sessions_of_others_outlive_a_migration(gate: GateRunner, database: TestDatabase) -> None:
    another = LockKey.of("another", "table")
    names = ["gate", "an application", another.tag, another.working_name, "% works", "gate/________ works"]
    with ExitStack() as opened:
        sessions = [opened.enter_context(psycopg.connect(database.url, application_name=name)) for name in names]
        assert gate("migrate").code == 0
        assert [session.execute("SELECT 1").fetchone() for session in sessions] == [(1,)] * len(names)


NO_TEXT = b"caf\xe9\xff\xc0\xed\xa0\x80"
"""Bytes that are no UTF-8: a character of Latin-1, a byte of nothing, half a surrogate."""


@pytest.fixture
def without_encoding(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database that keeps whatever bytes it is given; its version table holds no text."""
    name = "without_encoding"
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with psycopg.connect(postgres.url(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        connection.execute(b"INSERT INTO alembic_version VALUES ('" + NO_TEXT + b"')")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_row_that_is_no_text_is_told_as_such(gate: GateRunner, without_encoding: str) -> None:
    said = everything(gate, DATABASE_URL=without_encoding)
    assert "invalid byte sequence" in str(assert_nothing_forged(said)["error"])


def test_an_applications_own_driver_that_cannot_decode_a_row_is_told(without_encoding: str, project: Project) -> None:
    engine = create_engine(without_encoding.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool)
    with pytest.raises(DatabaseUnavailable, match="UnicodeDecodeError"):
        drift_of(engine, config=str(project.folder / "alembic.ini"))


@pytest.fixture
def overfull(database: TestDatabase) -> TestDatabase:
    """Every hostile row at once, and as many of the longest as gate reads; stamped behind, so that gate waits."""
    fill(database, "a1", *HOSTILE.values(), *(chr(0x1F600) * 250 + str(n) for n in range(500)))
    return database


def test_over_http_hostile_rows_break_neither_json_nor_html_nor_lines(
    gate: GateRunner, overfull: TestDatabase, project: Project
) -> None:
    port = free_port()
    told = {"GATE_PLACEHOLDER": f"127.0.0.1:{port}", "GATE_POLL_MAX": "0.2"}
    waiting = gate.start("run", "--", *SERVER, **told)
    address = f"http://127.0.0.1:{port}/health/ready"

    def detail() -> str:
        try:
            return str(httpx.get(address, timeout=10).json()["detail"])
        except httpx.TransportError:
            return ""

    await_true(lambda: "drift:" in detail(), lambda: "".join(waiting.err), waiting.process)
    assert detail().isprintable()
    page = httpx.get(address, headers={"accept": "text/html"}, timeout=10).text
    assert "<script>alert" not in page
    assert "drift:" in page
    text = httpx.get(address, headers={"accept": "text/plain"}, timeout=10).text
    assert text.rstrip("\n").isprintable()
    overfull.execute("DELETE FROM alembic_version WHERE version_num <> 'a1'")
    await_true(lambda: detail() == "drift: db=a1 expected=a3", detail, waiting.process)


def test_the_sidecar_answers_in_json_text_and_metrics_whatever_the_rows_say(
    gate: GateRunner, overfull: TestDatabase
) -> None:
    port = free_port()
    serving = gate.start("serve", "--listen", f"127.0.0.1:{port}")

    def get(path: str, accept: str = "*/*") -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"accept": accept}, timeout=10)
        except httpx.TransportError:
            return None

    await_true(lambda: get("/health") is not None, lambda: "".join(serving.err), serving.process)
    ready, text, metrics = get("/health/ready"), get("/health/ready", "text/plain"), get("/metrics")
    assert ready
    assert text
    assert metrics
    assert (ready.status_code, ready.json()["verdict"]) == (503, "DIVERGED")
    assert text.text.rstrip("\n").isprintable()
    assert len(ready.content) < 1 << 16
    assert len([*text_string_to_metric_families(metrics.text)]) == 8
