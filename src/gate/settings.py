"""Environment -> one frozen `Settings`, or one complaint that names every mistake.

Pure: the environment comes in as a mapping. `SETTINGS` is the one table of names, defaults and meanings;
the help and the README are held to it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gate import urls
from gate.decision import Decision
from gate.errors import BadSettings

_T = TypeVar("_T")
TRUE = frozenset({"1", "true", "yes", "on"})
LONGEST = 10.0**9
"""Seconds, 31 years: what every clock and thread can count."""

LONGEST_LOOK = 86400.0
"""Seconds: libpq counts milliseconds in 31 bits."""

LONGEST_PORT = 5
"""Digits."""

FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its default as shown, its meaning, and its flag where people change it per call."""

    variable: str
    default: str
    meaning: str
    flag: str = ""


SETTINGS = (
    Setting("RUN_MIGRATIONS", "off", "`gate run` upgrades the schema itself; `1 true yes on` / `0 false no off`"),
    Setting(
        "DATABASE_URL",
        "",
        "where the schema is: a SQLAlchemy or libpq URL; else `PG*`, else `sqlalchemy.url`",
    ),
    Setting("DATABASE_URL_FILE", "", "a file that holds it (a mounted secret), read again at each connect"),
    Setting("MIGRATION_DATABASE_URL", "`DATABASE_URL`", "a direct or more privileged URL for migrating"),
    Setting("MIGRATION_DATABASE_URL_FILE", "", "a file that holds it, read again at each connect"),
    Setting("ALEMBIC_CONFIG", "`alembic.ini`, `pyproject.toml`", "the Alembic configuration, as for `alembic`"),
    Setting(
        "GATE_VERSION_TABLE",
        "env.py's, else `alembic_version`",
        "the version table's name",
        "--version-table",
    ),
    Setting(
        "GATE_VERSION_TABLE_SCHEMA",
        "env.py's, else the search_path",
        "the version table's schema",
        "--version-table-schema",
    ),
    Setting("GATE_TIMEOUT", "0", "limit for the whole wait in seconds, 0 = none", "--timeout"),
    Setting("GATE_POLL_MAX", "10", "longest pause between two looks in seconds", "--poll-max"),
    Setting("GATE_CONNECT_TIMEOUT", "5", "limit for connecting in seconds", "--connect-timeout"),
    Setting("GATE_QUERY_TIMEOUT", "5", "limit for reading the stamp in seconds", "--query-timeout"),
    Setting(
        "GATE_LOCK_TIMEOUT",
        "900 for `migrate`, none for `run`",
        "how long to wait for another migrator in seconds, 0 = none",
        "--lock-timeout",
    ),
    Setting("GATE_LOCK", "auto", "`auto`, or `none` to migrate without a lock"),
    Setting("GATE_MIGRATION_TIMEOUT", "0", "limit for one upgrade in seconds, 0 = none", "--migration-timeout"),
    Setting("GATE_ON_UNKNOWN", "go", "what if the image does not know the stamp: `go wait refuse`", "--on-unknown"),
    Setting(
        "GATE_ON_UNSTAMPED",
        "go",
        "what if tables stand there without a stamp: `go wait refuse`",
        "--on-unstamped",
    ),
    Setting("GATE_ON_FAILURE", "exit", "what `gate run` does after a failure: `exit stay`", "--on-failure"),
    Setting("GATE_UPGRADE_COMMAND", "", "run this for the upgrade instead of gate's own", "--upgrade-command"),
    Setting("GATE_HOLD", "", "`[host]:port` on which to answer while waiting or migrating"),
    Setting("GATE_HEALTH_PATH", "/health", "the liveness path there"),
    Setting("GATE_TTL", "10", "how long a readiness verdict is reused in seconds"),
    Setting(
        "GATE_LOG_FORMAT",
        "auto",
        "`auto json console`; auto = console on a terminal, JSON otherwise",
        "--log-format",
    ),
    Setting("GATE_LOG_LEVEL", "info", "`debug info warning error critical`", "--log-level"),
    Setting("GATE_TERMINATION_LOG", "`/dev/termination-log` if it exists", "the file that keeps the last verdict"),
    Setting("GATE_BYPASS", "off", "skip everything: the way out when gate itself is in the way"),
)
KNOWN = frozenset(setting.variable for setting in SETTINGS)


