"""What one gate knows of another migrator, also when it has not seen it for a while."""

from __future__ import annotations

import re
import time

import pytest

from gate.database.lock import Migrator
from gate.drift.comparison import Drift, Verdict
from gate.errors import LockTimeout
from gate.waiting.other_migrator import OtherMigrator

DRIFT = Drift(Verdict.BEHIND, ("a1",), ("a2",), ("a2",))


def migrator(age: float) -> Migrator:
    return Migrator("web-1", 1, 2, "a2", int(time.time() - age), 4711)


def other(lock_timeout: float = 0) -> OtherMigrator:
    return OtherMigrator(lambda pid: f"SELECT pg_terminate_backend({pid})", lock_timeout, poll_max=10)


def test_a_migrator_is_described_as_it_was_at_a_moment() -> None:
    begun = Migrator("web-1", 1, 2, "a2", 1000, 4711)
    assert begun.at(1014) == "web-1 at revision a2 (1/2) for 14 s, backend 4711"
    assert begun.at(900) == "web-1 at revision a2 (1/2) for 0 s, backend 4711"


def test_what_was_last_seen_does_not_grow_older() -> None:
    seen = other()
    assert seen.last_seen() == (None, None)
    seen.record(migrator(age=14))
    seen.record_unavailable()
    age, text = seen.last_seen()
    assert text is not None
    assert re.fullmatch(r"web-1 at revision a2 \(1/2\) for 1[45] s, backend 4711", text)
    assert age is not None
    assert 0 <= age < 10
    seen.record(None)
    assert seen.last_seen()[1] is None


def test_while_the_database_is_away_nobody_is_known_to_migrate_and_gate_polls_as_usual() -> None:
    seen = other()
    seen.record(migrator(age=1))
    assert seen.max_pause() < 10
    seen.record_unavailable()
    assert seen.max_pause() == 10


def test_the_time_for_which_the_database_was_away_is_no_time_for_which_the_lock_was_held() -> None:
    seen = other(lock_timeout=1e-9)
    seen.record(migrator(age=1))
    seen.record_lock_busy()
    seen.record_unavailable()
    seen.record_lock_busy()  # begins anew
    with pytest.raises(LockTimeout):
        seen.record_lock_busy()


def test_a_migrator_that_has_ended_is_named_with_the_age_at_which_it_was_seen(
    capfd: pytest.CaptureFixture[str],
) -> None:
    seen = other()
    seen.record(migrator(age=14))
    seen.record_unavailable()
    seen.record(None)
    seen.log_unfinished(DRIFT)
    assert re.search(r"for 1[45] s, backend 4711\) ended and left", "".join(capfd.readouterr()))
