"""A named pipe, a device or a link to nothing in the place of a file blocks nothing and creates nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gate import files
from gate.database.location import MAX_URL_FILE_SIZE, Database, read_url
from gate.database.postgresql.connection import (
    LIBPQ_DEFAULT_FILES,
    LIBPQ_FILES,
    MAX_LIBPQ_FILE_SIZE,
    connect,
)
from gate.errors import BadSettings, DatabaseUnavailable
from gate.image import alembic_config
from gate.settings import database_url
from gate.settings.database_url import UrlSource
from gate.waiting.termination_log import TerminationLog

LIMIT = 100


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))


IRREGULAR = pytest.mark.parametrize("create", [pipe, device, unix_socket])
Create = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def pipe_with_both_ends(path: Path) -> Iterator[int]:
    """A pipe with a reader and a writer, so that opening it never fails."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


@IRREGULAR
def test_what_is_no_regular_file_is_never_opened(path: Path, create: Create) -> None:
    create(path)
    with pytest.raises(files.NotRegularFile):
        files.read_regular_file(str(path), LIMIT)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        with pytest.raises(files.NotRegularFile):
            files.open_or_create_regular_file(str(path), flags)


def test_a_folder_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.read_regular_file(str(tmp_path), LIMIT)


@pytest.mark.usefixtures("pipe_with_both_ends")
def test_a_pipe_that_could_be_opened_is_refused_and_its_descriptor_closed(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for flags in (os.O_RDONLY, os.O_WRONLY):
        with pytest.raises(files.NotRegularFile):
            files.open_regular_file(str(path), flags)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_target_of_a_dangling_link_is_never_created(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "target")
    with pytest.raises(files.DanglingLink):
        files.open_or_create_regular_file(str(path), os.O_WRONLY)
    assert not (tmp_path / "target").exists()


def test_a_link_to_a_file_is_followed_as_mounted_secrets_need_it(path: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("content")
    path.symlink_to(tmp_path / "target")
    assert files.read_regular_file(str(path), LIMIT) == b"content"


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_file_up_to_the_limit_is_read_whole(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)
    assert files.read_regular_file(str(path), LIMIT) == b"x" * size


def test_a_larger_file_is_refused_whatever_size_the_system_reports(path: Path) -> None:
    path.write_bytes(b"x" * (LIMIT + 1))
    for each in (str(path), "/proc/self/smaps"):  # procfs reports a size of 0
        with pytest.raises(files.FileTooLarge, match="larger than"):
            files.read_regular_file(each, LIMIT)
    assert files.read_regular_file("/proc/self/maps", 1 << 24).count(b"\n") > 1


@IRREGULAR
def test_a_url_file_that_is_no_regular_file_is_named(path: Path, create: Create) -> None:
    create(path)
    with pytest.raises(BadSettings, match=f"DATABASE_URL_FILE names {path}, .* not a regular file"):
        read_url(UrlSource("DATABASE_URL_FILE", path=str(path)))


def test_a_url_file_that_is_too_large_is_named(path: Path) -> None:
    path.write_text(" " * MAX_URL_FILE_SIZE + "postgresql://h/d")
    with pytest.raises(BadSettings, match=f"DATABASE_URL_FILE names {path}, .* larger than 16 KB"):
        read_url(UrlSource("DATABASE_URL_FILE", path=str(path)))


LIBPQ_PARAMETERS = pytest.mark.parametrize("name", sorted(LIBPQ_FILES.values()))


@LIBPQ_PARAMETERS
@pytest.mark.parametrize("given_by", ["parameter", "variable"])
def test_a_pipe_that_libpq_would_wait_for_is_named(
    path: Path, name: str, given_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(path)
    variable = next(variable for variable, parameter in LIBPQ_FILES.items() if parameter == name)
    if given_by == "variable":
        monkeypatch.setenv(variable, str(path))
    parameters = f"?{name}={path}" if given_by == "parameter" else ""
    url = database_url.parse(f"postgresql://127.0.0.1:1/d{parameters}", "DATABASE_URL")
    named = name if given_by == "parameter" else variable
    with pytest.raises(BadSettings, match=f"{named} names {path}, which is a named pipe"):
        connect(Database(None, url, 1, 1))


@pytest.mark.parametrize("name", LIBPQ_DEFAULT_FILES)
def test_a_pipe_that_libpq_would_find_by_itself_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pipe = Path(name).expanduser()
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    url = database_url.parse("postgresql://127.0.0.1:1/d", "DATABASE_URL")
    with pytest.raises(BadSettings, match=f"{pipe}, which libpq reads, is a named pipe"):
        connect(Database(None, url, 1, 1))


@LIBPQ_PARAMETERS
def test_a_device_or_a_huge_file_that_libpq_would_read_without_end_is_named(path: Path, name: str) -> None:
    path.touch()
    os.truncate(path, MAX_LIBPQ_FILE_SIZE + 1)
    for each, reason in (("/dev/zero", "is a device"), (path, "is larger than 64 MB")):
        url = database_url.parse(f"postgresql://127.0.0.1:1/d?{name}={each}", "DATABASE_URL")
        with pytest.raises(BadSettings, match=f"{name} names {each}, which {reason}"):
            connect(Database(None, url, 1, 1))


def test_dev_null_is_an_empty_passfile_as_it_is_for_libpq() -> None:
    url = database_url.parse("postgresql://127.0.0.1:1/d?passfile=/dev/null", "DATABASE_URL")
    with pytest.raises(DatabaseUnavailable):
        connect(Database(None, url, 1, 1))


@IRREGULAR
@pytest.mark.parametrize("name", ["shop.ini", "pyproject.toml"])
def test_a_configuration_that_is_no_regular_file_is_named(tmp_path: Path, name: str, create: Create) -> None:
    create(tmp_path / name)
    with pytest.raises(BadSettings, match=f"{name} is not a regular file"):
        alembic_config.read([], str(tmp_path / name), None)


def test_dev_null_is_an_empty_configuration_as_it_is_for_alembic(tmp_path: Path) -> None:
    (tmp_path / "shop.ini").symlink_to("/dev/null")
    with pytest.raises(BadSettings, match=r"shop\.ini has no script_location"):
        alembic_config.read([], str(tmp_path / "shop.ini"), None)


@IRREGULAR
def test_a_termination_log_that_is_no_regular_file_is_left_alone(path: Path, create: Create) -> None:
    create(path)
    log = TerminationLog(str(path))
    log.write("BEHIND")
    log.clear()
    assert not path.is_file()


def test_a_pipe_as_termination_log_receives_nothing(path: Path, pipe_with_both_ends: int) -> None:
    TerminationLog(str(path)).write("BEHIND")
    with pytest.raises(BlockingIOError):
        os.read(pipe_with_both_ends, 1)


def test_a_dangling_termination_log_is_left_alone(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "target")
    log = TerminationLog(str(path))
    log.write("BEHIND")
    log.clear()
    assert not (tmp_path / "target").exists()
