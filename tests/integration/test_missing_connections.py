"""The search through a caller's own connection: any driver, any transaction, and a transaction stays usable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gate.database.missing import Shortfall
from gate.database.postgresql.engine import PostgresEngine
from gate.database.stamp import TableName
from gate.drift.application import ApplicationInspector
from gate.drift.models import tables_of
from gate.image.expectations import ExpectedTable
from tests.conftest import TestDatabase
from tests.support.needs import needs
from tests.support.projects import Project

ODD = ExpectedTable("50%", "größe :needs", ("id", "it's", "%s"))
DRIVERS = ["psycopg", "psycopg2", "pg8000"]


@pytest.fixture
def shop(database: TestDatabase) -> TestDatabase:
    database.stamp("a3")
    database.execute('CREATE SCHEMA "50%"; CREATE TABLE "50%"."größe :needs" (id int, "it\'s" int, sku int NOT NULL)')
    return database


@pytest.fixture(params=DRIVERS)
def engine(request: pytest.FixtureRequest, shop: TestDatabase) -> Iterator[Engine]:
    engine = create_engine(shop.url.replace("postgresql:", f"postgresql+{request.param}:"))
    yield engine
    engine.dispose()


def search(connection: Connection) -> Shortfall:
    found = PostgresEngine.read_stamp_through(connection, TableName(), needs(ODD, ExpectedTable(None, "t", ("id",))))
    assert found.shortfall is not None
    return found.shortfall


def names(found: Shortfall) -> list[str]:
    return [str(item) for item in found.items]


EXPECTED = ['"50%"."größe :needs"."%s"', '"50%"."größe :needs".sku(NOT NULL)', "t"]


def test_every_driver_searches_and_leaves_the_transaction_usable(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE mine (id int)"))
        assert names(search(connection)) == EXPECTED
        assert connection.execute(text("SELECT count(*) FROM mine")).scalar() == 0
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert names(search(connection)) == EXPECTED


def test_an_asynchronous_driver_searches_too(shop: TestDatabase) -> None:
    async def run() -> list[str]:
        engine = create_async_engine(shop.url.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            found = await connection.run_sync(search)
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
        await engine.dispose()
        return names(found)

    assert asyncio.run(run()) == EXPECTED


def test_a_read_only_transaction_and_a_snapshot_are_enough(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        assert names(search(connection)) == EXPECTED


def test_the_schemas_that_a_caller_translates_are_translated(shop: TestDatabase, project: Project) -> None:
    metadata = MetaData()
    Table("items", metadata, Column("id", Integer, primary_key=True), schema="tenant")
    Table("others", metadata, Column("id", Integer, primary_key=True))
    shop.execute("CREATE SCHEMA t7; CREATE TABLE t7.items (id int); CREATE TABLE t7.others (id int)")
    engine = create_engine(shop.url.replace("postgresql:", "postgresql+psycopg:"))
    config = str(project.folder / "alembic.ini")
    translated = engine.execution_options(schema_translate_map={"tenant": "t7", None: "t7"})
    assert ApplicationInspector(translated, config, models=metadata).inspect().drift.missing == ()
    found = ApplicationInspector(engine, config, models=metadata).inspect().drift.missing
    assert [str(item) for item in found] == ["tenant.items", "others"]
    engine.dispose()


class Base(DeclarativeBase):
    pass


class Item(Base):
    __table__ = Table(
        "items",
        Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("mapped", Integer),
        Column("left_out", Integer),
    )
    __mapper_args__ = {"exclude_properties": ["left_out"]}  # noqa: RUF012 - SQLAlchemy's interface


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column("body")


def test_of_mapped_classes_the_columns_that_queries_name_are_needed() -> None:
    assert tables_of(Base) == (
        ExpectedTable(None, "items", ("id", "mapped")),
        ExpectedTable(None, "notes", ("id", "body")),
    )
    assert tables_of(Base.registry) == tables_of(Base)
    assert tables_of([Base, Base.metadata])[0].columns == ("id", "mapped", "left_out")
