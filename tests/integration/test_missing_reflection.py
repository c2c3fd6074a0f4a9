"""What MariaDB and SQLite lack of what the models need, as their own INSERT and SELECT show it."""

from __future__ import annotations

import sqlite3
from itertools import count
from pathlib import Path

import pymysql
import pytest

from gate.image.expectations import ExpectedTable
from tests.support.mariadb import MariaDb
from tests.support.needs import ITEMS, missing

_numbers = count(1)

SQLITE_COLUMNS = {
    "it may be NULL": ("sku text", False),
    "it may not be NULL": ("sku text NOT NULL", True),
    "it has a default": ("sku text NOT NULL DEFAULT 'x'", False),
    "it is generated": ("sku int NOT NULL GENERATED ALWAYS AS (1)", False),
    "it is numbered": ("sku INTEGER PRIMARY KEY", False),
    "it is numbered and may not be NULL": ("sku INTEGER NOT NULL PRIMARY KEY", False),
    "it is a boolean": ("sku boolean NOT NULL", True),
}

MARIADB_COLUMNS = {
    "it may be NULL": ("sku text", False),
    "it may not be NULL": ("sku varchar(9) NOT NULL", True),
    "it has a default": ("sku varchar(9) NOT NULL DEFAULT ''", False),
    "it has a computed default": ("sku varchar(40) NOT NULL DEFAULT (uuid())", False),
    "it is generated": ("sku int GENERATED ALWAYS AS (1) STORED", False),
    "it is numbered": ("sku int NOT NULL AUTO_INCREMENT UNIQUE", False),
    "it is an enumeration": ("sku enum('a', 'b') NOT NULL", False),
    "it is a number": ("sku int NOT NULL", True),
    "it is a date": ("sku date NOT NULL", True),
}


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    run(path, "CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('a3')")
    return path


def run(path: Path, statements: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(statements)
    connection.close()


def test_sqlite_shows_tables_columns_and_views_without_regard_to_case(sqlite: Path) -> None:
    url = f"sqlite:///{sqlite}"
    assert missing(url, ITEMS) == ["items"]
    run(sqlite, "CREATE TABLE ITEMS (ID int, sku text NOT NULL)")
    assert missing(url, ITEMS) == ["items.name", "items.sku(NOT NULL)"]
    run(sqlite, "ALTER TABLE ITEMS ADD Name text")
    assert missing(url, ITEMS._replace(read_only=True)) == []
    run(sqlite, "CREATE VIEW shown AS SELECT id, name, sku FROM items")
    assert missing(url, ITEMS._replace(name="shown")) == []
    assert missing(url, ExpectedTable(None, 'it\'s "odd"', ("id",))) == ['"it\'s ""odd"""']


def test_an_sqlite_database_that_does_not_exist_lacks_everything(tmp_path: Path) -> None:
    assert missing(f"sqlite:///{tmp_path / 'none.db'}", ITEMS) == ["items"]
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("case", SQLITE_COLUMNS)
def test_sqlite_names_a_column_that_an_insert_would_leave_null(case: str, sqlite: Path) -> None:
    column, needs_default = SQLITE_COLUMNS[case]
    run(sqlite, f"CREATE TABLE items (id int, name text, {column})")
    assert missing(f"sqlite:///{sqlite}", ITEMS) == (["items.sku(NOT NULL)"] if needs_default else [])
    fails = False
    try:
        run(sqlite, "INSERT INTO items (id, name) VALUES (1, 'x')")
    except sqlite3.IntegrityError:
        fails = True
    assert fails is needs_default


@pytest.fixture
def shop(mariadb: MariaDb) -> str:
    name = f"shop_{next(_numbers)}"
    mariadb.execute(f"CREATE DATABASE {name}")
    mariadb.execute("CREATE TABLE alembic_version (version_num varchar(32))", name)
    mariadb.execute("INSERT INTO alembic_version VALUES ('a3')", name)
    return name


def test_mariadb_shows_tables_columns_and_views(mariadb: MariaDb, shop: str) -> None:
    url = mariadb.url(shop)
    assert missing(url, ITEMS, ITEMS._replace(schema="none")) == ["items", "none.items"]
    mariadb.execute("CREATE TABLE items (ID int)", shop)
    assert missing(url, ITEMS, ITEMS._replace(name="Items")) == ["items.name", "Items"]
    mariadb.execute("ALTER TABLE items ADD Name text, ADD sku int NOT NULL", shop)
    assert missing(url, ITEMS) == ["items.sku(NOT NULL)"]
    assert missing(url, ITEMS._replace(schema=shop)) == [f"{shop}.items.sku(NOT NULL)"]
    mariadb.execute("CREATE VIEW shown AS SELECT id, name, sku FROM items", shop)
    assert missing(url, ITEMS._replace(name="shown")) == []


@pytest.mark.parametrize("case", MARIADB_COLUMNS)
def test_mariadb_names_a_column_that_an_insert_would_leave_null(case: str, mariadb: MariaDb, shop: str) -> None:
    column, needs_default = MARIADB_COLUMNS[case]
    mariadb.execute(f"CREATE TABLE items (id int, name text, {column})", shop)
    assert missing(mariadb.url(shop), ITEMS) == (["items.sku(NOT NULL)"] if needs_default else [])
    fails = False
    try:
        mariadb.execute("INSERT INTO items (id, name) VALUES (1, 'x')", shop)
    except pymysql.Error:
        fails = True
    assert fails is needs_default


def test_a_trigger_of_mariadb_may_give_a_column_its_value(mariadb: MariaDb, shop: str) -> None:
    mariadb.execute("CREATE TABLE items (id int, name text, sku int NOT NULL)", shop)
    mariadb.execute("CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW SET NEW.sku = 1", shop)
    assert missing(mariadb.url(shop), ITEMS) == []
    mariadb.execute("DROP TRIGGER t", shop)
    mariadb.execute("CREATE TRIGGER t BEFORE UPDATE ON items FOR EACH ROW SET NEW.sku = 1", shop)
    assert missing(mariadb.url(shop), ITEMS) == ["items.sku(NOT NULL)"]


def test_a_table_that_mariadb_does_not_show_to_this_role_cannot_be_selected(mariadb: MariaDb, shop: str) -> None:
    mariadb.execute("CREATE TABLE items (id int, name text)", shop)
    mariadb.execute(f"CREATE USER u_{shop}@'127.0.0.1'")
    mariadb.execute(f"GRANT SELECT ON {shop}.alembic_version TO u_{shop}@'127.0.0.1'")
    url = mariadb.url(shop).replace("tester@", f"u_{shop}@")
    assert missing(url, ITEMS) == ["items(SELECT)"]
    assert missing(url, ITEMS, rights=False) == []
