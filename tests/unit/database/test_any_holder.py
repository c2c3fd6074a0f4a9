"""Any application_name of a lock holder is parsed, and gate's own always fits into PostgreSQL's limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gate.database.lock import LockKey, Migrator
from tests.support.strategies import TEXT


@given(
    st.lists(
        st.sampled_from(["gate/", "00000000", " ", "/", "1", "-", "@", "9" * 400, "1e9", "²", "\n"]), max_size=9
    ).map("".join)
    | TEXT
)
def test_any_holder_of_the_lock_can_be_told(line: str) -> None:
    key = LockKey(0)
    for text in (line, f"{key.tag} {line}", f"{key.tag} 1/2 r @{line} h"):
        assert str(Migrator.parse(text, key, 4711))


@given(TEXT, st.integers(), st.integers(), TEXT)
def test_what_a_holder_shows_of_itself_always_fits(host: str, step: int, total: int, revision: str) -> None:
    line = Migrator(host, step, total, revision, 1).application_name(LockKey(1))
    assert line.isascii()
    assert len(line) <= 63
