"""Environment -> one frozen `Settings`, or one complaint that names every mistake.

Pure: the environment comes in as a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from gate.settings.database_url import UrlSource
from gate.settings.reader import FALSE, MAX_QUERY_SECONDS, TRUE, Reader
from gate.settings.variables import one_edit_apart


class Decision(StrEnum):
    """What gate does next."""

    GO = "go"
    WAIT = "wait"
    UPGRADE = "upgrade"
    REFUSE = "refuse"


class Policy(NamedTuple):
    """What the user wishes: may gate migrate, and what if the stamp says nothing about this image."""

    migrating: bool = False
    on_unknown: Decision = Decision.GO
    on_unstamped: Decision = Decision.GO


class Settings(NamedTuple):
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
    placeholder: tuple[str, int] | None = None
    health_path: str = "/health"
    ttl: float = 10
    log_format: str = "auto"
    log_level: str = "info"


def read(environment: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
    """Check all variables; `flags` override them, by the variable's name.

    Raises `BadSettings` with one line for each mistake.
    """
    reader = Reader(environment, flags or {})
    settings = Settings(
        run_migrations=reader.switch("RUN_MIGRATIONS"),
        database_url=reader.url("DATABASE_URL"),
        migration_database_url=reader.url("MIGRATION_DATABASE_URL"),
        alembic_config=reader.text("ALEMBIC_CONFIG"),
        version_table=reader.name("GATE_VERSION_TABLE"),
        version_table_schema=reader.name("GATE_VERSION_TABLE_SCHEMA"),
        timeout=reader.seconds("GATE_TIMEOUT", 0),
        poll_max=reader.seconds("GATE_POLL_MAX", 10, least=0.1),
        connect_timeout=reader.seconds("GATE_CONNECT_TIMEOUT", 5, least=0.1, most=MAX_QUERY_SECONDS),
        query_timeout=reader.seconds("GATE_QUERY_TIMEOUT", 5, least=0.1, most=MAX_QUERY_SECONDS),
        lock_timeout=reader.seconds("GATE_MIGRATION_LOCK_TIMEOUT", None),
        locking=reader.choice("GATE_LOCK", "auto none") == "auto",
        migration_timeout=reader.seconds("GATE_MIGRATION_TIMEOUT", 0),
        on_unknown=Decision(reader.choice("GATE_ON_UNKNOWN", "go wait refuse")),
        on_unstamped=Decision(reader.choice("GATE_ON_UNSTAMPED", "go wait refuse")),
        stay_on_failure=reader.choice("GATE_ON_FAILURE", "exit stay") == "stay",
        upgrade_command=reader.words("GATE_UPGRADE_COMMAND"),
        placeholder=reader.address("GATE_PLACEHOLDER"),
        health_path=reader.path("GATE_HEALTH_PATH", "/health"),
        ttl=reader.seconds("GATE_TTL", 10),
        log_format=reader.choice("GATE_LOG_FORMAT", "auto json console"),
        log_level=reader.choice("GATE_LOG_LEVEL", "info debug warning error critical"),
    )
    reader.switch("GATE_BYPASS")
    reader.look_for_misspellings()
    reader.complain()
    return settings


def bypassed(environment: Mapping[str, str]) -> bool:
    """Whether GATE_BYPASS asks to skip everything: it must work when all else is broken."""
    return environment.get("GATE_BYPASS", "").strip().lower() in TRUE


def stays_on_failure(environment: Mapping[str, str], flags: Mapping[str, str]) -> bool:
    """Whether GATE_ON_FAILURE=stay, which must work when other settings are broken."""
    return (flags.get("GATE_ON_FAILURE") or environment.get("GATE_ON_FAILURE", "")).strip().lower() == "stay"


def placeholder_address(environment: Mapping[str, str]) -> tuple[tuple[str, int] | None, str]:
    """GATE_PLACEHOLDER and GATE_HEALTH_PATH, as far as they can be read, whatever else is wrong."""
    reader = Reader(environment, {})
    return reader.address("GATE_PLACEHOLDER"), reader.path("GATE_HEALTH_PATH", "/health")


def log_format(environment: Mapping[str, str], flags: Mapping[str, str]) -> str:
    """The format in which to complain about all other settings."""
    wish = (flags.get("GATE_LOG_FORMAT") or environment.get("GATE_LOG_FORMAT", "")).strip().lower()
    return wish if wish in {"json", "console"} else "auto"


def warnings(environment: Mapping[str, str]) -> dict[str, str]:
    """What is no mistake and yet worth saying once, by event name: without RUN_MIGRATIONS nothing would say why."""
    given = sorted(name for name, value in environment.items() if value.strip().lower() not in FALSE | {""})
    near = [name for name in given if _is_misspelt(name)]
    if not near or Reader(environment, {}).text("RUN_MIGRATIONS"):
        return {}
    names = ", ".join(near)
    text = f"{names} is set, and gate does not read it; what lets `gate run` migrate is RUN_MIGRATIONS."
    return {"gate.unread_variable": text}


def _is_misspelt(name: str) -> bool:
    alike = name.upper().replace("-", "_")
    return name != "RUN_MIGRATIONS" and (alike == "RUN_MIGRATIONS" or one_edit_apart(alike, "RUN_MIGRATIONS"))
