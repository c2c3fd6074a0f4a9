"""Opens regular files only: a named pipe would block, a device may never end, and a link to nothing would be created.

The paths come from settings and mounts. POSIX: `open` of a pipe waits for the other end unless O_NONBLOCK is set, and
O_CREAT follows a dangling symbolic link unless O_EXCL is set.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

READ_SIZE = 1 << 16
"""Bytes of one further read of a file whose size is not the one that the system reports, as in procfs."""


class NotRegularFile(OSError):
    """A named pipe, a socket or a device."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file")


class FileTooLarge(OSError):
    """The file is larger than its reader accepts; `max_size`, in bytes, is the limit."""

    def __init__(self, max_size: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {max_size >> 10} KB")


class DanglingLink(OSError):
    """A symbolic link whose target does not exist."""

    def __init__(self) -> None:
        super().__init__(errno.ELOOP, "it is a symbolic link to a file that does not exist")


def open_regular_file(path: str, flags: int = os.O_RDONLY) -> int:
    """Open a regular file without blocking and return its descriptor.

    Raises `NotRegularFile`, `IsADirectoryError` and whatever else `open` raises.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENODEV}:  # a socket, a pipe without a reader, a missing device (open(2))
            raise NotRegularFile from None
        raise
    try:
        _require_regular(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_or_create_regular_file(path: str, flags: int) -> int:
    """Open a regular file, or create it; raises `DanglingLink` instead of creating the target of a link."""
    with suppress(FileNotFoundError):
        return open_regular_file(path, flags)
    with suppress(FileExistsError):
        return open_regular_file(path, flags | os.O_CREAT | os.O_EXCL)
    try:
        return open_regular_file(path, flags)  # another process has created it
    except FileNotFoundError:
        raise DanglingLink from None


def read_regular_file(path: str, max_size: int) -> bytes:
    """Return the content of a regular file of at most `max_size` bytes; also raises `FileTooLarge`."""
    descriptor = open_regular_file(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > max_size:
            raise FileTooLarge(max_size)
        content = os.read(descriptor, size + 1)
        while len(content) != size and (more := os.read(descriptor, READ_SIZE)):
            content += more
            if len(content) > max_size:
                raise FileTooLarge(max_size)
        return content
    finally:
        os.close(descriptor)


def why_unreadable(error: OSError) -> str:
    """Return why a file could not be read, as a clause."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder (a container runtime creates one for a mount whose source is missing)"
    if isinstance(error, NotRegularFile | FileTooLarge):
        return str(error.strerror)
    return f"{error.strerror}; make it readable for this user"


def why_refused(path: str, max_size: int) -> str:
    """Return why a library must not read what this path leads to, as a clause; "" if it may, or if nothing is there.

    A pipe would block it, and a device or a huge file keep it busy. `/dev/null` is an empty file.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    if stat.S_ISFIFO(status.st_mode):
        return "is a named pipe"
    if (stat.S_ISCHR(status.st_mode) and status.st_rdev != os.stat(os.devnull).st_rdev) or stat.S_ISBLK(status.st_mode):
        return "is a device"
    return f"is larger than {max_size >> 20} MB" if stat.S_ISREG(status.st_mode) and status.st_size > max_size else ""


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFile


def replace_file(path: str, content: bytes) -> None:
    """Write a regular file as a whole or not at all, readable for every user as far as the umask permits.

    A symbolic link stays, and its target is replaced. Raises `NotRegularFile`, `IsADirectoryError`, `DanglingLink` and
    whatever else `open` raises.
    """
    import tempfile  # noqa: PLC0415 - only gate expect writes so

    target = os.path.realpath(path)
    try:
        _require_regular(os.stat(target))
    except FileNotFoundError:
        if os.path.islink(path):
            raise DanglingLink from None
    umask = os.umask(0)
    os.umask(umask)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(target)}.", dir=os.path.dirname(target))
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o666 & ~umask)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
