"""docs/zero-downtime.md line by line: a column is renamed while old and new servers answer every request with 200."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from demo.embedded_postgres import free_port
from tests.conftest import TestDatabase
from tests.support.docs import PAGES, blocks, sections
from tests.support.programs import GATE_COMMAND, TIMEOUT, RunningProgram, await_true, start
from tests.support.projects import make_project

EXAMPLE = sections(PAGES["zero-downtime"])["Example: rename a column"]
MIGRATIONS_OF_RELEASE_1 = {"migrations/versions/0001_create_items.py", "shop.py"}
REQUESTS = 10
"""Requests to each server after each command."""

PAUSE = 0.02
"""Seconds between two requests of a client, so that the servers and gate have a share of a small machine."""


@dataclass
class Clients:
    """Two clients that read and write all the time; each request goes to the next server of `ports`."""

    ports: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    written: list[str] = field(default_factory=list)
    _open: Counter[int] = field(default_factory=Counter)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        self._threads += [threading.Thread(target=self._run, args=(name,), daemon=True) for name in "ab"]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str) -> None:
        number = 0
        with httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            while not self._stopped.wait(PAUSE):
                for port in [*self.ports]:
                    number += 1
                    self._use(client, port, f"{name}{number}")

    def _use(self, client: httpx.Client, port: int, text: str) -> None:
        with self._changed:
            if port not in self.ports:
                return
            self._open[port] += 1
        problem = write_and_read(client, port, text)
        with self._changed:
            self._open[port] -= 1
            self.answered[port] += 1
            (self.failures if problem else self.written).append(problem or text)
            self._changed.notify_all()

    def add(self, port: int) -> None:
        self.ports.append(port)

    def remove(self, port: int) -> None:
        """Send no more requests there; none is open when this returns."""
        with self._changed:
            self.ports.remove(port)
            assert self._changed.wait_for(lambda: not self._open[port], TIMEOUT)

    def await_more(self) -> None:
        """Wait until each server has answered further requests."""
        wanted = {port: self.answered[port] + REQUESTS for port in self.ports}
        await_true(
            lambda: bool(self.failures) or all(self.answered[port] >= number for port, number in wanted.items()),
            lambda: f"{self.answered}, {wanted}",
        )
        assert not self.failures, self.failures


@dataclass
class Reader:
    """Types what the page says into the shells of both releases."""

    folder: Path
    database: TestDatabase
    clients: Clients
    running: ExitStack
    servers: dict[str, tuple[RunningProgram, int]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def type(self, release: str, command: str, expected: list[str]) -> None:
        self.commands.append(f"{release}$ {command}")
        words = shlex.split(command)
        if words == ["kill", "%1"]:
            server, port = self.servers[release]
            self.clients.remove(port)
            server.signal(signal.SIGTERM)
            server.wait()
        elif words[0].startswith("UVICORN_PORT="):
            self._serve(release, words[1:])
        else:
            ended = self._start(release, words).wait()
            assert ended.code == 0, ended.err
            unread = ended.out + ended.err
            for line in expected:
                pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
                found = re.search(pattern, unread)
                assert found, f"{command}: no {line!r} in {unread}"
        if self.servers:
            self.clients.await_more()

    def _serve(self, release: str, words: list[str]) -> None:
        port = free_port()
        server = self._start(release, words, UVICORN_PORT=str(port))
        self.running.callback(server.end)
        ready = f"http://127.0.0.1:{port}/health/ready"
        await_true(lambda: answers(ready), lambda: "".join(server.err), server.process)
        self.servers[release] = (server, port)
        self.clients.add(port)

    def _start(self, release: str, words: list[str], **variables: str) -> RunningProgram:
        assert words[0] == "gate"
        environment = {
            **variables,
            "DATABASE_URL": self.database.url,
            "GATE_LOG_FORMAT": "console",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return start([*GATE_COMMAND, *words[1:]], environment, self.folder / release)


def write_and_read(client: httpx.Client, port: int, text: str) -> str:
    """Store an item and find it again; return what went wrong, "" if both were answered with 200."""
    for method, path in (("POST", f"/items/{text}"), ("GET", "/items")):
        try:
            answer = client.request(method, f"http://127.0.0.1:{port}{path}")
        except httpx.HTTPError as error:
            return f"{method} {path} on port {port}: {error!r}"
        if answer.status_code != httpx.codes.OK or text not in answer.text:
            return f"{method} {path} on port {port}: {answer.status_code} {answer.text}"
    return ""


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def files() -> dict[str, str]:
    """The Python files of the page, by the path in their first line."""
    return {code.splitlines()[0].removeprefix("# "): code for code in blocks(EXAMPLE, "python")}


def changed(code: str) -> str:
    """Apply the page's diff: each line with `-` is replaced by the line with `+` after it."""
    (diff,) = blocks(EXAMPLE, "diff")
    lines = diff.splitlines()
    for old, new in zip(lines[::2], lines[1::2], strict=True):
        assert (old[0], new[0], code.count(old[1:])) == ("-", "+", 1)
        code = code.replace(old[1:], new[1:])
    return code


def release(folder: Path, contents: dict[str, str]) -> None:
    project = make_project(folder, options=", transaction_per_migration=True")
    for path, code in contents.items():
        (project.folder / path).write_text(code)


def typed() -> Iterator[tuple[str, str, list[str]]]:
    """What the page types: the release, the command and the lines that it prints."""
    for block in blocks(EXAMPLE, "console"):
        for part in re.split(r"^(?=release-\d\$ )", block, flags=re.MULTILINE)[1:]:
            prompt, *printed = part.splitlines()
            shell, command = prompt.split("$ ", 1)
            yield shell, command, printed


@pytest.fixture
def clients() -> Iterator[Clients]:
    started = Clients()
    yield started
    started.end()


def test_a_column_is_renamed_without_a_failing_request(
    tmp_path: Path, database: TestDatabase, clients: Clients
) -> None:
    contents = files()
    assert "title" not in contents["shop.py"]
    release(tmp_path / "release-1", {path: contents[path] for path in MIGRATIONS_OF_RELEASE_1})
    release(tmp_path / "release-2", contents | {"shop.py": changed(contents["shop.py"])})
    with ExitStack() as running:
        reader = Reader(tmp_path, database, clients, running)
        clients.begin()
        for shell, command, printed in typed():
            reader.type(shell, command, printed)
        clients.end()
        _, port = reader.servers["release-2"]
        assert sorted(httpx.get(f"http://127.0.0.1:{port}/items").json()) == sorted(clients.written)
    assert not clients.failures
    assert len(clients.answered) == 2
    assert len(reader.commands) == 9
    assert database.stamped() == {"0004"}
    columns = database.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'items'")
    assert {name for (name,) in columns} == {"id", "title"}
