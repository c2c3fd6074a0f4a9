"""A URL has one reading, SQLAlchemy's: gate connects where the driver of the same URL would, with the same password.

The reference is `create_connect_args` of each PostgreSQL dialect, and what the driver itself makes of no address.
"""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy
from hypothesis import example, given
from hypothesis import strategies as st

from gate.errors import BadSettings
from gate.settings import database_url

DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000")
NAMES = st.sampled_from(["app", "svc@shop.iam", "a%40b", "100%", "a+b", "é", "a b", "", "h"])
PASSWORDS = st.sampled_from(["", ":", ":pw", ":p:w", ":p/w", ":p?w", ":p%40w", ":p%", ":p+w", ":p#w", ":5432/shop?x=1"])
HOSTS = st.sampled_from(["db", "127.0.0.1", "[::1]", "[fe80::1%25eth0]", "db.example", "a,b", "", "%2Frun%2Fpg", "d_b"])
PORTS = st.sampled_from(["", "", ":", ":5433", ":0", ":05433", ":x", ":70000", ":5432,b:5433", ":\u0665"])
DATABASES = st.sampled_from(["", "/", "/shop", "/s%2Fp", "/a@b", "/a b", "/a/b", "/é"])
VALUES = {
    "host": [
        "db2",
        "/run/pg",
        "/run/pg/.s.PGSQL.5433",
        "a,b",
        "a,b:1",
        "db2:5434",
        "db2:",
        ":5434",
        "::1",
        "[::1]",
        "",
    ],
    "port": ["5434", "1,2", "", "x", "0", "1,", " 1"],
    "user": ["bob", "b@c", ""],
    "password": ["pw2", "p%26w", "p+w", ""],
    "dbname": ["other", ""],
    "database": ["other", ""],
    "unix_sock": ["/run/pg/.s.PGSQL.5433", "/run/pg/socket", ".s.PGSQL.1", ""],
    "sslmode": ["require"],
    "connect_timeout": ["3"],
}
PARAMETERS = st.lists(
    st.sampled_from([*VALUES, "host", "host", "port"]).flatmap(
        lambda key: st.sampled_from(VALUES[key]).map(lambda value: f"{key}={value}")
    ),
    max_size=3,
).map(lambda parameters: f"?{'&'.join(parameters)}" if parameters else "")
URLS = st.builds(
    lambda user, host, port, database, query: f"{user}{host}{port}{database}{query}",
    st.just("") | st.builds("{}{}@".format, NAMES, PASSWORDS),
    HOSTS,
    PORTS,
    DATABASES,
    PARAMETERS,
)


def dialect_reads(text: str) -> dict[str, Any] | None:
    """What the dialect hands to its driver; None if it refuses the URL."""
    try:
        url = sqlalchemy.make_url(text)
        _, arguments = url.get_dialect()().create_connect_args(url)
    except (sqlalchemy.exc.ArgumentError, ValueError, AssertionError):
        return None
    return dict(arguments)


