"""The errors of gate, each with its exit code (sysexits.h and, for commands, POSIX's shell)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from gate.text import printable


class GateError(Exception):
    """gate cannot go on.

    - `message`: whole sentences that say what is wrong, where, and what to do; by default the first line of the class's
      description.
    - `more`: further mistakes. Each is a line of its own, and whatever a message quotes cannot add a line.

    `exit_code` is the exit code of the command; `topic` is the part of the message that stays the same while the
    problem does; `section` is the history that it is about, where gate guards several ("" = there is only one).
    """

    exit_code = 70

    def __init__(self, message: str | None = None, *more: str) -> None:
        super().__init__("\n".join(map(printable, (message or self._summary(), *more))))
        self.topic = str(self)
        self.section = ""

    @property
    def text(self) -> str:
        """The message with its notes, and with the history that it is about in front of it."""
        text = " ".join([str(self), *getattr(self, "__notes__", ())])
        return f"[{printable(self.section)}] {text}" if self.section else text

    @property
    def line(self) -> str:
        """The same in one line."""
        return " ".join(self.text.splitlines())

    def _summary(self) -> str:
        return (self.__doc__ or "").partition("\n")[0]


@contextmanager
def about(section: str) -> Iterator[None]:
    """Say in each error that leaves this block which history it is about; "" = there is only one."""
    try:
        yield
    except GateError as error:
        error.section = error.section or section
        raise


class BadUsage(GateError):
    """The command line is wrong; `gate --help` shows the commands and options."""

    exit_code = 2


class MigrationFailed(GateError):
    """The upgrade did not bring the database to the heads of this image; fix the migration and run it again.

    `revision` is the one that failed, "" if it is not known.
    """

    exit_code = 65

    def __init__(self, message: str | None = None, revision: str = "") -> None:
        super().__init__(message)
        self.revision = revision


class TableLockConflict(MigrationFailed):
    """A statement of a migration waited too long for a lock, or was the victim of a deadlock.

    `conflict`: `timeout` or `deadlock`.
    """

    def __init__(self, message: str, revision: str, conflict: str) -> None:
        super().__init__(message, revision)
        self.conflict = conflict


class DatabaseUnavailable(GateError):
    """The database cannot be inspected, so its schema is unknown.

    `driver_text` is the driver's own message. It is not part of `topic`, since it may name another address at each
    attempt.
    """

    exit_code = 69

    def __init__(self, message: str | None = None, driver_text: str = "") -> None:
        sentence = message or self._summary()
        driver = f" The driver says: {driver_text.rstrip('.')}." if driver_text else ""
        super().__init__(f"{sentence}{driver}")
        self.topic = sentence


class DatabaseLost(GateError):
    """The database went away in the middle of a migration; what had committed stays, and migrating again continues.

    It is no `DatabaseUnavailable`: to wait and to try again without a limit could crash a server again and again.
    """

    exit_code = 69


class ResourceShortage(DatabaseUnavailable):
    """The machine or the container gives gate no thread, process, file descriptor or memory: no bug in gate.

    It is temporary, as an unavailable database is, so gate waits for it while it waits.
    """

    @classmethod
    def of(cls, error: BaseException) -> ResourceShortage | None:
        """Return the shortage behind an error of Python's, None if it has another cause.

        EAGAIN is a shortage only of fork and clone (fork(2)); elsewhere it means that a descriptor would block.
        """
        number = getattr(error, "errno", None)
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return cls(f"gate cannot start a thread. {MORE_PROCESSES}")
        if number in {errno.EMFILE, errno.ENFILE}:
            return cls(f"gate cannot open a further file: too many are open. {MORE_FILES}")
        if isinstance(error, MemoryError) or number == errno.ENOMEM:
            return cls(f"gate cannot get memory. {MORE_MEMORY}")
        return None


MORE_FILES = "Raise the limit on open files (ulimit -n; of the machine: sysctl fs.file-max)."

MORE_MEMORY = "Raise the memory limit of the container, or ulimit -v."

MORE_PROCESSES = (
    "Raise the limit on processes and threads (the pids limit of the container, ulimit -u), or let seccomp allow "
    "clone3 (Docker before 20.10.10 refuses it)."
)


REMEDIES = {
    "MemoryError": MORE_MEMORY,
    "Cannot allocate memory": MORE_MEMORY,
    "can't start new thread": MORE_PROCESSES,
    "Too many open files": MORE_FILES,
}
"""What the text of another program's error says of a shortage -> what to do."""


def shortage_remedy(text: str) -> str:
    """Return what to do about the shortage that an error of a migration reports, "" if it reports none."""
    return next((remedy for mark, remedy in REMEDIES.items() if mark in text), "")


@contextmanager
def starting_process(name: str) -> Iterator[None]:
    """Raise `ResourceShortage` in place of the error of a fork, a pipe or an exec that lacks resources.

    `name`: the process, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EPERM, errno.ENOSYS}:
            raise ResourceShortage(f"gate cannot start {name}: {error.strerror}. {MORE_PROCESSES}") from None
        if shortage := ResourceShortage.of(error):
            raise shortage from None
        raise


class LockTimeout(GateError):
    """Another migrator held the lock for longer than GATE_MIGRATION_LOCK_TIMEOUT."""

    exit_code = 75


class Refused(GateError):
    """The settings forbid to go on with this schema."""

    exit_code = 76


class BadSettings(GateError):
    """The settings are wrong; the message names each variable and what to change."""

    exit_code = 78


class BadScripts(GateError):
    """The image has no usable migration scripts."""

    exit_code = 78


class TimedOut(GateError):
    """The schema did not fit within GATE_TIMEOUT."""

    exit_code = 124


class CommandNotExecutable(GateError):
    """The command exists but cannot be executed."""

    exit_code = 126


class CommandNotFound(GateError):
    """The command does not exist."""

    exit_code = 127


class LockBusy(Exception):
    """Another migrator holds the lock."""


class LockLost(Exception):
    """The lock was lost during the migration."""


class Interrupted(BaseException):
    """A signal asked gate to end.

    Derives from `BaseException`, as `KeyboardInterrupt` does, so that `except Exception` does not swallow it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as a shell reports it."""
        return 128 + self.signal_number
