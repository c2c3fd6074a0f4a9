"""A database that cannot be inspected: each reason has its own plain sentence, and waiting outlasts all of them."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres, free_port
from tests.conftest import SERVER, GateRunner, TestDatabase
from tests.support.namespaces import require_namespaces, silent_host, silent_name_server
from tests.support.programs import ProgramResult

STARTED = "server started\n"


@pytest.fixture(scope="module")
def mortal() -> Iterator[EmbeddedPostgres]:
    """A server that a test may stop and start."""
    server = EmbeddedPostgres().start()
    yield server
    server.remove()


def is_unavailable(ended: ProgramResult, *words: str) -> None:
    """One sentence with these words, exit code 69, no traceback."""
    assert ended.code == 69, ended.err
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("gate: ")
    for word in words:
        assert word in ended.err


def test_a_refused_connection_says_that_nothing_listens(gate: GateRunner) -> None:
    port = free_port()
    ended = gate("check", DATABASE_URL=f"postgresql://postgres@127.0.0.1:{port}/shop")
    is_unavailable(ended, "Nothing listens", f"127.0.0.1:{port}/shop")


def test_a_missing_database_says_so(gate: GateRunner, database: TestDatabase) -> None:
    ended = gate("check", DATABASE_URL=database.server.url("nowhere"))
    is_unavailable(ended, "The database does not exist", "/nowhere")


def test_a_wrong_password_says_so(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("right").replace(":right@", ":wrong@")
    is_unavailable(gate("check", DATABASE_URL=url), "refuses the password")


def test_a_missing_password_says_so(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("right").replace(":right@", "@")
    is_unavailable(gate("check", DATABASE_URL=url), "refuses the password")


def test_a_role_that_does_not_exist_is_refused_like_a_wrong_password(gate: GateRunner, database: TestDatabase) -> None:
    # PostgreSQL does not say which of the two it is, so that nobody can try out names.
    url = database.server.url(database.name, user="nobody", password="x")
    is_unavailable(gate("check", DATABASE_URL=url), "refuses the password")


def test_a_role_that_may_not_log_in_says_so(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("x", "ALTER ROLE {role} NOLOGIN")
    is_unavailable(gate("check", DATABASE_URL=url), "does not allow this role to log in")


def test_a_role_that_may_not_connect_names_the_grant(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("x", f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC")
    is_unavailable(gate("check", DATABASE_URL=url), "GRANT CONNECT")


def test_a_role_with_too_many_connections_says_so(gate: GateRunner, database: TestDatabase) -> None:
    url = database.create_role("x", "ALTER ROLE {role} CONNECTION LIMIT 1")
    with psycopg.connect(url):
        is_unavailable(gate("check", DATABASE_URL=url), "no connection left")


def test_a_server_with_too_many_connections_says_so(gate: GateRunner) -> None:
    server = EmbeddedPostgres(options=("max_connections=4", "superuser_reserved_connections=0"))
    try:
        server.start()
        held = [psycopg.connect(server.url("postgres")) for _ in range(4)]
        is_unavailable(gate("check", DATABASE_URL=server.url("postgres")), "no connection left")
        for connection in held:
            connection.close()
    finally:
        server.remove()


def test_a_socket_that_is_not_there_says_so(gate: GateRunner, tmp_path: Path) -> None:
    ended = gate("check", DATABASE_URL=f"postgresql://postgres@/shop?host={tmp_path}")
    is_unavailable(ended, "no database server at this socket")


def test_a_name_that_cannot_be_resolved_says_so(gate: GateRunner) -> None:
    # `.invalid` never resolves (RFC 6761); without a network the resolver says so, too.
    ended = gate("check", DATABASE_URL="postgresql://postgres@db.invalid/shop", GATE_CONNECT_TIMEOUT="20")
    is_unavailable(ended, "host name of the database cannot be resolved", "db.invalid/shop")


def test_a_host_that_swallows_packets_does_not_hang_the_look(gate: GateRunner) -> None:
    with silent_host() as host:
        url = f"postgresql://postgres@127.0.0.1:{host.getsockname()[1]}/shop"
        ended = gate("check", "--connect-timeout", "1", "--query-timeout", "1", DATABASE_URL=url)
    is_unavailable(ended, "did not answer")


def test_the_last_of_several_hosts_is_reached_though_all_others_are_silent(
    gate: GateRunner, database: TestDatabase
) -> None:
    database.stamp("a3")
    with silent_host() as host:
        silent = f"127.0.0.1:{host.getsockname()[1]}"
        url = database.url.replace("@", f"@{silent},{silent},")
        assert gate("check", "--connect-timeout", "2", "--query-timeout", "0.5", DATABASE_URL=url).code == 0


def test_name_resolution_that_hangs_does_not_hang_the_look(gate: GateRunner, tmp_path: Path) -> None:
    require_namespaces()
    with silent_name_server(tmp_path) as (_, prefix):
        url = "postgresql://postgres@db.nowhere.test/shop"
        limits = ("--connect-timeout", "0.5", "--query-timeout", "0.5")
        ended = gate("check", *limits, prefix=prefix, DATABASE_URL=url)
    is_unavailable(ended, "did not answer", "name resolution")


def test_a_locked_version_table_does_not_hang_the_look(gate: GateRunner, database: TestDatabase) -> None:
    database.stamp("a3")
    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE alembic_version")
        is_unavailable(gate("check", "--query-timeout", "0.5"), "did not answer in time")


def test_a_driver_that_cannot_be_loaded_says_so(gate: GateRunner) -> None:
    for command in (("check",), ("run", "--", "true")):
        ended = gate(*command, PSYCOPG_IMPL="nothing")  # as psycopg complains without a libpq
        assert ended.code == 78
        assert f"psycopg cannot be loaded by {sys.executable}" in (ended.failure if command[0] == "run" else ended.err)
        assert "install psycopg[binary]" in ended.err
        assert "Traceback" not in ended.err


def test_something_that_is_no_postgresql_says_so(gate: GateRunner) -> None:
    with silent_host() as host:
        answering = threading.Thread(target=_answer_nonsense, args=(host,))
        answering.start()
        url = f"postgresql://postgres@127.0.0.1:{host.getsockname()[1]}/shop?sslmode=disable"
        ended = gate("check", DATABASE_URL=url)
        answering.join()
    is_unavailable(ended, "cannot be inspected", "authentication request")


def _answer_nonsense(host: socket.socket) -> None:
    connection, _ = host.accept()
    with connection:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_waiting_survives_the_database_going_away_and_coming_back(
    gate: GateRunner, mortal: EmbeddedPostgres, how: signal.Signals
) -> None:
    name = f"shop_{how}"
    mortal.execute(f"CREATE DATABASE {name}")
    url = mortal.url(name)
    waiting = gate.start("run", "--", *SERVER, DATABASE_URL=url, GATE_POLL_MAX="0.2")
    waiting.await_event("gate.waiting", lambda e: e.get("verdict") == "EMPTY")
    mortal.stop(how)
    line = waiting.await_event("gate.waiting", lambda e: e.get("kind") == "DatabaseUnavailable")
    assert line["level"] == "critical"
    mortal.start()
    assert gate("migrate", DATABASE_URL=url).code == 0
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, STARTED)


def test_gate_started_before_its_database_migrates_once_it_is_there(gate: GateRunner, mortal: EmbeddedPostgres) -> None:
    mortal.execute("CREATE DATABASE late")
    mortal.stop()
    waiting = gate.start("run", "--", *SERVER, DATABASE_URL=mortal.url("late"), RUN_MIGRATIONS="1", GATE_POLL_MAX="0.2")
    assert "Nothing listens" in waiting.await_event("gate.waiting")["message"]
    mortal.start()
    ended = waiting.wait()
    assert (ended.code, ended.out) == (0, STARTED)
    assert ended.names().count("gate.migrating") == 1


def test_gate_waits_for_a_database_that_does_not_exist_yet(gate: GateRunner, mortal: EmbeddedPostgres) -> None:
    waiting = gate.start("wait", DATABASE_URL=mortal.url("unborn"), GATE_POLL_MAX="0.2")
    assert "does not exist" in waiting.await_event("gate.waiting")["message"]
    mortal.execute("CREATE DATABASE unborn")
    assert gate("migrate", DATABASE_URL=mortal.url("unborn")).code == 0
    assert waiting.wait().code == 0


def test_a_server_that_starts_up_says_so_and_is_waited_for(gate: GateRunner) -> None:
    # Recovery runs restore_command, which lasts until the test removes a file: until then the server "starts up".
    server = EmbeddedPostgres()
    held = server.folder / "held"  # where the server's own user may look
    server.options = (f"restore_command=while test -e {held}; do sleep 0.05; done; false",)
    try:
        server.start().stop()
        held.touch()
        (server.folder / "data" / "recovery.signal").touch()
        starting = threading.Thread(target=server.start)
        starting.start()
        waiting = gate.start("wait", DATABASE_URL=server.url("postgres"), GATE_POLL_MAX="0.2")
        waiting.await_event("gate.waiting", lambda e: "is starting up" in e["message"])
        is_unavailable(gate("check", DATABASE_URL=server.url("postgres")), "is starting up")
        held.unlink()
        starting.join()
        waiting.await_event("gate.waiting", lambda e: e.get("verdict") == "EMPTY")
    finally:
        held.unlink(missing_ok=True)
        server.remove()