@dataclass(frozen=True, slots=True)
class UrlSource:
    """Where a URL comes from: the text itself, or the path of a file that holds it."""

    variable: str
    text: str = field(default="", repr=False)
    path: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that gate was told, checked. Times in seconds; 0 = no limit; None = the command's own default."""

    run_migrations: bool = False
    database_url: UrlSource | None = None
    migration_database_url: UrlSource | None = None
    alembic_config: str | None = None
    version_table: str | None = None
    version_table_schema: str | None = None
    timeout: float = 0
    poll_max: float = 10
    connect_timeout: float = 5
    query_timeout: float = 5
    lock_timeout: float | None = None
    locking: bool = True
    migration_timeout: float = 0
    on_unknown: Decision = Decision.GO
    on_unstamped: Decision = Decision.GO
    stay_on_failure: bool = False
    upgrade_command: tuple[str, ...] = ()
    hold: tuple[str, int] | None = None
    health_path: str = "/health"
    ttl: float = 10
    log_format: str = "auto"
    log_level: str = "info"
    termination_log: str | None = None


def read(environment: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
    """Check all variables; `flags` override them, by the variable's name.

    Raises `BadSettings` with one line for each mistake.
    """
    reader = _Reader(environment, flags or {})
    settings = Settings(
        run_migrations=reader.switch("RUN_MIGRATIONS"),
        database_url=reader.url("DATABASE_URL"),
        migration_database_url=reader.url("MIGRATION_DATABASE_URL"),
        alembic_config=reader.text("ALEMBIC_CONFIG"),
        version_table=reader.name("GATE_VERSION_TABLE"),
        version_table_schema=reader.name("GATE_VERSION_TABLE_SCHEMA"),
        timeout=reader.seconds("GATE_TIMEOUT", 0),
        poll_max=reader.seconds("GATE_POLL_MAX", 10, least=0.1),
        connect_timeout=reader.seconds("GATE_CONNECT_TIMEOUT", 5, least=0.1, most=LONGEST_LOOK),
        query_timeout=reader.seconds("GATE_QUERY_TIMEOUT", 5, least=0.1, most=LONGEST_LOOK),
        lock_timeout=reader.seconds("GATE_LOCK_TIMEOUT", None),
        locking=reader.choice("GATE_LOCK", "auto none") == "auto",
        migration_timeout=reader.seconds("GATE_MIGRATION_TIMEOUT", 0),
        on_unknown=Decision(reader.choice("GATE_ON_UNKNOWN", "go wait refuse")),
        on_unstamped=Decision(reader.choice("GATE_ON_UNSTAMPED", "go wait refuse")),
        stay_on_failure=reader.choice("GATE_ON_FAILURE", "exit stay") == "stay",
        upgrade_command=reader.words("GATE_UPGRADE_COMMAND"),
        hold=reader.address("GATE_HOLD"),
        health_path=reader.path("GATE_HEALTH_PATH", "/health"),
        ttl=reader.seconds("GATE_TTL", 10),
        log_format=reader.choice("GATE_LOG_FORMAT", "auto json console"),
        log_level=reader.choice("GATE_LOG_LEVEL", "info debug warning error critical"),
        termination_log=reader.text("GATE_TERMINATION_LOG"),
    )
    reader.switch("GATE_BYPASS")
    reader.look_for_misspellings()
    reader.complain()
    return settings


def bypassed(environment: Mapping[str, str]) -> bool:
    """Whether GATE_BYPASS asks to skip everything: it must work when all else is broken."""
    return environment.get("GATE_BYPASS", "").strip().lower() in TRUE


def stays(environment: Mapping[str, str], flags: Mapping[str, str]) -> bool:
    """Whether GATE_ON_FAILURE=stay, which must work when other settings are broken."""
    return (flags.get("GATE_ON_FAILURE") or environment.get("GATE_ON_FAILURE", "")).strip().lower() == "stay"


def log_format(environment: Mapping[str, str], flags: Mapping[str, str]) -> str:
    """The format in which to complain about all other settings."""
    wish = (flags.get("GATE_LOG_FORMAT") or environment.get("GATE_LOG_FORMAT", "")).strip().lower()
    return wish if wish in {"json", "console"} else "auto"


class _Reader:
    def __init__(self, environment: Mapping[str, str], flags: Mapping[str, str]) -> None:
        self._environment = environment
        self._flags = flags
        self._mistakes: list[str] = []

    def text(self, variable: str) -> str | None:
        value = self._flags.get(variable, self._environment.get(variable, ""))
        return value.strip() or None

    def name(self, variable: str) -> str | None:
        name = self.text(variable)
        if name is not None and not urls.is_text(name):
            self._mistake(variable, "must be UTF-8 text")
        return name

    def switch(self, variable: str) -> bool:
        value = (self.text(variable) or "off").lower()
        if value not in TRUE | FALSE:
            self._mistake(variable, "must be 1, true, yes or on, or 0, false, no or off")
        return value in TRUE

    def seconds(self, variable: str, default: _T, least: float = 0, most: float = LONGEST) -> float | _T:
        text = self.text(variable)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most):
            until = "on" if most == LONGEST else f"to {most:.0f}"
            self._mistake(variable, f"must be a number of seconds from {least:g} {until}, such as 30 or 2.5")
        return value

    def choice(self, variable: str, words: str) -> str:
        known = words.split()
        value = (self.text(variable) or known[0]).lower()
        if value not in known:
            self._mistake(variable, f"must be one of {', '.join(known)}")
            return known[0]
        return value

    def address(self, variable: str) -> tuple[str, int] | None:
        text = self.text(variable)
        if text is None:
            return None
        found = listening_address(text)
        if found is None:
            self._mistake(variable, "must be [host]:port, such as :8000 or 127.0.0.1:8000")
        return found

    def path(self, variable: str, default: str) -> str:
        path = self.text(variable) or default
        if not path.startswith("/"):
            self._mistake(variable, "must be a path that begins with /")
        return path

    def words(self, variable: str) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.text(variable) or ""))
        except ValueError as error:
            self._mistake(variable, f"cannot be split into words as a shell does ({error})")
            return ()

    def url(self, variable: str) -> UrlSource | None:
        text, path = self.text(variable), self.text(f"{variable}_FILE")
        if text and path:
            self._mistakes.append(f"{variable} and {variable}_FILE are both set; unset one of them.")
        elif path:
            return UrlSource(f"{variable}_FILE", path=path)
        elif text:
            return self._checked_url(variable, text)
        return None

    def _checked_url(self, variable: str, text: str) -> UrlSource:
        try:
            urls.parse(text, variable)
        except BadSettings as error:
            self._mistakes.append(str(error))
        return UrlSource(variable, text)

    def look_for_misspellings(self) -> None:
        for variable in sorted(self._environment):
            if variable.startswith("GATE_") and variable not in KNOWN and self._environment[variable].strip():
                for meant in sorted(known for known in KNOWN if one_edit_apart(variable, known)):
                    self._mistakes.append(f"{variable} is no setting; do you mean {meant}?")

    def complain(self) -> None:
        if self._mistakes:
            raise BadSettings(*self._mistakes)

    def _mistake(self, variable: str, rule: str) -> None:
        flag = next((s.flag for s in SETTINGS if s.variable == variable), "")
        name = flag if variable in self._flags else variable
        value = self.text(variable) or ""
        self._mistakes.append(f"{name} {rule}; it is {urls.hide(value)[:40]!r}.")


def listening_address(text: str) -> tuple[str, int] | None:
    """`[host]:port` as host ("" = every address) and port; None if it is not one."""
    host, _, port = text.strip().rpartition(":")
    is_port = port.isdecimal() and len(port) <= LONGEST_PORT and 0 < int(port) < 1 << 16
    return (host.strip("[]"), int(port)) if is_port else None


def one_edit_apart(one: str, other: str) -> bool:
    """Whether a single insertion, deletion, replacement or swap of neighbours leads from one to the other."""
    if len(one) > len(other):
        one, other = other, one
    if one == other or len(other) - len(one) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[start:] == other[start + 1 :]
    swapped = one[:start] + one[start : start + 2][::-1] + one[start + 2 :]
    return one[start + 1 :] == other[start + 1 :] or swapped == other
