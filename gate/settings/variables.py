"""The one table of the variables: names, defaults, meanings and flags; the help and the README are held to it."""

from __future__ import annotations

from typing import NamedTuple


class Setting(NamedTuple):
    """One variable: its default as shown, its meaning, and its flag, if it has one, with the flag's metavar."""

    variable: str
    default: str
    meaning: str
    flag: str = ""
    metavar: str = ""


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
        "NAME",
    ),
    Setting(
        "GATE_VERSION_TABLE_SCHEMA",
        "env.py's, else the search_path",
        "the version table's schema",
        "--version-table-schema",
        "NAME",
    ),
    Setting("GATE_TIMEOUT", "0", "limit for the whole wait in seconds, 0 = none", "--timeout", "SECONDS"),
    Setting("GATE_POLL_MAX", "10", "longest pause between two looks in seconds", "--poll-max", "SECONDS"),
    Setting("GATE_CONNECT_TIMEOUT", "5", "limit for connecting to one host in seconds", "--connect-timeout", "SECONDS"),
    Setting("GATE_QUERY_TIMEOUT", "5", "limit for reading the stamp in seconds", "--query-timeout", "SECONDS"),
    Setting(
        "GATE_MIGRATION_LOCK_TIMEOUT",
        "900 for `migrate`, none for `run`",
        "how long to wait for another migrator in seconds, 0 = none",
        "--migration-lock-timeout",
        "SECONDS",
    ),
    Setting("GATE_LOCK", "auto", "`auto`, or `none` to migrate without a lock"),
    Setting(
        "GATE_MIGRATION_TIMEOUT", "0", "limit for one upgrade in seconds, 0 = none", "--migration-timeout", "SECONDS"
    ),
    Setting(
        "GATE_ON_UNKNOWN", "go", "what if the image does not know the stamp: `go wait refuse`", "--on-unknown", "ACTION"
    ),
    Setting(
        "GATE_ON_UNSTAMPED",
        "go",
        "what if tables stand there without a stamp: `go wait refuse`",
        "--on-unstamped",
        "ACTION",
    ),
    Setting(
        "GATE_ON_FAILURE",
        "exit",
        "what `gate run` does after a failure (65, 75, 76, 78): `exit stay`",
        "--on-failure",
        "ACTION",
    ),
    Setting(
        "GATE_UPGRADE_COMMAND", "", "run this for the upgrade instead of gate's own", "--upgrade-command", "COMMAND"
    ),
    Setting("GATE_PLACEHOLDER", "", "`[host]:port` on which to answer while waiting or migrating"),
    Setting("GATE_HEALTH_PATH", "/health", "the liveness path there"),
    Setting("GATE_TTL", "10", "how long a readiness verdict is reused in seconds; `CURRENT` six times as long"),
    Setting(
        "GATE_LOG_FORMAT",
        "auto",
        "`auto json console`; auto = console on a terminal, JSON otherwise",
        "--log-format",
        "FORMAT",
    ),
    Setting("GATE_LOG_LEVEL", "info", "`debug info warning error critical`", "--log-level", "LEVEL"),
    Setting("GATE_TERMINATION_LOG", "`/dev/termination-log` if it exists", "the file that keeps the last verdict"),
    Setting(
        "GATE_BYPASS", "off", "`run`, `wait` and `migrate` skip everything: the way out when gate itself is in the way"
    ),
)
KNOWN = frozenset(setting.variable for setting in SETTINGS)


def similar_settings(variable: str) -> list[str]:
    """The settings that an unknown variable may be a misspelling of."""
    return sorted(known for known in KNOWN if one_edit_apart(variable, known))


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
