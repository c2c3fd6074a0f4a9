"""Rounds of the kill harness in which the primary is replaced by its streaming standby."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from demo.embedded_postgres import EmbeddedPostgres
from tests.conftest import TestDatabase
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.kill_rounds import IN_TRANSACTIONS, VICTIMS, KillRound, logged, works
from tests.support.network_rounds import FAULTS, MAX_NOTICE, SHORT_LIMITS
from tests.support.programs import ProgramResult, RunningProgram, await_true, descendants

FAILOVERS = {"primary, synchronous": True, "primary, asynchronous": False}
"""Name of the victim -> whether each commit waits until the standby has written it."""

ALL_VICTIMS = (*VICTIMS, *FAULTS, *FAILOVERS)
"""The victims of all kinds of rounds, in the order of the table."""

ATTRIBUTES = ("read-write", "primary")
"""Forms of `target_session_attrs` that accept no standby."""

MAX_OUTAGE = 2.0
"""Seconds: the longest time between the loss of the primary and the promotion."""


def url_of_both(ports: Sequence[int], name: str, attribute: str, *, repeated: bool = False) -> str:
    """Return a URL of several servers, in one of the two forms that SQLAlchemy reads. libpq reads the first of them."""
    hosts = ",".join("127.0.0.1" for _ in ports) + "&port=" + ",".join(map(str, ports))
    if repeated:
        hosts = "&host=".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres@/{name}?host={hosts}&target_session_attrs={attribute}"


@dataclass
class Replication:
    """A primary, to which standbys are added; one of them replaces it, again and again."""

    primary: EmbeddedPostgres
    _servers: list[EmbeddedPostgres] = field(default_factory=list)
    _databases: int = 0

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[Replication]:
        """Start a primary; all servers are removed in the end."""
        replication = cls(EmbeddedPostgres().start())
        try:
            yield replication
        finally:
            for server in (replication.primary, *replication._servers):
                server.remove()

    def new_database(self) -> TestDatabase:
        """Create a database on the primary, which is a new one if a test has failed before it replaced it."""
        if self._servers:
            for server in (self.primary, *self._servers):
                server.remove()
            self.primary, self._servers = EmbeddedPostgres().start(), []
        self._databases += 1
        name = f"shop_{self._databases}"
        self.primary.execute(f"CREATE DATABASE {name}")
        return TestDatabase(self.primary, name)

    def add_standby(self, *, synchronous: bool) -> EmbeddedPostgres:
        """Start a streaming standby. `synchronous`: each commit waits until the standby has written it."""
        standby = EmbeddedPostgres()
        self._servers.append(standby)
        standby.follow(self.primary)
        if synchronous:  # after the copy, so that the standby does not wait for one of its own when it is promoted
            self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.primary.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
        expected = [("sync" if synchronous else "async",)]
        await_true(lambda: self.primary.execute(state) == expected, lambda: str(self.primary.execute(state)))
        return standby

    def replace(self, standby: EmbeddedPostgres) -> None:
        """Go on with the promoted standby as the primary, and remove the old one."""
        self._servers.remove(standby)
        self.primary.remove()
        self.primary = standby


def return_as_standby(server: EmbeddedPostgres) -> None:
    """Start a primary that was stopped as a standby, as a cluster manager does with one that was replaced."""
    data = server.folder / "data"
    (data / "standby.signal").touch()
    shutil.chown(data / "standby.signal", (data / "PG_VERSION").stat().st_uid)
    server.start()


def crash(server: EmbeddedPostgres) -> None:
    """Kill all processes of a server at once, as the crash of its machine does."""
    assert server._process
    for pid in (server._process.pid, *descendants(server._process.pid)):
        os.kill(pid, signal.SIGKILL)
    server.stop()


@dataclass
class FailoverRound(KillRound):
    """One round. `standby`: of the server of `database`, which is the promoted one from the failover on."""

    standby: EmbeddedPostgres = field(kw_only=True)
    is_partition: bool = False
    _replaced: TestDatabase | None = None
    _rows: set[object] = field(default_factory=set)
    _migrating: list[tuple[RunningProgram, int]] = field(default_factory=list)
    _url: str = ""

    may_end_with: ClassVar[frozenset[int]] = frozenset({0, 69})

    def run(self) -> str:
        """Run the round behind a proxy that can cut the primary off."""
        with faulty_proxy(self.database.server.port) as proxy:
            self._proxy = proxy
            return super().run()

    _proxy: FaultyProxy = field(init=False)

    def _start(self) -> None:
        self.is_partition = self.dice.random() < 1 / 3
        self.limits = SHORT_LIMITS
        ports = [self._proxy.port if self.is_partition else self.database.server.port, self.standby.port]
        self.dice.shuffle(ports)
        attribute = self.dice.choice(ATTRIBUTES)
        self._url = url_of_both(ports, self.database.name, attribute)
        self.gate.url = self.dice.choice([self._url, url_of_both(ports, self.database.name, attribute, repeated=True)])
        super()._start()

    def _server_url(self) -> str:
        return f"{self._url}&connect_timeout=2"

    def _strike(self) -> bool:
        migrating = [each for each in self.contenders if logged(each, "gate.migrating")]
        self._migrating = [(each, logged(each, "gate.waiting")) for each in migrating]
        if self.is_partition:
            self._proxy.is_open = False
            self._proxy.freeze()
        else:
            crash(self.database.server)
        return True

    def _recover(self) -> None:
        self._replaced = self.database
        if self.is_partition:
            self._await_idle()
            self._rows = self._committed(self._replaced)
        time.sleep(self.dice.uniform(0, MAX_OUTAGE))
        self.standby.promote()
        if self.is_partition:
            await_true(self._is_noticed, lambda: f"the fault was not noticed:\n{self._logs()}", timeout=MAX_NOTICE)
            self._proxy.reset()  # or a server that was started before would hang on its frozen connection
        self.database = TestDatabase(self.standby, self.database.name)
        if not self.is_partition and self.dice.random() < 1 / 2:
            return_as_standby(self._replaced.server)

    def _is_noticed(self) -> bool:
        """Whether no gate that was migrating believes in its frozen connections any more."""
        return all(
            each.process.poll() is not None or logged(each, "gate.starting") or logged(each, "gate.waiting") > waited
            for each, waited in self._migrating
        )

    def _await_idle(self) -> None:
        """Wait until the old primary has run what it had received."""
        assert self._replaced
        active = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gate/%' AND state = 'active'"
        replaced = self._replaced
        await_true(lambda: replaced.execute(active) == [(0,)], lambda: str(works(replaced)))

    @staticmethod
    def _committed(database: TestDatabase) -> set[object]:
        """The tables of a database and the rows of each."""
        return {(table, *row) for table in database.tables() for row in database.execute(f"SELECT * FROM {table}")}

    def _verify(self, finisher: ProgramResult, contenders: Sequence[ProgramResult]) -> None:
        super()._verify(finisher, contenders)
        assert self._replaced
        if self.is_partition:
            assert self._committed(self._replaced) == self._rows, "the old primary was written to"
        applied = Counter(
            event["revision"]
            for ended in (*contenders, finisher)
            for event in ended.events
            if event["event"] == "gate.revision_applied" and event["revision"] in IN_TRANSACTIONS
        )
        if FAILOVERS[self.victim]:
            assert max(applied.values()) == 1, f"what had committed was lost: {applied}\n{self._logs()}"

    def _verify_server(self, ended: ProgramResult, everything: str) -> None:
        if FAILOVERS[self.victim]:  # else it may have started on what is lost
            super()._verify_server(ended, everything)
