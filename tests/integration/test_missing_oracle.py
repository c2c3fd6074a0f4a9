"""What a check names as missing is what fails: drawn models and drawn damage, and then SQLAlchemy for real.

Each case creates its tables in a transaction of the superuser, damages them, searches as the server's role, selects
every mapped column and inserts into every mapped table as that role, each in a savepoint, and is rolled back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    Computed,
    Connection,
    Engine,
    Executable,
    Identity,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    create_engine,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from demo.embedded_postgres import EmbeddedPostgres
from gate.database.missing import Kind, Missing, Needs
from gate.database.postgresql.engine import PostgresEngine
from gate.database.stamp import TableName
from gate.drift.models import tables_of
from tests.conftest import new_database

VERSIONS = (16, 18)
EXAMPLES = int(os.environ.get("GATE_TEST_EXAMPLES", "100")) // len(VERSIONS)
ROLE = "oracle_server"
SCHEMAS = (None, "app", "App Schema")
TABLE_NAMES = ("items", "Orders", "order lines", "größe", "select", 'say "hi"', "50%:x", "t" * 63)
COLUMN_NAMES = ("name", "Price", "unit price", "user", "änderung", "a.b", "c" * 63, "n:1%s")
EXTRAS = {
    "extra_null": ("text", False),
    "extra_required": ("text NOT NULL", True),
    "Extra Default": ("text NOT NULL DEFAULT 'x'", False),
    "extra_serial": ("serial", False),
    "extra_identity": ("int GENERATED ALWAYS AS IDENTITY", False),
    "extra_generated": ("int GENERATED ALWAYS AS (1) STORED", False),
    "extra_domain": ("required", True),
    "extra_based": ("based", True),
    "extra_domain_default": ("filled", False),
    "extra_overridden": ("filled DEFAULT NULL", True),
    "extra_plain": ("plain NOT NULL", True),
    "Extra Array": ("int[] NOT NULL", True),
    "extra_null_default": ("text NOT NULL DEFAULT NULL", True),
}
"""Column that the models do not know -> its definition, and whether an INSERT has to name it."""

PREPARATION = f"""
CREATE ROLE {ROLE};
CREATE SCHEMA app; CREATE SCHEMA "App Schema"; CREATE SCHEMA elsewhere; CREATE SCHEMA before;
GRANT USAGE ON SCHEMA app, "App Schema", elsewhere, before, public TO {ROLE};
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO {ROLE};
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO {ROLE};
CREATE DOMAIN required AS text NOT NULL; CREATE DOMAIN based AS required;
CREATE DOMAIN filled AS text DEFAULT 'x' NOT NULL; CREATE DOMAIN plain AS text;
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.extra_required := 'x'; RETURN NEW; END$$;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('a3');
"""

VALUES = {Integer: 1, String: "x", Boolean: True, Numeric: 1}


@pytest.fixture(scope="module", params=VERSIONS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    server = EmbeddedPostgres(version=request.param).start()
    with new_database(server) as database:
        database.execute(PREPARATION)
        url = database.url.replace("postgresql:", "postgresql+psycopg:")
        options = {"options": "-c search_path=before,public"}
        engine = create_engine(url, poolclass=NullPool, connect_args=options)
        yield engine
        engine.dispose()
    server.remove()


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Case:
    """One database with its models, and what was done to it."""

    connection: Connection
    metadata: MetaData
    views: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)

    def run(self, statement: str) -> None:
        """Run a statement as the superuser."""
        self.log.append(statement)
        self.connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def name_of(self, table: Table) -> str:
        return f"{quote(table.schema or 'public')}.{quote(table.name)}"

    def has(self, table: Table, column: Column[Any]) -> bool:
        found = self.connection.execute(
            text("SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:t) AND attname = :c"),
            {"t": self.name_of(table), "c": column.name},
        )
        return bool(found.scalar())


# ---- models


@st.composite
def tables(draw: st.DrawFn, metadata: MetaData, name: str) -> Table:
    key = draw(st.sampled_from(["serial", "identity", "given"]))
    id_ = {
        "serial": Column("id", Integer, primary_key=True),
        "identity": Column("id", Integer, Identity(always=True), primary_key=True),
        "given": Column("id", Integer, primary_key=True, autoincrement=False),
    }[key]
    columns: list[Column[Any]] = []
    for column in draw(st.lists(st.sampled_from(COLUMN_NAMES), max_size=4, unique=True)):
        kind = draw(st.sampled_from([Integer, String, Boolean, Numeric]))
        how = draw(st.sampled_from(["nullable", "required", "default", "generated"]))
        if how == "generated":
            columns.append(Column(column, Integer, Computed("1", persisted=True)))
        else:
            default = "1" if how == "default" and kind is not Boolean else None
            columns.append(Column(column, kind(), nullable=how == "nullable", server_default=default))
    schema = draw(st.sampled_from(SCHEMAS))
    partitioned = draw(st.booleans()) and key == "given"
    options: dict[str, Any] = {"postgresql_partition_by": "LIST (id)"} if partitioned else {}
    mark = draw(st.sampled_from([{}, {}, {}, {"gate": "read-only"}]))
    return Table(name, metadata, id_, *columns, schema=schema, info=mark, **options)


@st.composite
def models(draw: st.DrawFn) -> MetaData:
    metadata = MetaData()
    for name in draw(st.lists(st.sampled_from(TABLE_NAMES), min_size=1, max_size=3, unique=True)):
        draw(tables(metadata, name))
    return metadata


# ---- damage; each does nothing where it does not apply


def drop_table(case: Case, table: Table, _: Column[Any], __: str) -> None:
    case.run(f"DROP TABLE {case.name_of(table)} CASCADE")
    case.gone.add(table.key)


def rename_table(case: Case, table: Table, _: Column[Any], __: str) -> None:
    case.run(f"ALTER TABLE {case.name_of(table)} RENAME TO renamed_{len(case.log)}")
    case.gone.add(table.key)


def move_table(case: Case, table: Table, _: Column[Any], __: str) -> None:
    case.run(f"ALTER TABLE {case.name_of(table)} SET SCHEMA elsewhere")
    case.gone.add(table.key)


def drop_column(case: Case, table: Table, column: Column[Any], _: str) -> None:
    if case.has(table, column) and not (column.primary_key and is_partitioned(table)):
        case.run(f"ALTER TABLE {case.name_of(table)} DROP COLUMN {quote(column.name)} CASCADE")


def rename_column(case: Case, table: Table, column: Column[Any], _: str) -> None:
    if case.has(table, column):
        number = table.c.values().index(column)
        case.run(f"ALTER TABLE {case.name_of(table)} RENAME {quote(column.name)} TO renamed_{number}")
        if not column.nullable and column.server_default is None and column.identity is None:
            case.run(f"ALTER TABLE {case.name_of(table)} ALTER renamed_{number} SET NOT NULL")


def revoke_column(case: Case, table: Table, column: Column[Any], _: str) -> None:
    names = [quote(each.name) for each in table.c if each is not column and case.has(table, each)]
    case.run(f"REVOKE SELECT ON {case.name_of(table)} FROM {ROLE}")
    if names:
        case.run(f"GRANT SELECT ({', '.join(names)}) ON {case.name_of(table)} TO {ROLE}")


def revoke_table(case: Case, table: Table, _: Column[Any], __: str) -> None:
    case.run(f"REVOKE SELECT ON {case.name_of(table)} FROM {ROLE}")


def revoke_schema(case: Case, table: Table, _: Column[Any], __: str) -> None:
    if table.schema:
        case.run(f"REVOKE USAGE ON SCHEMA {quote(table.schema)} FROM {ROLE}")


def add_column(case: Case, table: Table, _: Column[Any], extra: str) -> None:
    unsupported = extra == "extra_identity" and is_partitioned(table)  # before PostgreSQL 17
    if not case.has(table, Column(extra)) and not unsupported:
        case.run(f"ALTER TABLE {case.name_of(table)} ADD {quote(extra)} {EXTRAS[extra][0]}")


def drop_default(case: Case, table: Table, _: Column[Any], __: str) -> None:
    if case.has(table, Column("Extra Default")):
        case.run(f'ALTER TABLE {case.name_of(table)} ALTER "Extra Default" DROP DEFAULT')


def add_trigger(case: Case, table: Table, _: Column[Any], extra: str) -> None:
    """Fill one column by a trigger; other columns that need a value would be let off with it, so there are none."""
    if any(case.has(table, Column(f"renamed_{number}")) for number in range(len(table.c))):
        return
    required = [name for name, (_, needed) in EXTRAS.items() if needed and case.has(table, Column(name))]
    if {*required} <= {"extra_required", "extra_domain", "extra_based"} and not case.has(
        table, Column("Extra Default")
    ):
        add_column(case, table, Column("id"), "extra_required")
        case.run(
            f"CREATE OR REPLACE TRIGGER t BEFORE INSERT ON {case.name_of(table)} FOR EACH ROW EXECUTE FUNCTION fill()"
        )
        case.gone.add(f"{table.key} trigger {extra}")


def add_other_trigger(case: Case, table: Table, _: Column[Any], __: str) -> None:
    case.run(f"CREATE OR REPLACE TRIGGER u BEFORE INSERT ON {case.name_of(table)} EXECUTE FUNCTION nothing()")


def replace_by_view(case: Case, table: Table, column: Column[Any], _: str) -> None:
    names = [quote(each.name) for each in table.c if each is not column and case.has(table, each)]
    below = f"below_{len(case.log)}"
    case.run(f"ALTER TABLE {case.name_of(table)} RENAME TO {below}")
    below = f"{quote(table.schema or 'public')}.{below}"
    case.run(f"CREATE VIEW {case.name_of(table)} AS SELECT {', '.join(names)} FROM {below}")
    case.views.add(table.key)


def shadow(case: Case, table: Table, column: Column[Any], _: str) -> None:
    """Create a table of the same name that comes first on the search_path."""
    if table.schema is None:
        names = ", ".join(f"{quote(each.name)} int" for each in table.c if each is not column)
        case.run(f'CREATE TABLE IF NOT EXISTS "before".{quote(table.name)} ({names})')
        case.views.add(table.key)


DAMAGE: list[Callable[[Case, Table, Column[Any], str], None]] = [
    drop_table, rename_table, move_table, drop_column, rename_column, revoke_column, revoke_table, revoke_schema,
    add_column, add_column, add_column, drop_default, add_trigger, add_other_trigger, replace_by_view, shadow,
]  # fmt: skip

NUMBER = st.integers(0, 20)
DAMAGES = st.lists(st.tuples(st.sampled_from(DAMAGE), NUMBER, NUMBER, st.sampled_from([*EXTRAS])), max_size=5)


def is_partitioned(table: Table) -> bool:
    return bool(table.dialect_options["postgresql"]["partition_by"])


def create(case: Case) -> None:
    case.run("SET LOCAL search_path = public")
    case.metadata.create_all(case.connection)
    case.run("SET LOCAL search_path = before, public")
    for number, table in enumerate(case.metadata.sorted_tables):
        if is_partitioned(table):
            case.run(f"CREATE TABLE part_{number} PARTITION OF {case.name_of(table)} DEFAULT")


def damage(case: Case, damages: list[tuple[Callable[..., None], int, int, str]]) -> None:
    present = [*case.metadata.sorted_tables]
    for do, which, column, extra in damages:
        table = present[which % len(present)]
        has_trigger = any(key.startswith(f"{table.key} trigger") for key in case.gone)
        if table.key in case.gone | case.views or (has_trigger and do in {add_column, rename_column, drop_column}):
            continue
        do(case, table, [*table.c][column % len(table.c)], extra)


# ---- the oracle


@contextmanager
def as_server(connection: Connection) -> Iterator[None]:
    """Run the block as the server's role, and undo what it does."""
    savepoint = connection.begin_nested()
    connection.exec_driver_sql(f"SET LOCAL ROLE {ROLE}")
    try:
        yield
    finally:
        savepoint.rollback()


