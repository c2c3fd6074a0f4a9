"""The migration lock's key, and the line in which its holder publishes its progress (hazards.md 3 and 5)."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.database.lock import LOCK_CLASS, LockKey, Migrator

KEY = LockKey.of(None, "alembic_version")


def test_the_key_is_pinned_so_that_gates_of_all_versions_exclude_each_other() -> None:
    assert LOCK_CLASS == 1734440037
    assert LockKey.of(None, "alembic_version") == LockKey(0xCD1812D2)
    assert LockKey.of("shop", "alembic_version") == LockKey(0x5930F10A)


@given(st.none() | st.text(), st.text())
def test_every_key_fits_the_servers_signed_four_bytes_and_its_tag_names_it(schema: str | None, table: str) -> None:
    key = LockKey.of(schema, table)
    assert -(1 << 31) <= key.signed < 1 << 31
    assert key.signed % (1 << 32) == key.number
    assert key.tag == f"gate/{key.number:08x}"
    assert len(key.tag) == 13


def test_another_table_and_another_schema_have_other_keys() -> None:
    names = [(None, "alembic_version"), ("shop", "alembic_version"), (None, "versions"), ("Shop", "alembic_version")]
    assert len({LockKey.of(*name) for name in names}) == len(names)


def test_a_migrations_own_connection_is_never_taken_for_the_lock_holder() -> None:
    assert KEY.working_name.startswith(KEY.tag)
    assert Migrator.parse(KEY.working_name, KEY, 7) == Migrator("", 0, 0, "", 0, 7)


def test_the_holder_is_read_as_it_was_written() -> None:
    migrator = Migrator("web-1", 3, 12, "ae10", 1700000000)
    line = migrator.application_name(KEY)
    assert line == f"{KEY.tag} 3/12 ae10 @1700000000 web-1"
    assert Migrator.parse(line, KEY, 4711) == Migrator("web-1", 3, 12, "ae10", 1700000000, 4711)


def test_a_holder_that_has_begun_no_step_names_no_revision() -> None:
    line = Migrator("web-1", 0, 0, "", 1700000000).application_name(KEY)
    assert Migrator.parse(line, KEY, 7) == Migrator("web-1", 0, 0, "", 1700000000, 7)


@given(
    host=st.text(),
    revision=st.text(),
    step=st.integers(0, 99_999),
    total=st.integers(0, 99_999),
    since=st.integers(0, 9_999_999_999),
)
def test_progress_survives_the_63_bytes_that_the_server_keeps(
    host: str, revision: str, step: int, total: int, since: int
) -> None:
    line = Migrator(host, step, total, revision, since).application_name(KEY)
    assert line.isascii()
    assert len(line) <= 63
    read = Migrator.parse(line, KEY, 7)
    assert (read.step, read.total, read.since, read.pid) == (step, total, since, 7)
    assert host.encode("ascii", "replace").decode().startswith(read.host)


def test_a_long_revision_is_shortened_before_the_host_is_lost() -> None:
    line = Migrator("web-1", 1, 2, "r" * 64, 1700000000).application_name(KEY)
    read = Migrator.parse(line, KEY, 7)
    assert (read.revision, read.host) == ("r" * 20, "web-1")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "psql",
        "a b c d e",
        f"{KEY.tag}",
        f"{KEY.tag} 1/2 ae10 @then web-1",
        f"{KEY.tag} one/2 ae10 @1 web-1",
        f"{KEY.tag} 1 ae10 @1 web-1",
        "gate/00000000 1/2 ae10 @1 web-1",
    ],
)
def test_a_holder_that_says_nothing_readable_is_still_a_holder(line: str) -> None:
    assert Migrator.parse(line, KEY, 4711) == Migrator("", 0, 0, "", 0, 4711)
    assert str(Migrator.parse(line, KEY, 4711)) == "an unnamed holder of the lock, backend 4711"


@given(st.text(max_size=80))
def test_no_application_name_of_others_breaks_the_reader(line: str) -> None:
    assert Migrator.parse(line, KEY, 1).pid == 1


@pytest.mark.parametrize(
    ("migrator", "pattern"),
    [
        (("web-1", 3, 12, "ae10"), r"web-1 at revision ae10 \(3/12\) for 1[45] s, backend 4711"),
        (("web-1", 0, 0, ""), r"web-1 for 1[45] s, backend 4711"),
        (("", 3, 12, "ae10"), r"an unnamed host at revision ae10 \(3/12\) for 1[45] s, backend 4711"),
    ],
)
def test_a_person_reads_who_migrates_what_and_since_when(migrator: tuple[str, int, int, str], pattern: str) -> None:
    told = Migrator(*migrator, since=int(time.time()) - 14, pid=4711)
    assert re.fullmatch(pattern, str(told))


def test_a_holder_whose_clock_is_ahead_has_no_negative_age() -> None:
    assert "for 0 s" in str(Migrator("web-1", 1, 1, "ae10", int(time.time()) + 60, 1))
