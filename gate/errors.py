"""Every way gate can fail, and the exit code that each becomes (sysexits.h)."""

from __future__ import annotations

from gate.text import printable


class GateError(Exception):
    """Gate cannot go on. The message is a whole sentence: what is wrong, where, and what to do.

    Each further mistake is a line of its own; no text that a message quotes can make one. `finding`: what stays the
    same while the same thing goes wrong again.
    """

    exit_code = 70

    def __init__(self, message: str | None = None, *more: str) -> None:
        super().__init__("\n".join(map(printable, (message or self.__doc__ or "", *more))))
        self.finding = str(self)


class BadUsage(GateError):
    """The command line is wrong; `gate --help` shows how it is meant."""

    exit_code = 2


class MigrationFailed(GateError):
    """The upgrade did not bring the database to the heads of this image; fix the migration and run it again."""

    exit_code = 65

    def __init__(self, message: str | None = None, revision: str = "") -> None:
        super().__init__(message)
        self.revision = revision


class DatabaseUnavailable(GateError):
    """The database cannot be inspected; gate knows nothing about its schema.

    `driver_text`: what the driver says, which may name another address at each attempt.
    """

    exit_code = 69

    def __init__(self, message: str | None = None, driver_text: str = "") -> None:
        sentence = message or (self.__doc__ or "").partition("\n")[0]
        driver = f" The driver says: {driver_text.rstrip('.')}." if driver_text else ""
        super().__init__(f"{sentence}{driver}")
        self.finding = sentence


class LockTimeout(GateError):
    """Another migrator kept the lock for longer than GATE_MIGRATION_LOCK_TIMEOUT."""

    exit_code = 75


class Refused(GateError):
    """The policy forbids to go on with this schema."""

    exit_code = 76


class BadSettings(GateError):
    """The settings are wrong; the message names each variable and its cure."""

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
    """The lock was lost while its holder migrated."""


class Interrupted(BaseException):
    """A signal asked gate to end.

    Like `KeyboardInterrupt` no `Exception`, so that nothing which forgives errors forgives this.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """128 + n, as a shell reports it."""
        return 128 + self.signal_number
