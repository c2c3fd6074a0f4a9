"""`gate expect` records what the models name, and an application that misbehaves does not spoil the file."""

from __future__ import annotations

import os
import stat
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.support.applications import BASE, ITEM, Application, make_application

ITEMS = {"items": ["id", "stock"]}


@pytest.fixture
def shop(tmp_path: Path) -> Application:
    return make_application(tmp_path / "app")


# ---- what is recorded


def test_it_records_heads_version_table_and_columns_without_a_database(shop: Application) -> None:
    ended = shop.expect()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "gate-expected.json: recorded 1 table with 2 columns, head a1, version table alembic_version.\n"
    )
    assert shop.recorded == {
        "version": 1,
        "heads": ["a1"],
        "version_table": {"name": "alembic_version", "schema": None},
        "tables": [{"schema": None, "name": "items", "columns": ["id", "stock"]}],
    }
    assert stat.S_IMODE(shop.file.stat().st_mode) == 0o644
    assert sorted(path.name for path in shop.folder.iterdir()) == [
        "alembic.ini",
        "gate-expected.json",
        "migrations",
        "shop",
    ]


def test_builds_are_reproducible(shop: Application, tmp_path: Path) -> None:
    tables = "\n".join(
        f"Table('t{n}', Base.metadata, *(Column(c, Integer) for c in 'zyxab'), schema='s{n % 3}')" for n in range(30)
    )
    other = make_application(tmp_path / "another folder")
    contents = set()
    for application, seed in ((shop, "1"), (shop, "2"), (other, "3")):
        application.models(ITEM + tables)
        assert application.expect(PYTHONHASHSEED=seed).code == 0
        contents.add(application.file.read_bytes())
        os.utime(application.folder / "shop" / "models.py", (0, 0))
    assert len(contents) == 1


MODELS = {
    "a column with another attribute name": (
        ITEM + '    price: Mapped[int] = mapped_column("Unit Price")\n',
        {"items": ["Unit Price", "id", "stock"]},
    ),
    "a deferred, a computed and an identity column, and a synonym": (
        ITEM
        + "    note: Mapped[str] = mapped_column(deferred=True)\n"
        + '    total: Mapped[int] = mapped_column(Computed("stock + 1"))\n'
        + "    number: Mapped[int] = mapped_column(Identity())\n"
        + '    amount = synonym("stock")\n'
        + '    one = column_property(literal_column("1").label("one"))\n',
        {"items": ["id", "note", "number", "stock", "total"]},
    ),
    "a system column": (
        ITEM + '    xmin = Column("xmin", String, system=True)\n    other = Column("ctid", String)\n',
        ITEMS,
    ),
    "a column that the mapper excludes": (
        BASE + 't = Table("t", Base.metadata, Column("id", Integer, primary_key=True), Column("old", Integer))\n'
        'class T(Base):\n    __table__ = t\n    __mapper_args__ = {"exclude_properties": ["old"]}\n',
        {"t": ["id"]},
    ),
    "an excluded column with a default, which an INSERT names": (
        BASE
        + 't = Table("t", Base.metadata, Column("id", Integer, primary_key=True), Column("n", Integer, default=1))\n'
        'class T(Base):\n    __table__ = t\n    __mapper_args__ = {"exclude_properties": ["n"]}\n',
        {"t": ["id", "n"]},
    ),
    "a table without a class": (
        ITEM + 'Table("links", Base.metadata, Column("a", Integer), Column("B", Integer), schema="Other")\n',
        ITEMS | {"Other.links": ["B", "a"]},
    ),
    "inheritance": (
        ITEM + '    kind: Mapped[str]\n    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "i"}\n'
        'class Book(Item):\n    isbn: Mapped[str | None]\n    __mapper_args__ = {"polymorphic_identity": "b"}\n'
        'class Disc(Item):\n    __tablename__ = "discs"\n    id: Mapped[int] = mapped_column(ForeignKey("items.id"), '
        'primary_key=True)\n    label: Mapped[str]\n    __mapper_args__ = {"polymorphic_identity": "d"}\n'
        'class Gift(Item):\n    __tablename__ = "gifts"\n    id: Mapped[int] = mapped_column(primary_key=True)\n'
        "    stock: Mapped[int]\n    kind: Mapped[str]\n"
        '    __mapper_args__ = {"concrete": True, "polymorphic_identity": "g"}\n',
        {"items": ["id", "isbn", "kind", "stock"], "discs": ["id", "label"], "gifts": ["id", "kind", "stock"]},
    ),
    "schemas": (
        BASE.replace("pass", 'metadata = MetaData(schema="main")')
        + 'class A(Base):\n    __tablename__ = "a"\n    id: Mapped[int] = mapped_column(primary_key=True)\n'
        'class B(Base):\n    __tablename__ = "b"\n    __table_args__ = {"schema": "Side"}\n'
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
        'Table("c", Base.metadata, Column("id", Integer), schema=BLANK_SCHEMA)\n',
        {"main.a": ["id"], "Side.b": ["id"], "c": ["id"]},
    ),
    "names that are not quoted, and a name that PostgreSQL truncates": (
        ITEM + f'Table(quoted_name("Big", quote=False), Base.metadata, Column("ID", Integer, quote=False),'
        f' Column("{"é" * 40}", Integer))\n',
        ITEMS | {"big": ["id", "é" * 31]},
    ),
    "a mapped selectable": (
        ITEM + "class Sums(Base):\n    __table__ = select(Item.id, Item.stock).subquery()\n"
        "    __mapper_args__ = {'primary_key': [__table__.c.id]}\n",
        ITEMS,
    ),
    "a relationship to a class that is nowhere": (
        ITEM + '    owner = relationship("Nobody")\n',
        ITEMS,
    ),
    "an ignored table": (
        ITEM + 'Table("ignored", Base.metadata, Column("a", Integer), info={"gate": "ignore"})\n',
        ITEMS,
    ),
}


