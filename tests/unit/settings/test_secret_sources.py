"""Passwords that only libpq, env.py or an upgrade command reads are learned where there is foreign text to redact."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.settings import secret_sources
from gate.settings.secret_sources import secrets_around, secrets_in_command, secrets_in_urls

SECRET = "S3cr3t-W0rd"


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path) -> Iterator[None]:
    environment, arguments = dict(os.environ), sys.argv
    sys.argv = ["gate"]
    os.environ.clear()
    os.environ["HOME"] = str(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments


@pytest.mark.parametrize(
    ("line", "password"),
    [
        (f"db:5432:shop:app:{SECRET}", SECRET),
        (f"*:*:*:*:{SECRET}", SECRET),
        (f"db\\:1:5432:shop:app:{SECRET}", SECRET),
        ("db:5432:shop:app:a\\:b\\\\c", "a:b\\c"),
        (f"# a comment\n\ndb:5432:shop:app:{SECRET}", SECRET),
    ],
)
@pytest.mark.parametrize("place", ["PGPASSFILE", "passfile", ".pgpass", "service"])
def test_passwords_of_a_passfile_are_learned(tmp_path: Path, line: str, password: str, place: str) -> None:
    path = tmp_path / (".pgpass" if place == ".pgpass" else "pass")
    path.write_text(line + "\n")
    urls = [{"passfile": str(path)}] if place == "passfile" else []
    if place == "PGPASSFILE":
        os.environ["PGPASSFILE"] = str(path)
    if place == "service":
        (tmp_path / ".pg_service.conf").write_text(f"[shop]\nhost=db\npassfile={path}\n")
    assert password in secrets_around(urls=urls)


@pytest.mark.parametrize("place", ["PGSERVICEFILE", "servicefile", ".pg_service.conf", "PGSYSCONFDIR"])
def test_passwords_of_a_service_file_are_learned(tmp_path: Path, place: str) -> None:
    path = tmp_path / (".pg_service.conf" if place == ".pg_service.conf" else "pg_service.conf")
    path.write_text(f"[shop]\nhost=db\npassword={SECRET}\nsslpassword=other-{SECRET}\n")
    if place.startswith("PG"):
        os.environ[place] = str(tmp_path if place == "PGSYSCONFDIR" else path)
    urls = [{"servicefile": str(path)}] if place == "servicefile" else []
    assert {SECRET, f"other-{SECRET}"} <= secrets_around(urls=urls)


@pytest.mark.parametrize(
    "text",
    [
        f"[alembic]\nsqlalchemy.url = postgresql://app:{SECRET}@db/shop\n",
        f"[other]\nurl = postgresql://app:{SECRET.replace('-', '%%2D')}@db/shop\n",
        f"no ini file: postgresql://app:{SECRET}@db/shop",
    ],
)
def test_passwords_of_the_alembic_configuration_are_learned(tmp_path: Path, text: str) -> None:
    (tmp_path / "alembic.ini").write_text(text)
    assert SECRET in secrets_around([str(tmp_path / "alembic.ini")])


def test_the_url_that_alembic_init_writes_holds_no_secret() -> None:
    assert secrets_in_urls("sqlalchemy.url = driver://user:pass@localhost/dbname") == frozenset()


def test_a_password_that_is_also_the_user_or_the_database_is_no_secret() -> None:
    assert secrets_in_urls("postgresql://app:app@db/shop\npostgresql://app:shop@db/shop?x=y") == frozenset()


@pytest.mark.parametrize(
    "words",
    [
        ["mysql", f"-p{SECRET}", "shop"],
        ["/usr/bin/mariadb", "-u", "app", f"-p{SECRET}"],
        ["mysqldump", "-uapp", f"--password={SECRET}"],
        ["migrate", "--db-password", SECRET],
        ["migrate", "-password", SECRET],
        ["sh", "-c", f"mysql -p'{SECRET}' shop < x.sql"],
        ["sh", "-c", f"PGPASSWORD={SECRET} psql -f x.sql"],
        ["sh", "-c", f"mysql -p{SECRET} 'unclosed"],
        ["env", f"PGPASSWORD={SECRET}", "psql"],
        ["psql", f"host=db user=app password={SECRET}"],
        ["psql", f"host=db password='{SECRET}'"],
        ["psql", f"postgresql://app:{SECRET}@db/shop"],
        ["flyway", f"-password={SECRET}"],
        ["sshpass", f"-p{SECRET}", "ssh", "db"],
    ],
)
def test_passwords_of_a_command_are_learned(words: list[str]) -> None:
    assert SECRET in secrets_in_command(words)
    sys.argv = ["gate", "run", "--", *words]
    assert SECRET in secrets_around()


@pytest.mark.parametrize("words", [["psql", "-p5432"], ["alembic", "upgrade", "heads"], ["x", "--password"], []])
def test_a_command_without_a_password_has_no_secret(words: list[str]) -> None:
    assert secrets_in_command(words) == frozenset()


@pytest.mark.parametrize("name", ["PGPASSWORD", "POSTGRES_PASSWORD", "MYSQL_PWD", "db_password", "APP_PASSPHRASE"])
def test_passwords_of_the_environment_are_learned(name: str) -> None:
    os.environ[name] = SECRET
    assert SECRET in secrets_around()


def test_passwords_of_urls_and_secret_files_that_the_environment_names_are_learned(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    os.environ["POSTGRES_PASSWORD_FILE"] = str(tmp_path / "secret")
    os.environ["REDIS_URL"] = f"redis://:other-{SECRET}@cache:6379/0"
    assert {SECRET, f"other-{SECRET}"} <= secrets_around()


@pytest.mark.parametrize("other", ["DB_PASS", "OTHER", "GATE_TIMEOUT", "APP_TOKEN"])
def test_a_password_that_another_variable_repeats_is_learned(other: str) -> None:
    os.environ.update({"DB_PASSWORD": SECRET, other: SECRET})
    assert SECRET in secrets_around()


@pytest.mark.parametrize("other", ["PGUSER", "POSTGRES_DB", "APP_NAME", "db_host"])
def test_a_password_that_is_also_the_name_of_something_is_not_learned(other: str) -> None:
    os.environ.update({"DB_PASSWORD": SECRET, other: SECRET})
    assert SECRET not in secrets_around()


def test_what_only_looks_like_a_password_is_not_learned() -> None:
    os.environ.update(ALLOW_EMPTY_PASSWORD="yes", PGUSER="app", PGPASSWORD="app", PWD="/srv/app", OLDPWD="/srv")
    assert secrets_around() == frozenset()


def test_a_file_that_cannot_be_read_delays_nothing_and_raises_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"\xff" * (secret_sources.MAX_FILE_SIZE + 1))
    names = ("pipe", "large", "", "missing", "\0")
    urls = [{"passfile": str(tmp_path / name), "servicefile": str(tmp_path / name)} for name in names]
    assert secrets_around([str(tmp_path / name) for name in names], urls) == frozenset()
