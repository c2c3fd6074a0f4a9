"""Environment variables and flags -> one frozen `Settings`, or one error that lists every invalid setting.

Pure: the environment is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gate.settings.database_url import UrlSource
from gate.settings.reader import MAX_QUERY_SECONDS, TRUE, Reader

if TYPE_CHECKING:
    from gate.settings.schema_source import SchemaSource

DEFAULT_HEALTH_PATH = "/health"


class Decision(StrEnum):
    """What gate does next."""

    GO = "go"
    WAIT = "wait"
    UPGRADE = "upgrade"
    REFUSE = "refuse"


class Policy(NamedTuple):
    """Whether gate may migrate, and what it does where the stamp and the tables do not agree that the schema fits.

    `post_deploy`: whether gate also applies the revisions that may wait until after the deployment; `keep_going`:
    whether it migrates some schemas although it refuses others.
    """

    migrating: bool = False
    on_unknown: Decision = Decision.GO
    on_unstamped: Decision = Decision.GO
    on_incomplete: Decision = Decision.WAIT
    post_deploy: bool = False
    keep_going: bool = False


class Settings(NamedTuple):
    """All settings, validated. Times are in seconds; 0 = no limit.

    `migration_lock_timeout` is None where it is not set, since its default depends on the command. `placeholder` is
    the host ("" = all addresses) and the port to listen on, None = no placeholder. `placeholder_page` is a file, None =
    gate's own page. `expected` is a file, `off`, or None for the default file. `schemas` is None where the image has
    one version table.
    """

    run_migrations: bool = False
    database_url: UrlSource | None = None
    migration_database_url: UrlSource | None = None
    alembic_config: str | None = None
    version_table: str | None = None
    version_table_schema: str | None = None
    schemas: SchemaSource | None = None
    schema_argument: str = "schema"
    schemas_may_be_empty: bool = False
    expected: str | None = None
    timeout: float = 0
    poll_max: float = 10
    connect_timeout: float = 5
    query_timeout: float = 5
    migration_lock_timeout: float | None = None
    use_lock: bool = True
    migration_timeout: float = 0
    table_lock_timeout: float = 0
    table_lock_retries: int = 10
    on_unknown: Decision = Decision.GO
    on_unstamped: Decision = Decision.GO
    on_incomplete: Decision = Decision.WAIT
    stay_on_failure: bool = False
    upgrade_command: tuple[str, ...] = ()
    target: str = "heads"
    post_deploy: bool = False
    placeholder: tuple[str, int] | None = None
    placeholder_page: str | None = None
    health_path: str = DEFAULT_HEALTH_PATH
    ttl: float = 10
    log_format: str = "auto"
    log_level: str = "info"


def read(environment: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
    """Validate all settings; `flags` override the environment and are keyed by variable.

    Raises `BadSettings` with one line for each invalid setting.
    """
    reader = Reader(environment, flags or {})
    settings = _read_each(reader)
    reader.boolean("GATE_BYPASS")
    reader.reject_both("GATE_SCHEMAS", "GATE_VERSION_TABLE_SCHEMA")
    reader.reject_misspelled()
    reader.raise_errors()
    return settings


def _read_each(reader: Reader) -> Settings:
    return Settings(
        run_migrations=reader.boolean("RUN_MIGRATIONS"),
        database_url=reader.url("DATABASE_URL"),
        migration_database_url=reader.url("MIGRATION_DATABASE_URL"),
        alembic_config=reader.text("ALEMBIC_CONFIG"),
        version_table=reader.identifier("GATE_VERSION_TABLE"),
        version_table_schema=reader.identifier("GATE_VERSION_TABLE_SCHEMA"),
        schemas=reader.schemas("GATE_SCHEMAS"),
        schema_argument=reader.argument_name("GATE_SCHEMA_ARGUMENT", "schema"),
        schemas_may_be_empty=reader.boolean("GATE_SCHEMAS_MAY_BE_EMPTY"),
        expected=reader.text("GATE_EXPECTED"),
        timeout=reader.seconds("GATE_TIMEOUT", 0),
        poll_max=reader.seconds("GATE_POLL_MAX", 10, minimum=0.1),
        connect_timeout=reader.seconds("GATE_CONNECT_TIMEOUT", 5, minimum=0.1, maximum=MAX_QUERY_SECONDS),
        query_timeout=reader.seconds("GATE_QUERY_TIMEOUT", 5, minimum=0.1, maximum=MAX_QUERY_SECONDS),
        migration_lock_timeout=reader.seconds("GATE_MIGRATION_LOCK_TIMEOUT", None),
        use_lock=reader.choice("GATE_LOCK", "auto none") == "auto",
        migration_timeout=reader.seconds("GATE_MIGRATION_TIMEOUT", 0),
        table_lock_timeout=reader.seconds("GATE_TABLE_LOCK_TIMEOUT", 0, maximum=MAX_QUERY_SECONDS),
        table_lock_retries=reader.count("GATE_TABLE_LOCK_RETRIES", 10),
        on_unknown=Decision(reader.choice("GATE_ON_UNKNOWN", "go wait refuse")),
        on_unstamped=Decision(reader.choice("GATE_ON_UNSTAMPED", "go wait refuse")),
        on_incomplete=Decision(reader.choice("GATE_ON_INCOMPLETE", "wait go refuse")),
        stay_on_failure=reader.choice("GATE_ON_FAILURE", "exit stay") == "stay",
        upgrade_command=reader.command("GATE_UPGRADE_COMMAND"),
        target=reader.identifier("GATE_TARGET") or "heads",
        post_deploy=reader.boolean("GATE_POST_DEPLOY"),
        placeholder=reader.address("GATE_PLACEHOLDER"),
        placeholder_page=reader.text("GATE_PLACEHOLDER_PAGE"),
        health_path=reader.url_path("GATE_HEALTH_PATH", DEFAULT_HEALTH_PATH),
        ttl=reader.seconds("GATE_TTL", 10),
        log_format=reader.choice("GATE_LOG_FORMAT", "auto json console"),
        log_level=reader.choice("GATE_LOG_LEVEL", "info debug warning error critical"),
    )


def bypassed(environment: Mapping[str, str]) -> bool:
    """Return whether GATE_BYPASS is on; every other setting may be invalid."""
    return environment.get("GATE_BYPASS", "").strip().lower() in TRUE


def stays_on_failure(environment: Mapping[str, str], flags: Mapping[str, str]) -> bool:
    """Return whether GATE_ON_FAILURE is `stay`; every other setting may be invalid."""
    return (flags.get("GATE_ON_FAILURE") or environment.get("GATE_ON_FAILURE", "")).strip().lower() == "stay"


def placeholder_address(environment: Mapping[str, str]) -> tuple[tuple[str, int] | None, str]:
    """Return GATE_PLACEHOLDER and GATE_HEALTH_PATH; every other setting may be invalid."""
    reader = Reader(environment, {})
    return reader.address("GATE_PLACEHOLDER"), reader.url_path("GATE_HEALTH_PATH", DEFAULT_HEALTH_PATH)


def log_format(environment: Mapping[str, str], flags: Mapping[str, str]) -> str:
    """Return the log format for reporting invalid settings; `auto` if GATE_LOG_FORMAT itself is invalid."""
    name = (flags.get("GATE_LOG_FORMAT") or environment.get("GATE_LOG_FORMAT", "")).strip().lower()
    return name if name in {"json", "console"} else "auto"
