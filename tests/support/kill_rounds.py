"""The kill harness: two gates migrate at once, and one victim dies at a moment that the round aims at.

`network_rounds` and `failover_rounds` do the same with a network that fails and with a primary that is replaced.

A round waits for an event (a revision has started, an index is being built, the last revision is applied), then for a
random time, so that its aim is even however slow the machine is. What it has hit is observed, and not what it has aimed
at: `KillTable` counts the former.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psycopg

from gate.database.lock import LOCK_CLASS, LockKey
from tests.conftest import GateRunner, TestDatabase
from tests.support.docs import format_table
from tests.support.programs import (
    KILL_ROUNDS,
    ProgramResult,
    RunningProgram,
    await_true,
    children,
    descendants,
    kill_seed,
)
from tests.support.projects import Project, make_project

KEY = LockKey.of(None, "alembic_version")

AIMS = ("revision", "index build", "hand-over", "before")
"""What the rounds of a victim aim at in turn."""

MESSAGES = ("connecting", "inspecting", "locking", "commit")
"""Phases that last for one message: only a proxy can hit them on purpose."""

PHASES = (*MESSAGES[:3], "before", "revision", "index build", "commit", "between", "hand-over", "after", "no victim")
"""What a round can have hit. `before` the first revision, `between` two of them, from the last one to the `hand-over`,
`after` it; `no victim`: what it wanted to kill did not exist at that moment."""

MAX_DELAY = {"revision": 0.25, "index build": 0.4, "hand-over": 0.2, "before": 0.7}
"""Seconds: the longest random time between the awaited event and the kill."""

ALONE = """\
op.execute('''DO $$ BEGIN
  IF (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
      AND application_name LIKE 'gate/% works%' AND pid <> pg_backend_pid()) > 0
  THEN RAISE EXCEPTION 'two migrators at work'; END IF; END $$''')
"""
"""The first thing that every revision does: it fails if another migrator works beside it."""

IN_TRANSACTIONS = ("plain0", "plain1", "plain2", "plain3", "last")

SERVER = """
import os, psycopg
try:
    with psycopg.connect(os.environ["SERVER_URL"]) as connection:
        print("stamp:", *(row[0] for row in connection.execute("SELECT version_num FROM alembic_version")), flush=True)
except psycopg.OperationalError:
    print("the database went away after the start", flush=True)
"""
"""A server that prints what the database is stamped with when it starts."""

SURVIVED = {0, 65, 69}
"""How a gate may end that was not killed itself: its child, its lock or its database was."""


SQLALCHEMY_LOG = r"^Exception during reset or similar$.*?^(?=\{|\Z)"
"""What SQLAlchemy's pool logs, with a traceback, if the connection of a migration was lost."""


def make_harness_project(folder: Path) -> Project:
    """Revisions of every kind: in a transaction, an index that is made anew, and one that IF NOT EXISTS passes over."""
    project = make_project(folder, options=", transaction_per_migration=True")
    project.add("first", None, f'{ALONE}op.execute("CREATE TABLE done (revision text)")')
    project.add("plain0", "first", _transactional("plain0"))
    project.add("plain1", "plain0", _transactional("plain1"))
    project.add("renewed", "plain1", _index("DROP INDEX CONCURRENTLY IF EXISTS renewed_index", "renewed_index"))
    project.add("plain2", "renewed", _transactional("plain2"))
    project.add("kept", "plain2", _index("SELECT 1", "IF NOT EXISTS kept_index"))
    project.add("plain3", "kept", _transactional("plain3"))
    project.add("last", "plain3", _transactional("last", seconds=0))
    return project


def _transactional(revision: str, seconds: float = 0.25) -> str:
    return f"{ALONE}op.execute(\"INSERT INTO done VALUES ('{revision}')\")\nop.execute('SELECT pg_sleep({seconds})')"


def _index(before: str, index: str) -> str:
    build = f"CREATE INDEX CONCURRENTLY {index} ON done (revision)"
    return f'{ALONE}with op.get_context().autocommit_block():\n    op.execute("{before}")\n    op.execute("{build}")'


