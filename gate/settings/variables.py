"""The table of all settings: variable, default, meaning and flag.

`--help` and docs/settings.md show these texts, so each is one line, names its unit, and uses no `|`.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.text import one_edit_apart


class Setting(NamedTuple):
    """One setting: its variable, its default as shown to people, its meaning, and its flag with the flag's metavar.

    `flag` is "" for a setting that has no flag. No URL has one: a process list shows flags. `metavar` is "" for a flag
    without a value, which switches the setting on.
    """

    variable: str
    default: str
    meaning: str
    flag: str = ""
    metavar: str = ""


SETTINGS = (
    Setting("RUN_MIGRATIONS", "off", "let `gate run` upgrade the schema: `1 true yes on` or `0 false no off`"),
    Setting(
        "DATABASE_URL",
        "libpq's `PG*` variables, else `sqlalchemy.url`",
        "database to check, as a SQLAlchemy or libpq URL",
    ),
    Setting("DATABASE_URL_FILE", "", "file that contains `DATABASE_URL` (a mounted secret), read at each connection"),
    Setting(
        "MIGRATION_DATABASE_URL",
        "`DATABASE_URL`",
        "URL for migrating: without a pooler, or for a role with more privileges",
    ),
    Setting("MIGRATION_DATABASE_URL_FILE", "", "file that contains `MIGRATION_DATABASE_URL`, read at each connection"),
    Setting("ALEMBIC_CONFIG", "`alembic.ini`, `pyproject.toml`", "Alembic configuration file, as for `alembic`"),
    Setting(
        "GATE_VERSION_TABLE",
        "env.py's, else `alembic_version`",
        "name of Alembic's version table",
        "--version-table",
        "NAME",
    ),
    Setting(
        "GATE_VERSION_TABLE_SCHEMA",
        "env.py's, else the search_path",
        "schema of Alembic's version table",
        "--version-table-schema",
        "NAME",
    ),
    Setting(
        "GATE_SCHEMAS",
        "",
        "schemas with a version table each: names separated by commas, a pattern such as `tenant_*`, or a SELECT",
        "--schemas",
        "LIST",
    ),
    Setting(
        "GATE_SCHEMA_ARGUMENT",
        "schema",
        "name of the argument by which env.py receives its schema, as in `alembic -x schema=NAME`",
        "--schema-argument",
        "NAME",
    ),
    Setting("GATE_SCHEMAS_MAY_BE_EMPTY", "off", "accept that `GATE_SCHEMAS` names no schema at all"),
    Setting(
        "GATE_EXPECTED",
        "`gate-expected.json`",
        "file that `gate expect` has written, beside the Alembic configuration; `off` = none",
        "--expected",
        "FILE",
    ),
    Setting(
        "GATE_TIMEOUT", "0", "maximum time to wait for the schema, in seconds; 0 = no limit", "--timeout", "SECONDS"
    ),
    Setting("GATE_POLL_MAX", "10", "maximum pause between two checks, in seconds", "--poll-max", "SECONDS"),
    Setting(
        "GATE_CONNECT_TIMEOUT", "5", "maximum time to connect to one host, in seconds", "--connect-timeout", "SECONDS"
    ),
    Setting(
        "GATE_QUERY_TIMEOUT", "5", "maximum time to read the version table, in seconds", "--query-timeout", "SECONDS"
    ),
    Setting(
        "GATE_MIGRATION_LOCK_TIMEOUT",
        "900 for `migrate`, 0 for `run`",
        "maximum time to wait for another migrator, in seconds; 0 = no limit",
        "--migration-lock-timeout",
        "SECONDS",
    ),
    Setting("GATE_LOCK", "auto", "`auto`: migrate under a lock in the database; `none`: migrate without a lock"),
    Setting(
        "GATE_MIGRATION_TIMEOUT",
        "0",
        "maximum time for one upgrade, in seconds; 0 = no limit",
        "--migration-timeout",
        "SECONDS",
    ),
    Setting(
        "GATE_TABLE_LOCK_TIMEOUT",
        "0",
        "maximum time that a statement of a migration waits for a lock, in seconds; 0 = no limit",
        "--table-lock-timeout",
        "SECONDS",
    ),
    Setting(
        "GATE_TABLE_LOCK_RETRIES",
        "10",
        "how often a migration that lost a lock (time-out or deadlock) is tried again",
        "--table-lock-retries",
        "NUMBER",
    ),
    Setting(
        "GATE_ON_UNKNOWN",
        "go",
        "action when the image does not know the stamped revision: `go`, `wait` or `refuse`",
        "--on-unknown",
        "ACTION",
    ),
    Setting(
        "GATE_ON_UNSTAMPED",
        "go",
        "action when the database has tables but no version table: `go`, `wait` or `refuse`",
        "--on-unstamped",
        "ACTION",
    ),
    Setting(
        "GATE_ON_INCOMPLETE",
        "wait",
        "action when the database lacks what the code needs: `go`, `wait` or `refuse`",
        "--on-incomplete",
        "ACTION",
    ),
    Setting(
        "GATE_ON_FAILURE",
        "exit",
        "action of `gate run` on exit code 65, 69, 75, 76 or 78: `exit`, or `stay` and keep checking",
        "--on-failure",
        "ACTION",
    ),
    Setting(
        "GATE_UPGRADE_COMMAND",
        "",
        "command to run instead of gate's own upgrade, such as `flask db upgrade`; `{target}` in it is replaced",
        "--upgrade-command",
        "COMMAND",
    ),
    Setting(
        "GATE_TARGET",
        "heads",
        "revision that this image needs, as for `alembic upgrade`, such as `expand@head`",
        "--target",
        "REVISION",
    ),
    Setting(
        "GATE_POST_DEPLOY",
        "off",
        "apply the revisions, too, that may wait until after the deployment",
        "--post-deploy",
    ),
    Setting("GATE_PLACEHOLDER", "", "`[host]:port` of an HTTP server that answers while gate waits or migrates"),
    Setting(
        "GATE_PLACEHOLDER_PAGE",
        "gate's own page",
        "file with the HTML page that browsers get from that HTTP server, in UTF-8, at most 128 KB",
    ),
    Setting("GATE_HEALTH_PATH", "/health", "liveness path of that HTTP server"),
    Setting("GATE_TTL", "10", "time to reuse a readiness verdict, in seconds; `CURRENT` is reused six times as long"),
    Setting(
        "GATE_LOG_FORMAT",
        "auto",
        "log format: `json`, `console`, or `auto` (console on a terminal, JSON otherwise)",
        "--log-format",
        "FORMAT",
    ),
    Setting(
        "GATE_LOG_LEVEL",
        "info",
        "minimum log level: `debug`, `info`, `warning`, `error` or `critical`",
        "--log-level",
        "LEVEL",
    ),
    Setting("GATE_TERMINATION_LOG", "`/dev/termination-log` if it exists", "file to write the current verdict to"),
    Setting("GATE_BYPASS", "off", "emergency switch: `run`, `wait` and `migrate` check and migrate nothing"),
)
KNOWN = frozenset(setting.variable for setting in SETTINGS)


def similar_settings(variable: str) -> list[str]:
    """Return the settings that are one edit away from an unknown variable."""
    return sorted(known for known in KNOWN if one_edit_apart(variable, known))
