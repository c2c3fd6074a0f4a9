"""The termination message: the last verdict where Kubernetes reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.waiting.termination_log import DEFAULT_PATH, MAX_BYTES, TerminationLog


def test_the_file_holds_the_last_text_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = TerminationLog(str(path))
    log.write("a long first verdict")
    log.write("BEHIND")
    assert path.read_text() == "BEHIND"


def test_an_unchanged_text_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = TerminationLog(str(path))
    log.write("BEHIND")
    path.write_text("untouched")
    log.write("BEHIND")
    assert path.read_text() == "untouched"


def test_clearing_leaves_nothing_that_could_mask_the_servers_own_message(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = TerminationLog(str(path))
    log.write("BEHIND")
    log.clear()
    assert path.read_bytes() == b""
    log.write("BEHIND")
    assert path.read_text() == "BEHIND"


def test_clearing_empties_what_an_earlier_container_left(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("from before the restart")
    TerminationLog(str(path)).clear()
    assert path.read_bytes() == b""


def test_clearing_makes_no_file_where_none_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    TerminationLog(str(path)).clear()
    assert not path.exists()


def test_kubernetes_limit_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    TerminationLog(str(path)).write("x" * 3 * MAX_BYTES)
    assert path.read_bytes() == b"x" * MAX_BYTES


@pytest.mark.parametrize("lead", range(4))
def test_a_truncated_text_ends_with_a_whole_character(tmp_path: Path, lead: int) -> None:
    path = tmp_path / "log"
    TerminationLog(str(path)).write("x" * lead + "…" * MAX_BYTES)
    content = path.read_bytes()
    assert MAX_BYTES - 4 < len(content) <= MAX_BYTES
    assert content.decode()


def test_it_holds_no_password(tmp_path: Path) -> None:
    path = tmp_path / "log"
    TerminationLog(str(path)).write("no postgresql://app:S3cr3t@db/shop and password=S3cr3t")
    assert path.read_text() == "no postgresql://app:***@db/shop and password=***"


def test_a_text_that_is_not_unicode_is_written_escaped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    TerminationLog(str(path)).write("stamped \udcff")
    assert path.read_text() == "stamped \\udcff"


def test_a_file_that_cannot_be_written_never_stops_the_gate(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "log"):
        log = TerminationLog(str(path))
        log.write("BEHIND")
        log.clear()
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_kubernetes_is_the_default() -> None:
    assert DEFAULT_PATH == "/dev/termination-log"