def as_libpq(arguments: dict[str, Any], driver: str) -> dict[str, str]:
    """The same address in libpq's words, as each driver's documentation describes its arguments."""

    def joined(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    database = "dbname" if driver.startswith("psycopg") else "database"
    keys = {"host": "host", "port": "port", "user": "user", "password": "password", database: "dbname"}
    meant = {libpq: joined(arguments[own]) for own, libpq in keys.items() if arguments.get(own)}
    path = arguments.get("unix_sock") if driver == "pg8000" else None
    if driver == "asyncpg" and "/.s.PGSQL." in meant.get("host", ""):
        path = meant["host"]
    if path:
        folder, _, name = path.rpartition("/")
        meant |= {"host": folder, "port": name.removeprefix(".s.PGSQL.")}
    if driver == "pg8000":
        meant = {"host": "localhost", "port": "5432", **({"dbname": meant["user"]} if "user" in meant else {})} | meant
    return meant


@given(driver=st.sampled_from(DRIVERS), rest=URLS)
@example("psycopg", "postgres@127.0.0.1:5432/shop?host=/run/pg")
@example("asyncpg", "app@a/shop?host=a:1&host=b:2")
@example("psycopg", "app@a:5431/shop?host=a,b")
@example("pg8000", "app:x@/shop?unix_sock=/run/pg/.s.PGSQL.5433")
@example("psycopg2", "svc@shop.iam:pw@db:5432/shop")
@example("psycopg", "app@a,b:5432/shop")
def test_gate_connects_where_the_dialect_would_or_refuses_the_url(driver: str, rest: str) -> None:
    text = f"postgresql+{driver}://{rest}"
    try:
        url = database_url.parse(text, "DATABASE_URL")
    except BadSettings as error:
        assert str(error).startswith("DATABASE_URL")
        return
    arguments = dialect_reads(text)
    if arguments is None:
        assert url.sqlalchemy_spelling, "what SQLAlchemy refuses is not migrated through it"
    elif not url.sqlalchemy_spelling:
        address: dict[str, str] = {
            key: url.conninfo[key] for key in ("host", "port", "user", "password", "dbname") if key in url.conninfo
        }
        foreign = {"dbname", "unix_sock"} if driver == "asyncpg" else {"dbname"} if driver == "pg8000" else {"database"}
        if not foreign & arguments.keys():  # the driver refuses a parameter of another one
            assert normal(address) == normal(as_libpq(arguments, driver))


def normal(address: dict[str, str]) -> dict[str, str]:
    ports = [str(int(port)) if port else "" for port in address.get("port", "").split(",")]
    return address | ({"port": ",".join(ports)} if any(ports) else {})


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("postgresql://a:5432,b:5433/shop", "host=a,b&port=5432,5433"),
        ("postgresql://a:5432,b/shop", "host=a,b&port=5432,"),
        ("postgresql+asyncpg://a:1,b:2/shop", "host=a,b&port=1,2"),
        ("postgresql://%2Frun%2Fpg/shop", "host=/run/pg"),
    ],
)
def test_the_spelling_that_is_offered_leads_sqlalchemy_to_the_same_address(text: str, spelling: str) -> None:
    url = database_url.parse(text, "DATABASE_URL")
    assert url.sqlalchemy_spelling.endswith(spelling)
    again = database_url.parse(url.sqlalchemy_spelling, "DATABASE_URL")
    assert again.sqlalchemy_spelling == ""
    assert {key: again.conninfo.get(key) for key in ("host", "port")} == {
        key: url.conninfo.get(key) for key in ("host", "port")
    }


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("postgresql://db/shop?host=a:1,b:2", "host=a:1&host=b:2"),
        ("postgresql://db/shop?host=a:1&host=b:2&port=3", "host=a,b&port=1,2"),
        ("postgresql://db/shop?host=a,b&port=1,2,3", "as many ports as hosts"),
        ("postgresql://db/shop?user=a&user=b", "'user' more than once"),
        ("postgresql+pg8000://db/shop?host=/run/pg", "unix_sock=/FOLDER/.s.PGSQL.5432"),
        ("postgresql+pg8000://u@/shop?unix_sock=/run/pg/other", ".s.PGSQL.5432"),
        ("postgresql+asyncpg://db/shop?unix_sock=/run/pg/.s.PGSQL.5432", "host=/FOLDER"),
        ("postgresql://db:70000/shop", "1 to 65535"),
        ("postgresql://h:5432/shop?user=a@b", "%40"),
        ("postgresql://h?user=a@b", "%40"),
    ],
)
def test_an_address_that_no_driver_takes_is_refused_with_its_remedy(text: str, remedy: str) -> None:
    with pytest.raises(BadSettings) as caught:
        database_url.parse(text, "DATABASE_URL")
    assert str(caught.value).startswith("DATABASE_URL")
    assert remedy in str(caught.value)
