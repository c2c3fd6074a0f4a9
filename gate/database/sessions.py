"""The server's sessions that belong to a migration: what they run, how to cancel and to terminate them.

A killed migrator can leave an orphaned session: the lock died with its connection, while its statement still runs.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from gate.errors import DatabaseUnavailable
from gate.redaction import hide, shorten
from gate.text import truncate

MAX_STATEMENT_LENGTH = 120
"""Characters of a statement that a log line shows."""

MAX_ERROR_LENGTH = 500
"""Characters of a migration's error that a message shows."""

FAILED_STATEMENT = " (in: "
"""What separates an error from the statement that failed with it."""

MAX_BLOCKERS = 5
"""The sessions that a message names."""

TERMINATION_TIMEOUT = 10.0
"""Seconds in which a terminated session must have ended; it took 2 to 20 ms (hazards.md 6)."""

POLL_INTERVAL = 0.05
"""Seconds between two checks of whether it has ended."""


class Blocker(NamedTuple):
    """A session that blocks a migration, as far as this role may see it.

    `pid`: its id in the server, 0 for a prepared transaction; `application_name`, `state`: "" if they are not visible;
    `age`: seconds since its transaction began, None if that is not visible.
    """

    pid: int
    application_name: str = ""
    state: str = ""
    age: float | None = None

    def __str__(self) -> str:
        """Render for a log line: `backend 4711 (psql; idle in transaction; its transaction began 35 s ago)`."""
        if not self.pid:
            return "a prepared transaction (pg_prepared_xacts; end it with ROLLBACK PREPARED)"
        began = "" if self.age is None else f"its transaction began {self.age:.0f} s ago"
        details = "; ".join(filter(None, (self.application_name, self.state, began)))
        return f"backend {self.pid}" + (f" ({details})" if details else "")


@dataclass(frozen=True, slots=True)
class Activity:
    """What the busiest session of a migration does.

    `age`: seconds since its statement began or, if it runs none (`text` is ""), since the last one ended; `blockers`:
    the sessions that block it; `relation`: the table whose lock it waits for, "" if it is no table's; `wait_state`: the
    server's own words.
    """

    age: float
    text: str = ""
    blockers: tuple[Blocker, ...] = ()
    relation: str = ""
    wait_state: str = ""

    @property
    def waits_for(self) -> tuple[int, ...]:
        """The ids of the sessions that block it."""
        return tuple(blocker.pid for blocker in self.blockers)


class Sessions:
    """An engine in whose server gate sees no sessions. What asks a server raises `DatabaseUnavailable`."""

    visible = False
    """Whether the statements of a migration are visible."""

    distinguishes_orphans = False
    """Whether an orphaned session can be recognised while this migration opens connections of its own."""

    def termination_statement(self, pid: int) -> str:
        """The statement by which a person ends this session."""
        return f"end connection {pid} in the server"

    def own(self, opened: Collection[int]) -> list[int]:
        """The sessions of this migration; `opened`: the connections that it has reported."""
        del opened
        return []

    def orphaned(self) -> list[int]:
        """Sessions of another migration under the same lock, which a killed migrator has left."""
        return []

    def on_server_of_lock(self) -> bool:
        """Whether they are looked for on the server where this migration's lock is held."""
        return True

    def existing(self, pids: Collection[int]) -> list[int]:
        """Those of these sessions that still exist."""
        return list(pids)

    def activity(self, _: Collection[int]) -> Activity | None:
        """What the busiest of these sessions does, None if none of them exists or this role may not see it."""
        return None

    def cancel(self, _: Collection[int]) -> None:
        """Cancel the statements of these sessions, if they still belong to a migration."""

    def terminate(self, _: Collection[int]) -> None:
        """Terminate these sessions, if they still belong to a migration."""

    def invalid_indexes(self, schema: str = "") -> list[str]:
        """Indexes that a killed `CREATE INDEX CONCURRENTLY` left: they cost writes and serve no query.

        `schema`: search there only, "" = everywhere.
        """
        del schema
        return []

    def invalid_indexes_not_being_built(self) -> list[str]:
        """The same everywhere, without those that other migrations build at the moment."""
        return []


def join_blockers(activity: Activity, sessions: Sessions) -> str:
    """Name the sessions that block a migration, and how a person ends the first of them."""
    names = ", ".join(map(str, activity.blockers[:MAX_BLOCKERS]))
    more = len(activity.blockers) - MAX_BLOCKERS
    names += f" and {more} more" if more > 0 else ""
    pid = next(filter(None, activity.waits_for), 0)
    return names + (f"; to end that session: {sessions.termination_statement(pid)}" if pid else "")


def busiest(activities: list[Activity]) -> Activity | None:
    """Return the statement that has run longest or, if none runs, the session that was busy last."""
    running = [each for each in activities if each.text]
    if running:
        return max(running, key=lambda each: each.age)
    return min(activities, key=lambda each: each.age, default=None)


def shorten_statement(text: object) -> str:
    """Return the beginning of a statement on one line, redacted, "" for None."""
    return shorten(str(text or ""), MAX_STATEMENT_LENGTH)


def shorten_error(text: str) -> str:
    """Return the beginning of a migration's error, and of the failed statement that it names at the end, redacted."""
    error, mark, statement = hide(text).partition(FAILED_STATEMENT)
    shown = truncate(" ".join(error.split()), MAX_ERROR_LENGTH)
    closing = ")" if statement.endswith(")") else ""
    return f"{shown}{mark}{statement.removesuffix(closing)[:MAX_STATEMENT_LENGTH]}{closing}"


def terminate_orphans(sessions: Sessions) -> list[int]:
    """Terminate the sessions that a killed migrator left, wait until they have ended, and return their process ids.

    Call it with the lock held: then no living migrator has such a session. Raises `DatabaseUnavailable` if a session
    cannot be terminated or does not end: gate never migrates beside it.
    """
    orphans = sessions.orphaned()
    sessions.terminate(orphans)
    deadline = time.monotonic() + TERMINATION_TIMEOUT
    while left := sessions.orphaned() if orphans else []:
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"A killed migrator's statement still runs in backend {left[0]}, and this role may not end it. "
                f"gate does not migrate beside it: {sessions.termination_statement(left[0])} as its owner or a "
                "superuser."
            )
        time.sleep(POLL_INTERVAL)
    return orphans


def terminate_late_orphans(sessions: Sessions) -> list[int]:
    """Terminate sessions that a killed migrator opened after `terminate_orphans`: its env.py may load slowly.

    Returns their process ids, without waiting until they have ended.
    """
    orphans = sessions.orphaned()
    sessions.terminate(orphans)
    return orphans