def fails(connection: Connection, statement: Executable) -> str:
    """Run a statement as the server's role; return its SQLSTATE, "" if it works."""
    try:
        with as_server(connection):
            connection.execute(statement)
    except DBAPIError as error:
        return str(error.orig.sqlstate)  # type: ignore[union-attr]
    return ""


def inserted(table: Table) -> list[Column[Any]]:
    """Return the columns that an INSERT names."""
    own = [c for c in table.c if c.computed is None and c.identity is None]
    return [c for c in own if not (c.primary_key and c.autoincrement is not False)]


def insert_of(table: Table, *, without: Collection[str] = ()) -> Executable:
    named = [c for c in inserted(table) if c.name not in without]
    return insert(table).values({c: VALUES[type(c.type)] for c in named}).inline()


def search(case: Case) -> list[Missing]:
    with as_server(case.connection):
        stamp = PostgresEngine.read_stamp_through(case.connection, TableName(), Needs(tables_of(case.metadata)))
    assert stamp.shortfall is not None
    assert stamp.shortfall.total == len(stamp.shortfall.items)
    return list(stamp.shortfall.items)


def check_selects(case: Case, table: Table, items: list[Missing]) -> None:
    whole = any(item.column is None for item in items)
    named = {item.column for item in items if item.kind in {Kind.COLUMN, Kind.SELECT}}
    for column in table.c:
        failed = bool(fails(case.connection, select(column).limit(1)))
        assert failed is (whole or column.name in named), f"{column} of {table}: {items}"