@pytest.mark.parametrize("what", MODELS)
def test_it_records_the_names_that_queries_use_of(what: str, shop: Application) -> None:
    text, tables = MODELS[what]
    shop.models(text)
    ended = shop.expect()
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == tables


def test_a_view_is_marked_as_read_only(shop: Application) -> None:
    shop.models(ITEM + 'Table("totals", Base.metadata, Column("sum", Integer), info={"gate": "read-only"})\n')
    assert shop.expect().code == 0
    assert [t.get("read_only") for t in shop.recorded["tables"]] == [None, True]


def test_an_unknown_mark_is_a_mistake(shop: Application) -> None:
    shop.models(ITEM + 'Table("totals", Base.metadata, Column("sum", Integer), info={"gate": "readonly"})\n')
    ended = shop.expect()
    assert ended.code == 78
    assert 'Table totals has info={"gate": \'readonly\'}. The values are "ignore" and "read-only"' in ended.err


ATTRIBUTES = {
    "shop.models:Base": ITEM,
    "shop.models:Base.metadata": ITEM,
    "shop.models:Base.registry": ITEM,
    "shop.models:all_of_them": ITEM + "all_of_them = [Base.metadata, (Base,)]\n",
    "shop.models:Space.inner": ITEM + "class Space:\n    inner = Base\n",
    "shop.models:Old": (
        "from sqlalchemy import *\nfrom sqlalchemy.orm import declarative_base\nOld = declarative_base()\n"
        "class Item(Old):\n    __tablename__ = 'items'\n    id = Column(Integer, primary_key=True)\n"
        "    stock = Column(Integer)\n"
    ),
    "shop.models:db": (
        "from flask_sqlalchemy import SQLAlchemy\ndb = SQLAlchemy()\nclass Item(db.Model):\n"
        "    __tablename__ = 'items'\n    id = db.Column(db.Integer, primary_key=True)\n"
        "    stock = db.Column(db.Integer)\n"
    ),
}
ATTRIBUTES["shop.models:db.Model"] = ATTRIBUTES["shop.models:db"]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_models_can_be_named(name: str, shop: Application) -> None:
    shop.models(ATTRIBUTES[name])
    ended = shop.expect("--no-env-py", name)
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == ITEMS
    assert shop.recorded["version_table"] is None
    assert "but no version table: env.py was not run (--no-env-py)" in ended.out