@dataclass
class KillRound:
    """One round. `victim`: a key of `VICTIMS`; `aim`: one of `AIMS`; `dice`: what is random in it."""

    victim: str
    aim: str
    dice: random.Random
    database: TestDatabase
    gate: GateRunner
    contenders: list[RunningProgram] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)
    """Time limits of the gates, as variables."""

    may_end_with: ClassVar[frozenset[int]] = frozenset({-signal.SIGKILL, *SURVIVED})

    def run(self) -> str:
        """Run the round, verify what must hold after any kill, and return the phase that was hit."""
        self._start()
        observer = psycopg.connect(self.database.server.url("postgres"), autocommit=True)
        with observer, self._old_snapshot():
            self._await_aim(observer)
            time.sleep(self.dice.uniform(0, self._max_delay()))
            phase = self._phase(observer)
            killed = self._strike()
        self._recover()
        finisher = self.gate("migrate", **{"GATE_POLL_MAX": "0.5", "GATE_TIMEOUT": "90", **self.limits})
        self._verify(finisher, [each.wait(120) for each in self.contenders])
        return phase if killed else "no victim"

    def _start(self) -> None:
        for _ in range(2):
            self._contend(self.gate.url)

    def _contend(self, url: str) -> RunningProgram:
        """Start a gate that migrates."""
        limits = {"GATE_POLL_MAX": "0.5", "GATE_TIMEOUT": "90", **self.limits}
        server = ("--", sys.executable, "-c", SERVER)
        urls = {"DATABASE_URL": url, "SERVER_URL": self._server_url()}
        self.contenders.append(self.gate.start("run", *server, RUN_MIGRATIONS="1", **urls, **limits))
        return self.contenders[-1]

    def _server_url(self) -> str:
        """The URL of the server that a gate starts."""
        return self.database.url

    def _max_delay(self) -> float:
        return 0.0 if self.victim == "backend of the work" and self.aim == "before" else MAX_DELAY[self.aim]

    def _strike(self) -> bool:
        """Kill the victim; return whether there was anything to kill."""
        return VICTIMS[self.victim](self)

    def _recover(self) -> None:
        """Repair what must work again before another gate can finish."""

    @property
    def migrating(self) -> RunningProgram:
        """The gate that holds the lock, or any one before that."""
        return next((each for each in self.contenders if logged(each, "gate.migrating")), self.contenders[0])

    @contextmanager
    def _old_snapshot(self) -> Iterator[None]:
        """Hold a snapshot until the kill, so that an index build waits for it when a round aims at that."""
        if self.aim != "index build":
            yield
            return
        connection = psycopg.connect(self.database.url)
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1")
        yield
        with suppress(psycopg.Error):
            connection.close()

    def _await_aim(self, observer: psycopg.Connection) -> None:
        conditions: dict[str, Callable[[], bool]] = {
            "revision": lambda: self._has_started(revision),
            "index build": lambda: self._builds_index(observer),
            "hand-over": lambda: self._has_applied("last"),
            "before": self._is_before,
        }
        revision = self.dice.choice(IN_TRANSACTIONS[:-1])
        await_true(conditions[self.aim], lambda: f"never reached: {self.aim}\n{self._logs()}")

    def _is_before(self) -> bool:
        """Whether the victim exists: a backend of the work does while env.py runs without steps."""
        if self.victim == "backend of the work":
            return bool(works(self.database))
        return self.victim in NEED_NO_LOCK or any(logged(each, "gate.migrating") for each in self.contenders)

    def _phase(self, observer: psycopg.Connection) -> str:
        if not any(logged(each, "gate.revision_started") for each in self.contenders):
            return "before"
        if any(logged(each, "gate.starting") for each in self.contenders):
            return "after"
        if self._has_applied("last"):
            return "hand-over"
        if self._builds_index(observer):
            return "index build"
        applied = sum(logged(each, "gate.revision_applied") for each in self.contenders)
        return "revision" if sum(logged(e, "gate.revision_started") for e in self.contenders) > applied else "between"

    def _has_started(self, revision: str) -> bool:
        return any(logged(each, "gate.revision_started", revision) for each in self.contenders)

    def _has_applied(self, revision: str) -> bool:
        return any(logged(each, "gate.revision_applied", revision) for each in self.contenders)

    def _builds_index(self, observer: psycopg.Connection) -> bool:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'active'"
            " AND query LIKE 'CREATE INDEX CONCURRENTLY%%'"
        )
        row = observer.execute(query, [self.database.name]).fetchone()
        return row is not None and row[0] > 0

    def _logs(self) -> str:
        return "\n".join("".join(each.out + each.err) for each in self.contenders)

    def _verify(self, finisher: ProgramResult, contenders: Sequence[ProgramResult]) -> None:
        everything = "\n".join(e.out + e.err for e in (*contenders, finisher))
        assert finisher.code == 0, everything
        own = re.sub(SQLALCHEMY_LOG, "", everything, flags=re.DOTALL | re.MULTILINE)
        for text in ("two migrators", "bug in gate", "Traceback"):
            assert text not in own, everything
        for ended in contenders:
            assert ended.code in self.may_end_with, everything
            self._verify_server(ended, everything)
        execute = self.database.execute
        assert sorted(str(row[0]) for row in execute("SELECT revision FROM done")) == sorted(IN_TRANSACTIONS), (
            everything
        )
        assert self.database.stamped() == {"last"}, everything
        await_true(lambda: not self._locks(), lambda: f"a lock is stranded: {self._locks()}\n{everything}")
        await_true(lambda: not works(self.database), lambda: f"still working: {works(self.database)}\n{everything}")
        invalid = {str(row[0]) for row in execute("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid")}
        reported = {
            name
            for ended in (*contenders, finisher)
            for event in ended.events
            if event["event"] == "gate.invalid_indexes"
            for name in event["indexes"]
        }
        assert invalid <= reported, f"not reported: {invalid - reported}\n{everything}"
        valid = {str(row[0]) for row in execute("SELECT indexrelid::regclass FROM pg_index WHERE indisvalid")}
        assert {"renewed_index", "kept_index"} <= valid | invalid, everything

    def _verify_server(self, ended: ProgramResult, everything: str) -> None:
        stamps = [line for line in ended.out.splitlines() if line.startswith("stamp:")]
        assert stamps in ([], ["stamp: last"]), everything

    def _locks(self) -> list[tuple[object, ...]]:
        return self.database.execute(
            f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


def works(database: TestDatabase) -> list[object]:
    """The backends in which a migration works."""
    rows = database.execute(f"SELECT pid FROM pg_stat_activity WHERE application_name LIKE '{KEY.working_name}%'")
    return [pid for (pid,) in rows]


def logged(program: RunningProgram, event: str, revision: str = "") -> int:
    """How often the program has logged an event, about one revision or any."""
    lines = [line for line in list(program.err) if f'"event": "{event}"' in line]
    return sum(not revision or f'"revision": "{revision}"' in line for line in lines)


def _kill(pids: Iterable[int]) -> bool:
    killed = False
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed = True
    return killed


def _kill_group(round_: KillRound) -> bool:
    pids = [round_.migrating.pid, *descendants(round_.migrating.pid)]
    round_.dice.shuffle(pids)
    return _kill(pids)


def _kill_two_gates(round_: KillRound) -> bool:
    """Kill both gates, each alone or with all of its processes."""
    pids = []
    for each in round_.contenders:
        pids += [each.pid, *(descendants(each.pid) if round_.dice.random() < 1 / 2 else [])]
    round_.dice.shuffle(pids)
    return _kill(pids)


def _terminate(round_: KillRound, backends: str) -> bool:
    """Terminate the backends that a condition on `pg_stat_activity` selects."""
    return bool(
        round_.database.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{round_.database.name}' AND backend_type = 'client backend' AND {backends}"
        )
    )


