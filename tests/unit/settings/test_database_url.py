"""Database URLs as people write them; a password is never shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from gate import redaction
from gate.errors import BadSettings
from gate.settings import database_url
from gate.settings.database_url import DRIVER_PARAMETERS, LIBPQ_PARAMETERS

SECRET = "S3cr3tW0rd"


def conninfo(text: str) -> dict[str, str]:
    return database_url.parse(text, "DATABASE_URL").conninfo


def error(text: str) -> str:
    with pytest.raises(BadSettings) as caught:
        database_url.parse(text, "DATABASE_URL")
    return str(caught.value)


FULL = {"user": "app", "password": "pw", "host": "db", "port": "5432", "dbname": "shop"}


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql",
        "postgres",
        "PostgreSQL",
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+psycopg2cffi",
        "postgresql+psycopg_async",
        "postgresql+asyncpg",
        "postgresql+pg8000",
        "postgres+asyncpg",
        "cockroachdb+psycopg",
    ],
)
def test_the_driver_does_not_change_a_postgresql_database(scheme: str) -> None:
    url = database_url.parse(f"{scheme}://app:pw@db:5432/shop", "DATABASE_URL")
    assert url.engine in database_url.POSTGRESQL
    assert url.conninfo == FULL
    assert url.display == "db:5432/shop"
    assert url.verbatim == f"{scheme}://app:pw@db:5432/shop"


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("mysql+aiomysql://app:pw@db/shop", "mysql"),
        ("mariadb+pymysql://app:pw@db/shop", "mariadb"),
        ("sqlite:////data/shop.db", "sqlite"),
        ("sqlite+aiosqlite://", "sqlite"),
        ("oracle://app:pw@db/shop", "oracle"),
    ],
)
def test_another_engine_is_recognised_by_its_scheme(text: str, engine: str) -> None:
    url = database_url.parse(text, "DATABASE_URL")
    assert (url.engine, url.engine in database_url.POSTGRESQL, url.conninfo, url.verbatim) == (engine, False, {}, text)
    assert "pw" not in url.display + repr(url)


@pytest.mark.parametrize(
    ("password", "meant"),
    [
        ("p%25w", "p%w"),
        ("p%40w", "p@w"),
        ("p%3Aw", "p:w"),
        ("p%2Fw", "p/w"),
        ("p%40%3a%2F%25", "p@:/%"),
        ("p%w", "p%w"),
        ("100%", "100%"),
        ("p:w", "p:w"),
        ("p/w", "p/w"),
        ("p?w", "p?w"),
        ("p#w", "p#w"),
        ("p+w", "p+w"),
        ("p%2Bw", "p+w"),
        ("p w", "p w"),
        ("%C3%BC", "ü"),
        ("ü", "ü"),
    ],
)
def test_a_password_is_parsed_as_sqlalchemy_parses_it(password: str, meant: str) -> None:
    text = f"postgresql+asyncpg://app:{password}@db/shop"
    assert conninfo(text) == {"user": "app", "password": meant, "host": "db", "dbname": "shop"}
    assert sqlalchemy.make_url(text).password == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("postgresql://db/shop", {"host": "db", "dbname": "shop"}),
        ("postgresql://db", {"host": "db"}),
        ("postgresql://app@db/", {"user": "app", "host": "db"}),
        ("postgresql:///shop", {"dbname": "shop"}),
        ("postgresql://", {}),
        ("postgresql://app:@db/shop", {"user": "app", "host": "db", "dbname": "shop"}),
        ("postgresql://svc@shop.iam@db/shop", {"user": "svc@shop.iam", "host": "db", "dbname": "shop"}),
        ("postgresql://a%40b@db/s%2Fp", {"user": "a@b", "host": "db", "dbname": "s/p"}),
        ("postgresql://app@[::1]:5433/shop", {"user": "app", "host": "::1", "port": "5433", "dbname": "shop"}),
        ("postgresql://[fe80::1%25eth0]/shop", {"host": "fe80::1%eth0", "dbname": "shop"}),
        ("postgresql://a:5432,b:5433/shop", {"host": "a,b", "port": "5432,5433", "dbname": "shop"}),
        ("postgresql://a:5432,b/shop", {"host": "a,b", "port": "5432,", "dbname": "shop"}),
        ("postgresql://a,b/shop", {"host": "a,b", "dbname": "shop"}),
        ("postgresql://app@/shop?host=a:5432&host=b:5433", {"host": "a,b", "port": "5432,5433"}),
        ("postgresql:///shop?host=a,b&port=5432,5433", {"host": "a,b", "port": "5432,5433"}),
        ("postgresql:///shop?host=/var/run/postgresql", {"host": "/var/run/postgresql", "dbname": "shop"}),
        ("postgresql:///shop?host=/run/pg&port=5433", {"host": "/run/pg", "port": "5433", "dbname": "shop"}),
        ("postgresql://%2Fvar%2Frun/shop", {"host": "/var/run", "dbname": "shop"}),
        ("postgresql:///?service=shop", {"service": "shop"}),
        ("postgresql:///?user=app&dbname=shop", {"user": "app", "dbname": "shop"}),
        ("postgresql:///?username=app&database=shop", {"user": "app", "dbname": "shop"}),
        ("postgresql://db/shop?options=-c%20search_path%3Dx", {"options": "-c search_path=x"}),
        ("postgresql://db/shop?target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("postgresql://db/shop?application_name=", {"application_name": ""}),
    ],
)
def test_each_form_of_an_address_becomes_libpqs_parameters(text: str, meant: dict[str, str]) -> None:
    found = conninfo(text)
    assert {key: found.get(key) for key in meant} == meant
    assert set(found) - set(meant) <= {"user", "host", "dbname"}


@pytest.mark.parametrize(
    ("parameter", "sslmode"),
    [
        ("ssl=require", "require"),
        ("ssl=true", "require"),
        ("ssl=True", "require"),
        ("ssl=1", "require"),
        ("ssl=false", "disable"),
        ("ssl=disable", "disable"),
        ("ssl=allow", "allow"),
        ("ssl=prefer", "prefer"),
        ("ssl=verify-ca", "verify-ca"),
        ("ssl=verify-full", "verify-full"),
        ("sslmode=verify-full", "verify-full"),
        ("direct_tls=true", "require"),
        ("sslmode=verify-full&direct_tls=true", "verify-full"),
        ("direct_tls=true&ssl=verify-ca", "verify-ca"),
    ],
)
def test_the_drivers_values_for_tls_are_translated_and_never_weakened(parameter: str, sslmode: str) -> None:
    assert conninfo(f"postgresql+asyncpg://db/shop?{parameter}") == {
        "host": "db",
        "dbname": "shop",
        "sslmode": sslmode,
    }


@pytest.mark.parametrize("parameter", ["ssl=maybe", "sslmode=required", "ssl=", "sslmode=verify_full"])
def test_an_unknown_value_for_tls_is_refused(parameter: str) -> None:
    assert "ssl/sslmode must be one of" in error(f"postgresql://db/shop?{parameter}")


@pytest.mark.parametrize("parameter", sorted(DRIVER_PARAMETERS))
def test_parameters_of_drivers_are_left_out_and_stay_in_the_verbatim_url(parameter: str) -> None:
    text = f"postgresql+asyncpg://db/shop?{parameter}=0"
    url = database_url.parse(text, "DATABASE_URL")
    assert url.conninfo == {"host": "db", "dbname": "shop"}
    assert url.verbatim == text


@pytest.mark.parametrize("parameter", sorted(LIBPQ_PARAMETERS - {"host", "port", "sslmode"}))
def test_libpqs_own_parameters_are_kept(parameter: str) -> None:
    assert conninfo(f"postgresql://db?{parameter}=x")[parameter] == "x"


@pytest.mark.parametrize("parameter", ["sslmod", "ssl_mode", "hots", "pool_size", "sslroot"])
def test_an_unknown_parameter_is_refused_by_name(parameter: str) -> None:
    said = error(f"postgresql://db/shop?{parameter}=require")
    assert said.startswith("DATABASE_URL")
    assert repr(parameter) in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "db",
        "postgresql",
        "postgresql:/db",
        "//app@db/shop",
        "://db/shop",
        "host=db dbname=shop",
        "postgresql://db:port/shop",
        "postgresql://[::1/shop",
        "postgresql://::1/shop",
        "postgresql://a:b@c@db/shop",
        "postgresql://a?b@db/shop",
        "post gres://db/shop",
    ],
)
def test_text_that_is_not_a_url_is_refused_with_the_variables_name(text: str) -> None:
    said = error(text)
    assert said.startswith("DATABASE_URL")
    assert said.endswith(".")
    assert "\n" not in said


AWKWARD = [
    SECRET,
    f"{SECRET}%25",
    f"%40{SECRET}",
    f"{SECRET}:x",
    f"x/{SECRET}",
    f"x?{SECRET}",
    f"{SECRET}#",
    f"{SECRET}%",
    f"a b{SECRET}",
]


@pytest.mark.parametrize("password", AWKWARD)
@pytest.mark.parametrize(
    "form",
    [
        "postgresql+asyncpg://app:{}@db/shop",
        "mysql+pymysql://app:{}@db/shop",
        "postgresql://:{}@db/shop",
    ],
)
def test_a_password_before_the_host_is_never_shown(form: str, password: str) -> None:
    url = database_url.parse(form.format(password), "DATABASE_URL")
    assert SECRET not in repr(url) + url.display
    quoted = f"connection to {form.format(password)} failed for {url.conninfo.get('password', password)!r}"
    assert SECRET not in redaction.hide(quoted, url.secrets)


@pytest.mark.parametrize("parameter", ["password", "sslpassword"])
def test_a_password_in_the_query_is_used_and_hidden(parameter: str) -> None:
    text = f"postgresql://db/shop?user=app&{parameter}=a%40{SECRET}"
    url = database_url.parse(text, "DATABASE_URL")
    assert url.conninfo[parameter] == f"a@{SECRET}"
    assert SECRET not in repr(url) + url.display
    assert SECRET not in redaction.hide(f"{text} a@{SECRET} a%40{SECRET}", url.secrets)
    assert SECRET not in redaction.hide(text)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql//app:{SECRET}@db/shop",
        f"postgresql:/app:{SECRET}@db/shop",
        f"app:{SECRET}@db/shop",
        f"host=db password={SECRET}",
        f"postgresql://app:{SECRET}@db:port/shop",
        f"postgresql://app:x@{SECRET}@db/shop",
        f"postgresql://app:{SECRET}@x@db/shop",
        f"postgresql://app:{SECRET}@[::1/shop",
        f"postgresql://app:{SECRET}@db/shop?nonsense=1",
        f"postgresql://db/shop?password={SECRET}&nonsense=1",
        f"postgresql://db/shop?nonsense={SECRET}",
        f"postgresql://db/shop?sslmode={SECRET}",
    ],
)
def test_no_error_about_a_url_shows_any_of_its_values(text: str) -> None:
    assert SECRET not in error(text)


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql://app:{SECRET}@db/shop",
        f"could not connect to postgresql+asyncpg://app:x@{SECRET}@db/shop",
        f"url='postgresql://:{SECRET}@db' is wrong",
        f"postgresql://app:x/{SECRET}@db/shop",
        f"invalid dsn: user=app password={SECRET} host=db",
        f"invalid dsn: user=app password = '{SECRET} and more' host=db",
        f"invalid dsn: password='it\\'s {SECRET}' host=db",
        f'PASSWORD="{SECRET} x"',
        f"password: {SECRET}",
        f"connect(user='app', passwd='{SECRET}')",
        f"pwd={SECRET};server=db",
        f"sslpassword={SECRET}",
        f"/shop?user=app&password={SECRET}&x=1",
        f"{{'user': 'app', 'password': '{SECRET}'}}",
        f'{{"user": "app", "password": "{SECRET}"}}',
        f"PGPASSWORD={SECRET} psql",
        f"environment: POSTGRES_PASSWORD={SECRET}",
    ],
)
def test_an_unknown_password_is_redacted_by_its_context(text: str) -> None:
    assert SECRET not in redaction.hide(text)


@pytest.mark.parametrize(
    "statement",
    [
        f"CREATE ROLE bob LOGIN PASSWORD '{SECRET}' VALID UNTIL 'infinity'",
        f"create role bob encrypted password\n  '{SECRET}'",
        f"ALTER ROLE bob PASSWORD'{SECRET}'",
        f"ALTER ROLE bob PASSWORD 'it''s {SECRET}'",
        f"ALTER ROLE bob PASSWORD E'it\\'s {SECRET}'",
        f"ALTER ROLE bob PASSWORD 'C:\\'; ALTER ROLE eve PASSWORD '{SECRET}'",
        f"ALTER ROLE bob PASSWORD 'half'\n  '{SECRET}'",
        f"ALTER ROLE bob PASSWORD U&'{SECRET}'",
        f"ALTER ROLE bob PASSWORD $${SECRET} it's$$",
        f"ALTER ROLE bob PASSWORD $a$ $$ {SECRET}$a$",
        f'ALTER ROLE bob PASSWORD "{SECRET}"',
        f"ALTER ROLE bob PASSWORD 'cut off in {SECRET}",
        f"ALTER ROLE bob PASSWORD '{SECRET}\\",
        f"CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password '{SECRET}')",
        f"CREATE USER 'bob'@'%' IDENTIFIED BY '{SECRET}'",
        f'CREATE USER bob IDENTIFIED BY "{SECRET}"',
        f"CREATE USER bob IDENTIFIED WITH mysql_native_password BY '{SECRET}'",
        f"CREATE USER bob IDENTIFIED BY PASSWORD '{SECRET}'",
        f"CREATE USER bob IDENTIFIED VIA ed25519 USING PASSWORD('{SECRET}')",
        f"SET PASSWORD FOR 'bob'@'%' = PASSWORD('{SECRET}')",
        f"SET PASSWORD FOR 'bob'@'%' = '{SECRET}'",
        f"SET PASSWORD = '{SECRET}'",
        f"CREATE SUBSCRIPTION s CONNECTION 'host=db password={SECRET}' PUBLICATION p",
    ],
)
def test_a_password_in_a_statement_is_redacted_and_the_role_is_not(statement: str) -> None:
    for text in (statement, repr(statement), repr(statement + '"'), f"Error: x [SQL: {statement}]"):
        assert SECRET not in redaction.hide(text)
        assert statement[:10].upper() in redaction.hide(text).upper()


@pytest.mark.parametrize(
    "text",
    [
        "Can't locate revision identified by 'a1b2c3'",
        "column 'password' of table 'users' does not exist",
        'column "password" of relation "users" does not exist',
        "ALTER TABLE users ADD COLUMN password varchar(60) DEFAULT 'x'",
        "INSERT INTO t (\"password\", note) VALUES ('a', 'b')",
        "password authentication failed for user app",
        "connection to server at db, port 5432 failed: FATAL: no password supplied",
        "drift: db=a1 expected=a2",
        "see https://example.org/a:b or write to me@example.org",
        "a time like 12:30 @ noon",
    ],
)
def test_text_without_a_password_stays_readable(text: str) -> None:
    assert redaction.hide(text) == text


def test_a_known_password_is_redacted_in_every_spelling_the_longest_first() -> None:
    url = database_url.parse("postgresql://app:p%40ss%20w%2Ford@db/shop", "DATABASE_URL")
    for spelling in ("p%40ss%20w%2Ford", "p@ss w/ord", "p%40ss%20w/ord"):
        assert redaction.hide(f"<{spelling}>", url.secrets) == "<***>"
    assert redaction.hide("secretsauce", frozenset({"secret", "secretsauce"})) == "***"


def test_a_password_equal_to_the_users_name_is_not_redacted() -> None:
    url = database_url.parse("postgresql://app:app@db/app", "DATABASE_URL")
    assert redaction.hide("role app does not exist", url.secrets) == "role app does not exist"


@pytest.mark.parametrize(
    ("names", "display"),
    [
        ({"PGHOST": "db", "PGPORT": "5433", "PGDATABASE": "shop"}, "db:5433/shop"),
        ({"PGHOST": "db"}, "db"),
        ({"PGSERVICE": "shop"}, "service shop"),
        ({"PGHOST": "/run/postgresql", "PGDATABASE": "shop"}, "/run/postgresql/shop"),
    ],
)
def test_libpqs_variables_are_left_to_libpq_and_displayed(names: dict[str, str], display: str) -> None:
    url = database_url.from_environment({**names, "PGPASSWORD": SECRET})
    assert (url.conninfo, url.verbatim, url.display, url.engine) == ({}, "", display, "postgresql")
    assert SECRET not in repr(url)
    assert SECRET not in redaction.hide(f"wrong: {SECRET}", url.secrets)


PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(user=PLAIN, password=PLAIN, database=PLAIN, port=st.none() | st.integers(1, 65535))
def test_every_url_that_sqlalchemy_renders_is_parsed_back(
    user: str, password: str, database: str, port: int | None
) -> None:
    made = sqlalchemy.URL.create("postgresql+asyncpg", user, password, "db", port, "")
    written = made.render_as_string(hide_password=False)
    text = written + quote(database)
    expected = {"user": user, "password": password, "host": "db", "dbname": database}
    assert conninfo(text) == expected | ({"port": str(port)} if port else {})


@given(st.text(max_size=40))
def test_any_text_is_either_a_url_or_an_error(text: str) -> None:
    try:
        database_url.parse(text, "DATABASE_URL")
    except BadSettings as error:
        assert str(error).startswith("DATABASE_URL")


@given(st.text("ab:@/?#%&= ", max_size=12), st.sampled_from(["db", "[::1]:5", "a,b"]))
def test_no_password_is_in_any_text_about_a_url(around: str, host: str) -> None:
    text = f"postgresql://app:{around}{SECRET}@{host}/shop"
    try:
        url = database_url.parse(text, "DATABASE_URL")
    except BadSettings as error:
        assert SECRET not in str(error)
    else:
        assert SECRET not in repr(url) + url.display + redaction.hide(text, url.secrets)


@pytest.mark.parametrize("engine", ["mysql+pymysql", "postgresql"])
def test_a_port_that_is_not_a_number_is_refused_for_every_engine(engine: str) -> None:
    with pytest.raises(BadSettings, match="is not host:port"):
        database_url.parse(f"{engine}://u:S3cr3t@h:port/db", "DATABASE_URL")


BAITS = [
    *("://:", "://a@b:", "password='", "password=\"'", "pwd: ", "://a:b", "@"),
    *("password '", "password ''", "password $a$", "password $a$ $b", "password \"'", "password (", "password "),
    *("password for ", "password for x = ", "identified with x ", "identified by e'\\", "password \\", "password \\n"),
    *("password 'x' ' ", "password\n"),
]


@pytest.mark.parametrize("bait", BAITS)
def test_no_text_takes_hide_longer_than_reading_it(bait: str) -> None:
    """A quadratic pattern would take hours on so many characters, so the limit of the test detects it."""
    assert len(redaction.hide(bait * 200_000)) > 0
    for end in bait:
        assert len(redaction.hide(bait + end * 200_000)) > 0