def test_several_names_are_recorded_together(shop: Application) -> None:
    (shop.folder / "shop" / "more.py").write_text(ITEM.replace('"items"', '"more"'))
    assert shop.expect("shop.models:Base", "shop.more:Base").code == 0
    assert shop.tables == ITEMS | {"more": ["id", "stock"]}
    assert shop.recorded["version_table"] == {"name": "alembic_version", "schema": None}


# ---- filters


def test_excluded_names_are_left_out(shop: Application) -> None:
    shop.models(
        ITEM + "".join(f'Table("{n}", Base.metadata, Column("a", Integer), Column("b", Integer), schema={s!r})\n'
                       for n, s in (("log_1", None), ("log_2", "old"), ("keep", "old"), ("keep", None)))
    )  # fmt: skip
    ended = shop.expect("--exclude", "log_*", "--exclude", "old.keep", "--exclude", "keep.b", "--exclude", "nothing")
    assert (ended.code, ended.err) == (0, "gate: --exclude nothing matches no table and no column.\n")
    assert shop.tables == ITEMS | {"keep": ["a"]}


def test_nothing_left_is_a_mistake(shop: Application) -> None:
    ended = shop.expect("--exclude", "*")
    assert ended.code == 78
    assert "Nothing is left to record" in ended.err
    assert not shop.file.exists()