def _restart_server(round_: KillRound) -> bool:
    """Stop the server, by a fast shutdown or as a crash would, and start it again."""
    server = round_.database.server
    server.stop(round_.dice.choice([signal.SIGINT, signal.SIGQUIT]))
    server.start()
    return True


VICTIMS: dict[str, Callable[[KillRound], bool]] = {
    "gate": lambda round_: _kill([round_.migrating.pid]),
    "supervisor": lambda round_: _kill(children(round_.migrating.pid)[:1]),
    "child": lambda round_: _kill(descendants(round_.migrating.pid)[1:]),
    "process group": _kill_group,
    "two gates at once": _kill_two_gates,
    "backend of the lock": lambda round_: _terminate(
        round_, f"pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND granted)"
    ),
    "backend of the work": lambda round_: _terminate(round_, f"application_name LIKE '{KEY.working_name}%'"),
    "all backends": lambda round_: _terminate(round_, "true"),
    "server": _restart_server,
}
"""Name -> what kills it; returns whether there was anything to kill."""

NEED_NO_LOCK = {"gate", "process group", "two gates at once", "server"}
"""The victims that exist before a gate holds the lock."""


@dataclass
class KillTable:
    """Counts what the rounds have hit. `victims`: in the order of the rows."""

    victims: Sequence[str]
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, victim: str, phase: str) -> None:
        """Count one round."""
        self.hits[victim, phase] += 1

    def lines(self) -> list[str]:
        """The title, with the seed that repeats the rounds, and the table."""
        title = f"Kill rounds: {KILL_ROUNDS} for each victim, GATE_TEST_SEED={kill_seed()}"
        return [title, "", *self.table().splitlines()]

    def table(self) -> str:
        """The table in Markdown."""
        victims = [victim for victim in self.victims if self._total(victim)]
        rows = [[victim, *(str(self.hits[victim, p]) for p in PHASES), str(self._total(victim))] for victim in victims]
        sums = [sum(self.hits[victim, phase] for victim in victims) for phase in PHASES]
        rows.append(["all", *map(str, sums), str(sum(sums))])
        return format_table(["victim", *PHASES, "rounds"], rows, align_right=True)

    def _total(self, victim: str) -> int:
        return sum(self.hits[victim, phase] for phase in PHASES)
