"""The errors of gate, each with its exit code (sysexits.h and, for commands, POSIX's shell)."""

from __future__ import annotations

from gate.text import printable


class GateError(Exception):
    """gate cannot go on.

    - `message`: whole sentences that say what is wrong, where, and what to do; by default the first line of the class's
      description.
    - `more`: further mistakes. Each is a line of its own, and whatever a message quotes cannot add a line.

    `exit_code` is the exit code of the command; `finding` is the part of the message that stays the same while the
    problem does.
    """

    exit_code = 70

    def __init__(self, message: str | None = None, *more: str) -> None:
        super().__init__("\n".join(map(printable, (message or self._summary(), *more))))
        self.finding = str(self)

    def _summary(self) -> str:
        return (self.__doc__ or "").partition("\n")[0]


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


class DatabaseUnavailable(GateError):
    """The database cannot be inspected, so its schema is unknown.

    `driver_text` is the driver's own message. It is not part of `finding`, since it may name another address at each
    attempt.
    """

    exit_code = 69

    def __init__(self, message: str | None = None, driver_text: str = "") -> None:
        sentence = message or self._summary()
        driver = f" The driver says: {driver_text.rstrip('.')}." if driver_text else ""
        super().__init__(f"{sentence}{driver}")
        self.finding = sentence


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