def check_inserts(case: Case, table: Table, items: list[Missing]) -> None:
    if table.key in case.views:
        assert not [item for item in items if item.kind is Kind.DEFAULT]
        return
    absent = {item.column for item in items if item.kind is Kind.COLUMN}
    statement = insert_of(table, without={str(name) for name in absent})
    if any(item.kind in {Kind.TABLE, Kind.USAGE} for item in items):
        assert fails(case.connection, statement)
        return
    if absent & {column.name for column in inserted(table)}:
        assert fails(case.connection, insert_of(table))
    required = {item.column for item in items if item.kind is Kind.DEFAULT}
    if table.info:
        assert not required
        return
    for one in required:
        assert repaired(case, table, required - {one}, statement), f"{one} of {table} is named, and an INSERT works"
    assert not repaired(case, table, required, statement), f"an INSERT into {table} fails, and gate names {items}"


def repaired(case: Case, table: Table, columns: set[str | None], statement: Executable) -> str:
    """Give these columns a value by default, and return how the INSERT fails then."""
    savepoint = case.connection.begin_nested()
    try:
        for column in columns:
            name, kind = case.name_of(table), "'{}'" if column == "Extra Array" else "'1'"
            case.connection.exec_driver_sql(
                f"ALTER TABLE {name} ALTER {quote(str(column))} SET DEFAULT {kind}",
                execution_options={"no_parameters": True},
            )
        return fails(case.connection, statement)
    finally:
        savepoint.rollback()


@pytest.mark.filterwarnings("ignore:Column .* is marked as a member of the primary key")
def test_what_is_named_is_what_fails(engine: Engine) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), derandomize=False
    )
    @given(metadata=models(), damages=DAMAGES)
    def judge(metadata: MetaData, damages: list[tuple[Callable[..., None], int, int, str]]) -> None:
        with engine.connect() as connection:
            case = Case(connection, metadata)
            create(case)
            damage(case, damages)
            hypothesis.note("; ".join(case.log))
            items = search(case)
            for table in metadata.sorted_tables:
                own = [i for i in items if i.table == table.name and (i.schema == table.schema or i.kind is Kind.USAGE)]
                check_selects(case, table, own)
                check_inserts(case, table, own)
            connection.rollback()

    judge()