HOOKS = {
    "include_object": (
        (
            "def include_object(o, name, type_, reflected, compare_to):\n"
            "    assert not reflected and compare_to is None and (o.name == name)\n"
            "    return name not in ('secret', 'a')\n"
        ),
        ", include_object=include_object",
    ),
    "include_name": (
        (
            "def include_name(name, type_, parents):\n"
            "    if type_ == 'schema':\n        return name is None\n"
            "    if type_ == 'column':\n"
            "        assert parents['table_name'] == parents['schema_qualified_table_name']\n"
            "    return name not in ('secret', 'a')\n"
        ),
        ", include_name=include_name",
    ),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_filters_of_env_py_hold(hook: str, shop: Application) -> None:
    columns = "Column('a', Integer), Column('b', Integer)"
    shop.models(ITEM + f"Table('secret', Base.metadata, {columns})\nTable('open', Base.metadata, {columns})\n")
    before, both = HOOKS[hook]
    shop.env_py(before, both)
    ended = shop.expect()
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == ITEMS | {"open": ["b"]}


def test_a_filter_that_fails_is_named_with_its_line(shop: Application) -> None:
    shop.env_py("def include_object(*_):\n    raise LookupError('no such filter')\n", ", include_object=include_object")
    ended = shop.expect()
    assert ended.code == 78
    assert f"{shop.folder}/migrations/env.py, line 5: a filter of env.py" in ended.err
    assert "LookupError: no such filter" in ended.err


def test_a_literal_schema_translate_map_holds(shop: Application) -> None:
    shop.models(ITEM + '    __table_args__ = {"schema": "tenant"}\n')
    shop.env_py("options = {'schema_translate_map': {'tenant': 'acme'}}")
    assert shop.expect().code == 0
    assert [*shop.tables] == ["acme.items"]


def test_tables_of_a_computed_schema_are_left_out_aloud(shop: Application) -> None:
    shop.models(ITEM + 'Table("t", Base.metadata, Column("a", Integer), schema="tenant")\n')
    shop.env_py("import os\noptions = {'schema_translate_map': {'tenant': os.sep}}")
    ended = shop.expect()
    assert shop.tables == ITEMS
    assert "These tables are not recorded, since env.py computes their schema (" in ended.err
    assert "env.py, line 5: schema_translate_map={'tenant': os.sep}): t." in ended.err


# ---- the version table


def test_a_computed_version_table_is_recorded_where_both_branches_pass_it(shop: Application) -> None:
    (shop.folder / "shop" / "names.py").write_text(
        "OPTIONS = {'version_table': 'v' + '1', 'version_table_schema': 's'}\n"
    )
    shop.env_py("from shop.names import OPTIONS", both=", **OPTIONS")
    ended = shop.expect()
    assert "version table v1 in schema s." in ended.out
    assert shop.recorded["version_table"] == {"name": "v1", "schema": "s"}


DOUBTS = {
    "the online branch passes more": (
        {"online": ", version_table='other'"},
        "version_table='other' is passed by one call",
    ),
    "the branches differ": (
        {"offline": ", version_table='a'", "online": ", version_table='b'"},
        "version_table='b' is not what an earlier call passes",
    ),
    "the online branch unpacks more": (
        {"before": "from os import environ as more", "online": ", **more"},
        "**more is passed by one call of context.configure only",
    ),
    "it depends on a variable": (
        {"before": "import os", "both": ", version_table=os.environ.get('X', 'x')"},
        "depends on an environment variable",
    ),
    "it depends on a variable of before": (
        {"before": "import os\nname = os.getenv('X', 'x')", "both": ", version_table=name"},
        "depends on an environment variable",
    ),
    "it depends on -x": (
        {"both": ", version_table=context.get_x_argument(as_dictionary=True).get('t', 'x')"},
        "depends on an argument of the command line (-x)",
    ),
    "the search_path is set": (
        {"before": "SQL = 'SET search_path TO tenant'"},
        "chooses the schema where env.py is connected",
    ),
}


@pytest.mark.parametrize("what", DOUBTS)
def test_no_version_table_is_recorded_where(what: str, shop: Application) -> None:
    arguments, reason = DOUBTS[what]
    shop.env_py(**arguments)
    ended = shop.expect()
    assert ended.code == 0
    assert shop.recorded["version_table"] is None
    assert f"but no version table: {shop.folder}/migrations/env.py, line " in ended.out
    assert reason in ended.out
    assert ended.out.count("\n") == 1


def test_flask_migrate_runs_and_its_version_table_is_not_recorded(shop: Application) -> None:
    template = Path(str(import_module("flask_migrate").__file__)).parent / "templates" / "flask"
    (shop.folder / "migrations" / "env.py").write_bytes((template / "env.py").read_bytes())
    ini = (template / "alembic.ini.mako").read_text()
    (shop.folder / "migrations" / "alembic.ini").write_text(
        ini.replace("[alembic]", "[alembic]\nscript_location = %(here)s")
    )
    (shop.folder / "shop" / "web.py").write_text(
        "from flask import Flask\nfrom flask_migrate import Migrate\nfrom flask_sqlalchemy import SQLAlchemy\n"
        "app = Flask('shop')\napp.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite://'\ndb = SQLAlchemy(app)\n"
        "Migrate(app, db, version_table='flask_version')\n"
        "class Item(db.Model):\n    __tablename__ = 'items'\n    id = db.Column(db.Integer, primary_key=True)\n"
        "    stock = db.Column(db.Integer)\n"
    )
    ended = shop.expect("-c", "migrations/alembic.ini", FLASK_APP="shop.web")
    assert (ended.code, ended.err) == (0, "")
    file = shop.folder / "migrations" / "gate-expected.json"
    assert '"version_table": null' in file.read_text()
    assert '"name": "items", "columns": ["id", "stock"]' in file.read_text()
    assert "**conf_args" in ended.out


def test_env_py_configures_no_logging(shop: Application) -> None:
    """As the stock env.py does, with an ini that has no section for it."""
    shop.env_py(before="from logging.config import fileConfig\nfileConfig(context.config.config_file_name)")
    ended = shop.expect()
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == ITEMS


# ---- applications that misbehave

REPLACES_DESCRIPTORS = "import os\nos.closerange(0, 4096)\nfor _ in range(64):\n    os.open('/dev/null', os.O_RDWR)"

HARMLESS = {
    "prints": "print('{\"recorded\": {}}')",
    "prints ten megabytes": "import sys\nprint('x' * 10_000_000)\nprint('x' * 10_000_000, file=sys.stderr)",
    "prints from a forked process": "import os\nif os.fork() == 0:\n    print('hello')\n    os._exit(0)",
    "lets a forked process go on": "import os\nos.fork()",
    "leaves a daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)",
    "starts a program": "import os\nos.system('echo hello')",
    "leaves a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
    "hangs at its exit": "import atexit, time\natexit.register(time.sleep, 60)",
    "closes every descriptor": "import os\nos.closerange(0, 4096)",
    "replaces every descriptor": REPLACES_DESCRIPTORS,
    "writes to every descriptor": (
        'import os\nfor number in range(64):\n    try:\n        os.write(number, b\'{"recorded": {}}\\n{"x\')\n'
        "    except OSError:\n        pass"
    ),
    "has no standard streams": "import sys\nsys.stdout = sys.stderr = None",
    "changes folder": "import os\nos.chdir('/')",
    "replaces the command line": "import sys\nsys.argv[:] = []",
    "ignores signals": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "forgives that it cannot connect": (
        "try:\n    create_engine('postgresql://nobody@127.0.0.1:1/none').connect()\nexcept Exception:\n    pass"
    ),
    "clears the environment": "import os\nos.environ.clear()",
    "warns": "import warnings\nwarnings.warn('old')",
    "has a module like one of Python's": "import types",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_the_file_is_right_although_an_application(what: str, shop: Application) -> None:
    shop.models(f"from sqlalchemy import create_engine\n{HARMLESS[what]}\n{ITEM}")
    (shop.folder / "shop" / "types.py").write_text("raise RuntimeError('not this one')\n")
    ended = shop.expect()
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == ITEMS


def test_the_file_is_right_although_each_module_replaces_every_descriptor(shop: Application) -> None:
    """The child reports a step before each import, so it opens gate's pipe again after each of them."""
    shop.models(f"{REPLACES_DESCRIPTORS}\n{ITEM}")
    for name in ("more", "most"):
        text = f"{REPLACES_DESCRIPTORS}\n{BASE}\nTable('{name}', Base.metadata, Column('id', Integer))\n"
        (shop.folder / "shop" / f"{name}.py").write_text(text)
    ended = shop.expect("shop.models:Base", "shop.more:Base", "shop.most:Base", "--no-env-py")
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == {**ITEMS, "more": ["id"], "most": ["id"]}


IMPORT_FAILURES = {
    "a module that is missing": ("import nothing_at_all", "No module named 'nothing_at_all'", "--python PATH"),
    "a name that is missing": ("from os import nothing", "ImportError: cannot import name 'nothing' from 'os'", ""),
    "a syntax error": ("def broken(:", "SyntaxError: ", "Correct the file"),
    "an exception": ("raise ValueError('no\\nway')", "ValueError: no way", "for this command only"),
    "an exception without a text": ("raise ValueError", "fails: ValueError. Correct", ""),
    "an exception that cannot be shown": (
        "class Bad(Exception):\n    def __str__(self): raise KeyError\nraise Bad", "fails: Bad. Correct", ""
    ),
    "a group of exceptions": ("raise ExceptionGroup('both', [ValueError('first')])", "ValueError: first", ""),
    "sys.exit": ("import sys\nsys.exit(0)", "it calls sys.exit(0)", ""),
    "sys.exit with a text": ("raise SystemExit('no settings')", "it calls sys.exit(no settings)", ""),
    "an interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    "a variable that is not set": (
        "import os\nos.environ['SHOP_URL']", "KeyError: 'SHOP_URL'", "RUN SHOP_URL=postgresql://build@localhost/build "
    ),
    "an engine without a URL": (
        "import os, sqlalchemy\nsqlalchemy.create_engine(os.getenv('NOPE'))", "ArgumentError: ", "RUN DATABASE_URL="
    ),
    "a connection": (
        "import sqlalchemy\nsqlalchemy.create_engine('sqlite://').connect()",
        "this connects to a database while it is imported",
        "Connect when the application starts",
    ),
    "an asynchronous connection": (
        ("import asyncio, sqlalchemy.ext.asyncio as sa\nengine = sa.create_async_engine('postgresql+asyncpg://h/d')\n"
        "async def ping():\n    async with engine.connect(): pass\nasyncio.run(ping())"),
        "this connects to a database while it is imported",
        "Connect when the application starts",
    ),
    "endless recursion": ("def f(): f()\nf()", "RecursionError", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPORT_FAILURES)
def test_a_failing_import_is_named_with_file_and_line(what: str, shop: Application) -> None:
    code, reason, remedy = IMPORT_FAILURES[what]
    by_env_py = [*IMPORT_FAILURES].index(what) % 2 == 0  # the others are imported because they are named
    arguments = [] if by_env_py else ["--no-env-py", "shop.models:Base"]
    shop.models(f"{code}\n{ITEM}")
    ended = shop.expect(*arguments)
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith(f"gate: {shop.folder}/shop/models.py, line ")
    assert reason in ended.err
    assert remedy in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") == 1
    assert not shop.file.exists()


ENDS = {
    "import os\nos._exit(0)": "the process ended with exit code 0 before it answered",
    "import os\nos._exit(3)": "the process ended with exit code 3 before it answered",
    "import os\nos.abort()": "the process was killed by signal 6 before it answered",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)": "the process was killed by signal 9 (for lack of memory",
    "import os\nos.execv('/bin/true', ['true'])": "the process ended with exit code 0 before it answered",
}


@pytest.mark.parametrize("code", ENDS)
def test_a_process_that_ends_is_reported(code: str, shop: Application) -> None:
    shop.models(f"{code}\n{ITEM}")
    ended = shop.expect("--no-env-py", "shop.models:Base")
    assert ended.code == 78
    assert f"Importing shop.models failed: {ENDS[code]}" in ended.err
    assert not shop.file.exists()


def test_no_password_is_shown(shop: Application) -> None:
    shop.models("raise ValueError('cannot reach postgresql://shop:S3cr3tW0rd@db/shop with S3cr3tW0rd')\n")
    ended = shop.expect(DATABASE_URL="postgresql://shop:S3cr3tW0rd@db/shop")
    assert ended.code == 78
    assert "S3cr3t" not in ended.err
    assert "ValueError: cannot reach postgresql://shop:***@db/shop" in ended.err


WRONG_NAMES = {
    "nowhere:Base": "There is no module nowhere, which nowhere:Base names",
    "shop.nowhere:Base": "There is no module shop.nowhere, which shop.nowhere:Base names",
    "shop.models.deeper:Base": "There is no module shop.models.deeper, which",
    "shop.models:Bse": "There is no attribute Bse in shop.models:Bse. Correct the name; the module has Base, Empty.",
    "shop.models:Base.nothing": "There is no attribute nothing in shop.models:Base.nothing",
    "shop.models:Item": "The object shop.models:Item (DeclarativeAttributeIntercept) is no MetaData",
    "shop.models:Item.__table__": "The object shop.models:Item.__table__ (Table) is no MetaData",
    "shop.models:numbers": "The object shop.models:numbers (list) is no MetaData",
    "shop.models:nothing": "The object shop.models:nothing (list) is no MetaData",
    "shop.models:function": "The object shop.models:function (function) is no MetaData",
    "shop.models:Empty": "The MetaData has no table",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_wrong_name_is_a_mistake(name: str, shop: Application) -> None:
    shop.models(
        ITEM
        + "numbers = [1]\nnothing = []\nloop = [Base]\nloop.append(loop)\ndef function(): pass\nEmpty = MetaData()\n"
    )
    ended = shop.expect("--no-env-py", name)
    assert ended.code == 78
    assert WRONG_NAMES[name] in ended.err


@pytest.mark.parametrize("word", ["shop.models", "shop/models.py:Base", "shop.models:", ":Base", "a:b:c", "a:1", ""])
def test_a_word_that_is_no_name_is_a_usage_error(word: str, shop: Application) -> None:
    ended = shop.expect(word)
    assert ended.code == 2
    assert "is not MODULE:ATTRIBUTE, such as shop.models:Base" in ended.err


def test_without_env_py_the_models_must_be_named(shop: Application) -> None:
    ended = shop.expect("--no-env-py")
    assert ended.code == 2
    assert "--no-env-py needs the models" in ended.err


# ---- env.py that cannot be run

ENV_FAILURES = {
    "has no offline branch": (
        (
            "from alembic import context\nfrom sqlalchemy import create_engine\n"
            "with create_engine('postgresql://h/d').connect() as c:\n    context.configure(connection=c)\n"
        ),
        "line 3: env.py connects to a database, although Alembic is in offline mode",
    ),
    "has no offline branch and is asynchronous": (
        (
            "import asyncio\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
            "async def main():\n    async with create_async_engine('postgresql+asyncpg://h/d').connect(): pass\n"
            "asyncio.run(main())\n"
        ),
        "line 4: env.py connects to a database, although Alembic is in offline mode",
    ),
    "configures a connection of its own": (
        "from alembic import context\ntry:\n    context.configure(connection=object())\nexcept Exception:\n    pass\n",
        "line 3: env.py connects to a database, although Alembic is in offline mode",
    ),
    "configures nothing": ("x = 1\n", "running env.py in Alembic's offline mode does not call context.configure"),
    "refuses the offline mode": (
        "from alembic import context\nif context.is_offline_mode():\n    raise NotImplementedError('online only')\n",
        "line 3: running env.py in Alembic's offline mode fails: NotImplementedError: online only",
    ),
    "has a syntax error": ("def f(:\n", "line 1: "),
    "fails": (
        "\n\n1 / 0\n",
        "line 3: running env.py in Alembic's offline mode fails: ZeroDivisionError: division by zero",
    ),
    "ends": (
        "import sys\nsys.exit(2)\n",
        "line 2: running env.py in Alembic's offline mode fails: it calls sys.exit(2)",
    ),
    "passes no metadata": (
        "from alembic import context\ncontext.configure(url='postgresql://', target_metadata=None)\n",
        "env.py passes no MetaData to context.configure: target_metadata is None",
    ),
    "passes something else": (
        "from alembic import context\ncontext.configure(url='postgresql://', target_metadata={'a': 1})\n",
        "env.py passes no MetaData to context.configure: target_metadata is dict",
    ),
}


@pytest.mark.parametrize("what", ENV_FAILURES)
def test_the_way_round_is_named_for_an_env_py_that(what: str, shop: Application) -> None:
    text, finding = ENV_FAILURES[what]
    path = shop.folder / "migrations" / "env.py"
    path.write_text(text)
    ended = shop.expect()
    assert (ended.code, ended.out) == (78, "")
    assert str(path) in ended.err
    assert finding in ended.err
    assert "MODULE:ATTRIBUTE" in ended.err or "syntax" in ended.err.lower()
    assert "Traceback" not in ended.err
    assert not shop.file.exists()
    if "syntax" not in what:
        assert shop.expect("--no-env-py", "shop.models:Base").code == 0


@pytest.mark.parametrize("url", ["None", "'driver://user:pass@localhost/dbname'", "'nonsense'", "''"])
def test_env_py_needs_no_usable_url(url: str, shop: Application) -> None:
    (shop.folder / "migrations" / "env.py").write_text(
        "from alembic import context\nfrom shop.models import Base\nconnection = None\nif context.is_offline_mode():\n"
        f"    context.configure(url={url}, target_metadata=Base.metadata)\nelse:\n"
        "    context.configure(connection=connection, target_metadata=Base.metadata)\n"
        "with context.begin_transaction():\n    context.run_migrations()\n"
    )
    ended = shop.expect()
    assert (ended.code, ended.err) == (0, "")
    assert shop.recorded["version_table"] == {"name": "alembic_version", "schema": None}


# ---- the interpreter


def test_the_interpreter_of_the_application_need_not_have_gate(shop: Application, tmp_path: Path) -> None:
    """A virtual environment that sees this one's packages but not gate, which is installed as editable."""
    import sqlalchemy

    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (venv / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    packages = venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    for package in Path(sqlalchemy.__file__).parent.parent.iterdir():
        if package.name.split(".")[0] in {
            "alembic",
            "sqlalchemy",
            "mako",
            "markupsafe",
            "typing_extensions",
            "greenlet",
        }:
            (packages / package.name).symlink_to(package)
    shop.models("try:\n    import gate\nexcept ImportError:\n    pass\nelse:\n    raise RuntimeError(gate)\n" + ITEM)
    ended = shop.expect("--python", str(venv / "bin" / "python"))
    assert (ended.code, ended.err) == (0, "")
    assert shop.tables == ITEMS


@pytest.mark.parametrize(
    ("python", "finding"),
    [
        ("/nowhere/python", "/nowhere/python cannot be started: No such file or directory"),
        ("/bin/false", "/bin/false ended with exit code 1 before it answered"),
        ("/etc", "/etc cannot be started: Permission denied"),
    ],
)
def test_a_wrong_interpreter_is_named(python: str, finding: str, shop: Application) -> None:
    ended = shop.expect("--python", python)
    assert ended.code == 78
    assert finding in ended.err


# ---- the file


def test_check_names_what_is_stale(shop: Application) -> None:
    ended = shop.expect("--check")
    assert (ended.code, "gate-expected.json does not exist" in ended.err) == (1, True)
    assert shop.expect().code == 0
    written = shop.file.read_bytes()
    assert shop.expect("--check").code == 0
    shop.models(ITEM.replace("stock", "amount") + 'Table("t", Base.metadata, Column("a", Integer))\n')
    shop.env_py(both=", version_table='v'")
    ended = shop.expect("--check")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[1:] == [
        "gate: version table: alembic_version -> v",
        "gate: table items: added amount",
        "gate: table items: removed stock",
        "gate: table t: added",
    ]
    assert shop.file.read_bytes() == written
    shop.file.write_bytes(written[:-20])
    ended = shop.expect("--check")
    assert ended.code == 78
    assert "Run `gate expect` again" in ended.err


def test_another_file_can_be_named(shop: Application) -> None:
    assert shop.expect("--expected", "other.json").code == 0
    assert shop.expect(GATE_EXPECTED="third.json").code == 0
    assert (shop.folder / "other.json").read_bytes() == (shop.folder / "third.json").read_bytes()
    assert not shop.file.exists()
    ended = shop.expect("--expected", "off")
    assert (ended.code, "GATE_EXPECTED is off" in ended.err) == (78, True)


def test_a_link_stays_and_its_target_is_replaced(shop: Application, tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text("old")
    shop.file.symlink_to(target)
    assert shop.expect().code == 0
    assert shop.file.is_symlink()
    assert target.read_text().startswith("{")


def test_a_file_that_cannot_be_written_is_named(shop: Application) -> None:
    for path, reason in (("nowhere/x.json", "No such file or directory"), ("shop", "Is a directory"),
                         ("/dev/null", "it is not a regular file")):  # fmt: skip
        ended = shop.expect("--expected", path)
        assert ended.code == 78
        assert f"{path} cannot be written: {reason}" in ended.err
    shop.file.symlink_to("nowhere/at/all")
    assert "cannot be written: it is a symbolic link to a file that does not exist" in shop.expect().err


# ---- the file at run time


def test_a_look_with_other_heads_than_the_file_is_refused(shop: Application, database: TestDatabase) -> None:
    database.stamp("a1")
    database.execute("CREATE TABLE items (id int, stock int)")
    assert shop.expect().code == 0
    assert shop.gate("check", DATABASE_URL=database.url).code == 0
    shop.file.write_text(shop.file.read_text().replace("a1", "zz"))
    for command in (("check",), ("wait",), ("migrate",), ("run", "--", "true")):
        ended = shop.gate(*command, DATABASE_URL=database.url)
        assert ended.code == 78
        assert "was recorded for other migration scripts: for zz, while the heads of this image are a1" in ended.err
        assert "Run `gate expect` again" in ended.err
    assert shop.gate("heads").code == 0
    assert shop.gate("check", DATABASE_URL=database.url, GATE_EXPECTED="off").code == 0
    assert shop.gate("check", "--expected", "OFF", DATABASE_URL=database.url).code == 0


def test_a_file_that_the_setting_names_must_exist(shop: Application, database: TestDatabase) -> None:
    database.stamp("a1")
    ended = shop.gate("check", DATABASE_URL=database.url, GATE_EXPECTED="nowhere.json")
    assert ended.code == 78
    assert "nowhere.json cannot be read: there is no such file" in ended.err
    shop.file.symlink_to("nowhere")
    assert shop.gate("check", DATABASE_URL=database.url).code == 78


def test_the_recorded_version_table_is_used(shop: Application, database: TestDatabase) -> None:
    (shop.folder / "shop" / "names.py").write_text("OPTIONS = {'version_table': 'v1'}\n")
    shop.env_py("from shop.names import OPTIONS", both=", **OPTIONS")
    database.stamp("a1", table="v1")
    database.execute("CREATE TABLE items (id int, stock int)")
    assert shop.gate("check", DATABASE_URL=database.url).code == 78
    assert shop.expect().code == 0
    ended = shop.gate("check", DATABASE_URL=database.url)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("CURRENT")


def test_nothing_of_the_application_is_imported_at_run_time(shop: Application, database: TestDatabase) -> None:
    database.stamp("a1")
    database.execute("CREATE TABLE items (id int, stock int)")
    assert shop.expect().code == 0
    shop.models("raise RuntimeError")
    assert shop.gate("check", DATABASE_URL=database.url).code == 0
