"""Rounds of the kill harness in which the network between gate and the server fails, at each stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import psycopg

from tests.support.faulty_proxy import FaultyProxy
from tests.support.kill_rounds import MESSAGES, KillRound, logged
from tests.support.programs import ProgramResult, RunningProgram, await_true

AIMS = ("connecting", "inspecting", "locking", "before", "revision", "index build", "commit", "hand-over")
"""What the rounds of a victim aim at in turn."""

MARKS = {
    "inspecting": b"SET LOCAL search_path TO DEFAULT",
    "locking": b"pg_try_advisory_xact_lock",
    "commit": b"COMMIT",
}
"""A text that a client sends in this phase only."""

MAX_SKIPPED = {"inspecting": 0, "locking": 1, "commit": 4}
"""How many messages with the text may pass before: the lock is requested on two connections."""

SHORT_LIMITS = {"GATE_CONNECT_TIMEOUT": "2", "GATE_QUERY_TIMEOUT": "2"}
"""What bounds a frozen connection, shorter than by default."""

MAX_NOTICE = 20.0
"""Seconds in which a gate with these limits must have ended or must wait: the holder of a lock notices after
2 + 2 + 2 s, cancels within two and asks for five what is left; a lock is awaited for 3 * (2 + 2) s."""

MAX_PAUSE = 3.0
"""Seconds: the longest freeze that ends before a gate must have noticed it."""

MAX_MESSAGE_DELAY = 0.1
"""Seconds that each message is late. A migration sends a few hundred."""

FAULTS: dict[str, Callable[[FaultyProxy], None]] = {
    "network frozen": FaultyProxy.freeze,
    "network reset": FaultyProxy.reset,
    "network truncated": FaultyProxy.truncate,
    "network delayed": lambda _: None,
}
"""Name -> what happens to the open connections."""


@dataclass
class NetworkRound(KillRound):
    """One round. `proxy`: before the server; both gates or one of them are behind it."""

    proxy: FaultyProxy = field(kw_only=True)
    behind: list[RunningProgram] = field(default_factory=list)
    _waited: int = 0
    _struck: threading.Event = field(default_factory=threading.Event)

    may_end_with: ClassVar[frozenset[int]] = frozenset({0, 69})

    def _start(self) -> None:
        self.limits = SHORT_LIMITS if self.victim == "network frozen" else {}
        if self.aim == "connecting":
            self._fail_to_connect()
        elif self.aim in MARKS:
            skipped = self.dice.randint(0, MAX_SKIPPED[self.aim])
            is_forwarded = self.dice.random() < 1 / 2
            self.proxy.on_message(MARKS[self.aim], self._fail, skipped=skipped, is_forwarded=is_forwarded)
        url = self.database.url.replace(f":{self.database.server.port}/", f":{self.proxy.port}/")
        self.behind = [self._contend(url) for _ in range(self.dice.choice([1, 2]))]

    def _fail_to_connect(self) -> None:
        if self.victim == "network frozen":
            self.proxy.is_open = False
        elif self.victim == "network delayed":
            self._fail()
        else:
            self.proxy.new_connections = lambda: FAULTS[self.victim](self.proxy)

    def _fail(self) -> None:
        self._waited = self._count_waiting()
        FAULTS[self.victim](self.proxy)
        if self.victim == "network frozen":
            self.proxy.is_open = self.dice.random() < 1 / 2
        if self.victim == "network delayed":
            self.proxy.delay = self.dice.uniform(0.01, MAX_MESSAGE_DELAY)
        self._struck.set()

    def _await_aim(self, observer: psycopg.Connection) -> None:
        if self.aim in MARKS:
            await_true(self._struck.is_set, lambda: f"never reached: {self.aim}\n{self._logs()}")
        elif self.aim != "connecting":
            super()._await_aim(observer)

    def _max_delay(self) -> float:
        return 0.0 if self.aim in MESSAGES else super()._max_delay()

    def _phase(self, observer: psycopg.Connection) -> str:
        return self.aim if self.aim in MESSAGES else super()._phase(observer)

    def _strike(self) -> bool:
        if self.aim not in MESSAGES:
            self._fail()
        if len(self.behind) == 1:
            self._contend(self.database.url)
        return True

    def _recover(self) -> None:
        if self.victim == "network frozen" and self.dice.random() < 1 / 3:
            time.sleep(self.dice.uniform(0, MAX_PAUSE))
        elif self.victim == "network frozen" or (self.aim == "connecting" and self.victim != "network delayed"):
            await_true(self._is_noticed, lambda: f"the fault was not noticed:\n{self._logs()}", timeout=MAX_NOTICE)
        self.proxy.is_open, self.proxy.new_connections = True, None
        self.proxy.thaw()

    def _is_noticed(self) -> bool:
        """Whether a gate behind the proxy has ended, or has begun to wait."""
        return self._count_waiting() > self._waited or any(each.process.poll() is not None for each in self.behind)

    def _count_waiting(self) -> int:
        """Count the waits for the database.

        A gate that lost the answer to its request for the lock may find the lock held by that lost connection.
        """
        events = ("gate.waiting", "gate.waiting_for_lock") if self.aim == "locking" else ("gate.waiting",)
        return sum(logged(each, name) for each in self.behind for name in events)

    def _verify(self, finisher: ProgramResult, contenders: Sequence[ProgramResult]) -> None:
        super()._verify(finisher, contenders)
        if self.victim == "network delayed":
            assert [each.code for each in contenders] == [0, 0], self._logs()
