"""Environment -> settings, or one error that lists every invalid setting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadSettings
from gate.settings import settings
from gate.settings.database_url import UrlSource
from gate.settings.settings import Decision, Settings
from gate.settings.variables import KNOWN, SETTINGS
from gate.text import one_edit_apart

URL = "postgresql://app@db:5432/shop"
SECRET = "S3cr3tW0rd"


def errors(environment: dict[str, str], flags: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        settings.read(environment, flags)
    return str(caught.value).splitlines()


def test_without_variables_every_setting_has_its_default() -> None:
    assert settings.read({}) == Settings(
        run_migrations=False,
        database_url=None,
        migration_database_url=None,
        alembic_config=None,
        version_table=None,
        version_table_schema=None,
        timeout=0,
        poll_max=10,
        connect_timeout=5,
        query_timeout=5,
        migration_lock_timeout=None,
        use_lock=True,
        migration_timeout=0,
        table_lock_timeout=0,
        table_lock_retries=10,
        on_unknown=Decision.GO,
        on_unstamped=Decision.GO,
        on_incomplete=Decision.WAIT,
        stay_on_failure=False,
        upgrade_command=(),
        ttl=10,
        log_format="auto",
        log_level="info",
    )


@pytest.mark.parametrize(
    ("variable", "text", "attribute", "value"),
    [
        ("RUN_MIGRATIONS", "1", "run_migrations", True),
        ("DATABASE_URL", URL, "database_url", UrlSource("DATABASE_URL", URL)),
        ("DATABASE_URL_FILE", "/run/url", "database_url", UrlSource("DATABASE_URL_FILE", path="/run/url")),
        ("MIGRATION_DATABASE_URL", URL, "migration_database_url", UrlSource("MIGRATION_DATABASE_URL", URL)),
        (
            "MIGRATION_DATABASE_URL_FILE",
            "/run/url",
            "migration_database_url",
            UrlSource("MIGRATION_DATABASE_URL_FILE", path="/run/url"),
        ),
        ("ALEMBIC_CONFIG", "conf/alembic.ini", "alembic_config", "conf/alembic.ini"),
        ("GATE_VERSION_TABLE", "my versions", "version_table", "my versions"),
        ("GATE_VERSION_TABLE_SCHEMA", "Shop.x", "version_table_schema", "Shop.x"),
        ("GATE_TIMEOUT", "600", "timeout", 600.0),
        ("GATE_TIMEOUT", " 2.5 ", "timeout", 2.5),
        ("GATE_TIMEOUT", "0", "timeout", 0.0),
        ("GATE_POLL_MAX", "60", "poll_max", 60.0),
        ("GATE_CONNECT_TIMEOUT", "1", "connect_timeout", 1.0),
        ("GATE_QUERY_TIMEOUT", "0.5", "query_timeout", 0.5),
        ("GATE_MIGRATION_LOCK_TIMEOUT", "0", "migration_lock_timeout", 0.0),
        ("GATE_MIGRATION_LOCK_TIMEOUT", "1800", "migration_lock_timeout", 1800.0),
        ("GATE_LOCK", "none", "use_lock", False),
        ("GATE_LOCK", "AUTO", "use_lock", True),
        ("GATE_MIGRATION_TIMEOUT", "3600", "migration_timeout", 3600.0),
        ("GATE_TABLE_LOCK_TIMEOUT", "2.5", "table_lock_timeout", 2.5),
        ("GATE_TABLE_LOCK_RETRIES", "0", "table_lock_retries", 0),
        ("GATE_TABLE_LOCK_RETRIES", " 25 ", "table_lock_retries", 25),
        ("GATE_ON_UNKNOWN", "wait", "on_unknown", Decision.WAIT),
        ("GATE_ON_UNKNOWN", "Refuse", "on_unknown", Decision.REFUSE),
        ("GATE_ON_UNSTAMPED", "wait", "on_unstamped", Decision.WAIT),
        ("GATE_ON_UNSTAMPED", "refuse", "on_unstamped", Decision.REFUSE),
        ("GATE_ON_INCOMPLETE", "go", "on_incomplete", Decision.GO),
        ("GATE_ON_INCOMPLETE", "refuse", "on_incomplete", Decision.REFUSE),
        ("GATE_ON_FAILURE", "stay", "stay_on_failure", True),
        ("GATE_UPGRADE_COMMAND", "flask 'db up' heads", "upgrade_command", ("flask", "db up", "heads")),
        ("GATE_TTL", "0", "ttl", 0.0),
        ("GATE_LOG_FORMAT", "json", "log_format", "json"),
        ("GATE_LOG_LEVEL", "WARNING", "log_level", "warning"),
    ],
)
def test_each_variable_sets_its_field_and_no_other(variable: str, text: str, attribute: str, value: object) -> None:
    found = settings.read({variable: text})
    assert getattr(found, attribute) == value
    others = [name for name in Settings._fields if name != attribute]
    assert {name: getattr(found, name) for name in others} == {name: getattr(Settings(), name) for name in others}


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "TRUE", "Yes", " on "])
def test_run_migrations_accepts_each_word_for_on(word: str) -> None:
    assert settings.read({"RUN_MIGRATIONS": word}).run_migrations


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "FALSE", "No", " off ", "", " "])
def test_run_migrations_accepts_each_word_for_off_and_the_empty_text(word: str) -> None:
    assert not settings.read({"RUN_MIGRATIONS": word}).run_migrations


INVALID = [
    ("RUN_MIGRATIONS", "maybe"),
    ("RUN_MIGRATIONS", "2"),
    ("RUN_MIGRATIONS", "y"),
    ("DATABASE_URL", "localhost"),
    ("DATABASE_URL", "host=db dbname=shop"),
    ("DATABASE_URL", "postgresql://app@db:port/shop"),
    ("DATABASE_URL", "postgresql://app@db/shop?sslmode=maybe"),
    ("DATABASE_URL", "postgresql://app@db/shop?sslmod=require"),
    ("MIGRATION_DATABASE_URL", "db/shop"),
    *(
        (name, "soon")
        for name in ("GATE_TIMEOUT", "GATE_POLL_MAX", "GATE_MIGRATION_LOCK_TIMEOUT", "GATE_MIGRATION_TIMEOUT")
    ),
    *((name, "5s") for name in ("GATE_CONNECT_TIMEOUT", "GATE_QUERY_TIMEOUT", "GATE_TTL")),
    ("GATE_TIMEOUT", "-1"),
    ("GATE_TIMEOUT", "inf"),
    ("GATE_TIMEOUT", "nan"),
    ("GATE_TIMEOUT", "1e999"),
    ("GATE_MIGRATION_LOCK_TIMEOUT", "-0.1"),
    ("GATE_POLL_MAX", "0"),
    ("GATE_CONNECT_TIMEOUT", "0"),
    ("GATE_QUERY_TIMEOUT", "0"),
    *(("GATE_TABLE_LOCK_TIMEOUT", text) for text in ("soon", "-1", "1e9", "nan")),
    *(("GATE_TABLE_LOCK_RETRIES", text) for text in ("ten", "-1", "1.5", "1e3", "9" * 5000, "٣", "+3")),
    ("GATE_LOCK", "off"),
    ("GATE_ON_UNKNOWN", "stop"),
    ("GATE_ON_UNKNOWN", "upgrade"),
    ("GATE_ON_UNSTAMPED", "1"),
    ("GATE_ON_INCOMPLETE", "ignore"),
    ("GATE_ON_FAILURE", "restart"),
    ("GATE_UPGRADE_COMMAND", "alembic 'upgrade heads"),
    ("GATE_LOG_FORMAT", "xml"),
    ("GATE_LOG_LEVEL", "loud"),
    ("GATE_BYPASS", "perhaps"),
]


@pytest.mark.parametrize(("variable", "text"), INVALID)
def test_each_invalid_setting_gives_one_sentence_that_names_the_variable(variable: str, text: str) -> None:
    [line] = errors({variable: text})
    assert line.startswith(variable)
    assert line.endswith(".")


@pytest.mark.parametrize("variable", ["GATE_CONNECT_TIMEOUT", "GATE_QUERY_TIMEOUT"])
@pytest.mark.parametrize("text", ["1e300", "99999999999"])
def test_a_timeout_beyond_the_range_of_libpq_and_threads_is_rejected(variable: str, text: str) -> None:
    [line] = errors({variable: text})
    assert line.startswith(variable)


def test_all_invalid_settings_are_reported_together() -> None:
    wrong = dict(INVALID)
    lines = errors(wrong)
    assert len(lines) == len(wrong)
    for variable in wrong:
        assert any(line.startswith(variable) for line in lines), variable


def test_a_flag_overrides_its_variable_and_is_named_when_it_is_invalid() -> None:
    assert settings.read({"GATE_TIMEOUT": "soon"}, {"GATE_TIMEOUT": "7"}).timeout == 7
    assert errors({"GATE_TIMEOUT": "7"}, {"GATE_TIMEOUT": "soon"}) == [
        "--timeout must be a number of seconds, at least 0; got 'soon'."
    ]


@pytest.mark.parametrize(
    ("written", "setting"),
    [
        ("GATE_TIMEOT", "GATE_TIMEOUT"),
        ("GATE_TIMEOUTS", "GATE_TIMEOUT"),
        ("GATE_TIMEUOT", "GATE_TIMEOUT"),
        ("GATE_POLL_MAY", "GATE_POLL_MAX"),
        ("GATE_MIGRATION_LOCK_TIMOUT", "GATE_MIGRATION_LOCK_TIMEOUT"),
        ("GATE_ON_UNKOWN", "GATE_ON_UNKNOWN"),
        ("GATE_VERSIONTABLE", "GATE_VERSION_TABLE"),
        ("GATE_TLL", "GATE_TTL"),
        ("GATE_BYPAS", "GATE_BYPASS"),
    ],
)
def test_a_misspelled_variable_is_an_error_that_names_the_setting(written: str, setting: str) -> None:
    assert errors({written: "1"}) == [f"{written} is not a setting; did you mean {setting}?"]


@pytest.mark.parametrize(
    "variable",
    [
        "GATE_PORT",
        "GATE_SERVICE_HOST",
        "GATE_SERVICE_PORT",
        "GATE_SERVICE_PORT_HTTP",
        "GATE_PORT_8000_TCP",
        "GATE_PORT_8000_TCP_ADDR",
        "GATE_PORT_8000_TCP_PORT",
        "GATE_PORT_8000_TCP_PROTO",
        "GATE_KEEPER",
        "GATE_",
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_called_gate_are_ignored(variable: str) -> None:
    assert settings.read({variable: "tcp://10.0.0.1:8000"}) == Settings()


def test_a_variable_of_white_space_counts_as_unset() -> None:
    assert settings.read({"GATE_TIMEOT": " "}) == Settings()


OWN = sorted(name for name in KNOWN if name.startswith("GATE_"))


@given(st.sampled_from(OWN), st.data())
def test_one_edit_anywhere_after_the_prefix_is_detected(known: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(len("GATE_"), len(known) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0"))
    edits = {
        known[:at] + known[at + 1 :],
        known[:at] + letter + known[at:],
        known[:at] + letter + known[at + 1 :],
        known[:at] + known[at : at + 2][::-1] + known[at + 2 :],
    } - KNOWN
    for edited in sorted(edits):
        assert one_edit_apart(edited, known)
        assert any(f"did you mean {known}?" in line for line in errors({edited: "x"}))


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_variable_is_unset(empty: str) -> None:
    assert settings.read(dict.fromkeys(KNOWN, empty)) == Settings()


@pytest.mark.parametrize("variable", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
def test_a_value_and_its_file_together_are_an_error_unless_one_is_empty(variable: str) -> None:
    file = f"{variable}_FILE"
    assert errors({variable: URL, file: "/run/url"}) == [
        f"{variable} and {file} are both set; unset one of them.",
    ]
    attribute = variable.lower()
    assert getattr(settings.read({variable: URL, file: ""}), attribute) == UrlSource(variable, URL)
    assert getattr(settings.read({variable: "", file: "/run/url"}), attribute) == UrlSource(file, path="/run/url")


@pytest.mark.parametrize(
    "environment",
    [
        {"DATABASE_URL": f"postgresql//app:{SECRET}@db/shop"},
        {"DATABASE_URL": f"postgresql://app:{SECRET}@db:port/shop"},
        {"DATABASE_URL": f"postgresql://app:x@{SECRET}@db/shop"},
        {"DATABASE_URL": f"postgresql://app@db/shop?password={SECRET}&sslmod=1"},
        {"DATABASE_URL": f"password={SECRET} host=db"},
        {"GATE_TIMEOUT": f"postgresql://app:{SECRET}@db/shop"},
        {"GATE_LOCK": f"password={SECRET}"},
        {"RUN_MIGRATIONS": f"postgresql://app:{SECRET}@db/shop"},
    ],
)
def test_no_error_shows_a_password(environment: dict[str, str]) -> None:
    assert SECRET not in "\n".join(errors(environment))


def test_the_repr_of_settings_shows_no_password() -> None:
    url = f"postgresql://app:{SECRET}@db/shop"
    found = settings.read({"DATABASE_URL": url, "MIGRATION_DATABASE_URL": url})
    assert found.database_url == UrlSource("DATABASE_URL", url)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("environment", "skips"),
    [
        ({}, False),
        ({"GATE_BYPASS": ""}, False),
        ({"GATE_BYPASS": "0"}, False),
        ({"GATE_BYPASS": "off"}, False),
        ({"GATE_BYPASS": "1"}, True),
        ({"GATE_BYPASS": " Yes "}, True),
        ({"GATE_BYPASS": "1", **dict(INVALID[:-1])}, True),
    ],
)
def test_the_bypass_works_when_all_other_settings_are_invalid(environment: dict[str, str], *, skips: bool) -> None:
    assert settings.bypassed(environment) is skips


@pytest.mark.parametrize(
    ("environment", "flags", "stays"),
    [
        ({}, {}, False),
        ({"GATE_ON_FAILURE": "exit"}, {}, False),
        ({"GATE_ON_FAILURE": " STAY "}, {}, True),
        ({"GATE_ON_FAILURE": "exit"}, {"GATE_ON_FAILURE": "stay"}, True),
        ({"GATE_ON_FAILURE": "stay"}, {"GATE_ON_FAILURE": "exit"}, False),
        ({"GATE_ON_FAILURE": "stay", "GATE_TIMEOUT": "soon"}, {}, True),
    ],
)
def test_stay_on_failure_works_when_other_settings_are_invalid(
    environment: dict[str, str], flags: dict[str, str], *, stays: bool
) -> None:
    assert settings.stays_on_failure(environment, flags) is stays


@pytest.mark.parametrize(
    ("environment", "flags", "style"),
    [
        ({}, {}, "auto"),
        ({"GATE_LOG_FORMAT": "JSON"}, {}, "json"),
        ({"GATE_LOG_FORMAT": "console"}, {}, "console"),
        ({"GATE_LOG_FORMAT": "console"}, {"GATE_LOG_FORMAT": "json"}, "json"),
        ({"GATE_LOG_FORMAT": "xml"}, {}, "auto"),
    ],
)
def test_errors_are_reported_in_the_configured_format_if_it_is_valid(
    environment: dict[str, str], flags: dict[str, str], style: str
) -> None:
    assert settings.log_format(environment, flags) == style


def test_every_setting_is_listed_once_with_its_meaning_and_no_url_has_a_flag() -> None:
    assert len(KNOWN) == len(SETTINGS)
    flags = [setting.flag for setting in SETTINGS if setting.flag]
    assert len(set(flags)) == len(flags)
    assert all(setting.meaning for setting in SETTINGS)
    assert [s.flag for s in SETTINGS if "DATABASE_URL" in s.variable] == [""] * 4
