"""The process that executes the application's code for `gate expect`: `python gate/expect/child.py PIPE REQUEST`.

It runs env.py in Alembic's offline mode and imports the models, in the application's interpreter. That interpreter need
not have gate: this file uses the standard library, Alembic and SQLAlchemy only, and runs on any Python that they
support. It opens no connection, and lets SQLAlchemy open none. REQUEST is a JSON object (`recorder.Request`). PIPE is
the descriptor to which it reports each step and, last, the answer, one JSON object per line. It answers with facts;
`failures` makes sentences of them.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import json
import logging.config
import os
import signal
import sys
import sysconfig
import traceback
import warnings
from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

MAX_TEXT_LENGTH = 20_000
"""Characters of an error that are reported; gate shortens them further after it has redacted the passwords."""

MAX_NESTING = 10
"""Sequences within sequences that may contain a MetaData, and causes of an error that are followed."""

MAX_FRAMES = 1000
"""The innermost frames of an error that are reported."""

MAX_POSTGRESQL_NAME = 63
"""Bytes to which PostgreSQL truncates a name (NAMEDATALEN)."""

POSTGRESQL_SYSTEM_COLUMNS = frozenset(["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"])
"""Columns that every table of PostgreSQL has (ddl-system-columns)."""

REFUSED = "gate expect connects to no database"
"""The text of the error for a connection."""


class Failure(BaseException):
    """What cannot be recorded; `fields` are its facts.

    Derives from BaseException so that env.py's `except Exception` does not swallow it.
    """

    def __init__(self, kind: str, **fields: Any) -> None:
        super().__init__(kind)
        self.fields = {"kind": kind, **fields}


class NotOffline(BaseException):
    """env.py has configured a connection in offline mode."""


class TimeLimit(BaseException):
    """The time limit is over."""


@contextlib.contextmanager
def executing(kind: str, **fields: Any) -> Iterator[None]:
    """Raise `Failure` for any error of the application's code, SystemExit, too."""
    try:
        yield
    except Failure:
        raise
    except BaseException as error:  # noqa: BLE001 - the application may raise anything; all of it is reported
        raise Failure(kind, error=facts(error), **fields) from None


def facts(error: BaseException) -> dict[str, Any]:
    """Return the class and the text of an error, its frames, and what `failures` needs to know of it."""
    frames = _frames(error)
    while isinstance(error, getattr(builtins, "BaseExceptionGroup", ())):  # as asyncio.TaskGroup raises one
        error = error.exceptions[0]  # type: ignore[attr-defined] # Python 3.11
        frames += _frames(error)
    original = getattr(error, "orig", None) or error
    if isinstance(error, SyntaxError) and error.filename and os.path.exists(error.filename):
        frames.append([error.filename, error.lineno or 1])
    return {
        "type": type(original).__name__,
        "kinds": [each.__name__ for each in type(error).__mro__],
        "text": _text(original)[:MAX_TEXT_LENGTH],
        "argument": _text(error.args[0])[:MAX_TEXT_LENGTH] if error.args else "",
        "module": str(getattr(error, "name", None) or ""),
        "frames": frames[-MAX_FRAMES:],
        "refused": _is_refused(error),
    }


def _frames(error: BaseException) -> list[list[Any]]:
    return [[frame.f_code.co_filename, line] for frame, line in traceback.walk_tb(error.__traceback__)]


def _text(value: object) -> str:
    try:
        return " ".join(str(value).split())
    except Exception:  # noqa: BLE001 - an application's __str__ may raise anything
        return ""


def _is_refused(error: BaseException | None) -> bool:
    """Whether gate has refused a connection, which has raised the error or led to it."""
    for _ in range(MAX_NESTING):
        if error is not None:
            if getattr(error, "refused_by_gate", False):
                return True
            error = error.__cause__ or error.__context__
    return False


class Pipe:
    """The pipe to gate, which works even if the application closes or replaces every descriptor, again and again.

    `number`: of the descriptor in gate and, at first, in this process. A copy of `gate.descriptors`, which an
    interpreter without gate cannot import.
    """

    def __init__(self, number: int, token: str) -> None:
        self._number = self._descriptor = number
        self._token, self._process, self._gate = token, os.getpid(), os.getppid()
        self._identity = self._identify()

    def send(self, **fields: Any) -> None:
        """Write one line; not from a process that the application has forked."""
        if os.getpid() != self._process:
            return
        # The line break ends what the application may have written to the pipe.
        line = b"\n" + json.dumps({"token": self._token, **fields}).encode() + b"\n"
        while line:
            line = line[os.write(self._get(), line) :]

    def _get(self) -> int:
        if self._identity is None or self._identify() != self._identity:
            self._descriptor = os.open(f"/proc/{self._gate}/fd/{self._number}", os.O_WRONLY)
        return self._descriptor

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return None
        return status.st_dev, status.st_ino


class Mappers:
    """Collects all mappers, and refuses every connection of SQLAlchemy."""

    def __init__(self) -> None:
        from sqlalchemy import event  # noqa: PLC0415 - an interpreter without it is reported
        from sqlalchemy.engine import Engine  # noqa: PLC0415 - likewise
        from sqlalchemy.exc import OperationalError  # noqa: PLC0415 - likewise
        from sqlalchemy.orm import Mapper  # noqa: PLC0415 - likewise

        self._mappers: list[Any] = []
        self._error = OperationalError
        event.listen(Mapper, "instrument_class", lambda mapper, _: self._mappers.append(mapper))
        event.listen(Engine, "do_connect", self._refuse)

    def _refuse(self, *_: Any) -> NoReturn:
        error: Any = self._error("connect", None, ConnectionRefusedError(REFUSED))
        error.refused_by_gate = True
        raise error

    def named_columns(self, table: Any) -> list[Any]:
        """Return the columns that queries and INSERTs of the table's mapped classes name; without a class, all."""
        columns = [column for column in table.columns if not column.system]
        mappers = [mapper for mapper in self._mappers if table in mapper.tables]
        if not mappers:
            return columns
        # An INSERT also names a column with a default of SQLAlchemy's that no class maps.
        return [c for c in columns if c.default is not None or any(_maps(mapper, c) for mapper in mappers)]


def _maps(mapper: Any, column: Any) -> bool:
    from sqlalchemy.orm.exc import UnmappedColumnError  # noqa: PLC0415 - likewise

    try:
        mapper.get_property_by_column(column)
    except UnmappedColumnError:
        return False
    return True


# ---- env.py


class Context:
    """What one call of `context.configure` has configured."""

    def __init__(self, context: Any, url: object, *, knows_dialect: bool) -> None:
        options = context.opts
        self.version_table, self.version_table_schema = context.version_table, context.version_table_schema
        self.metadata = options.get("target_metadata")
        self.url = str(url or "")
        self.dialect = context.dialect.name if knows_dialect else ""
        self._include_name, self._include_object = options.get("include_name"), options.get("include_object")
        self._schemas = bool(options.get("include_schemas"))

    def includes_table(self, table: Any) -> bool:
        """Ask env.py's filters as Alembic's autogenerate does (`AutogenContext.run_name_filters`)."""
        if self._include_name:
            names = {"schema_name": table.schema, "schema_qualified_table_name": table.fullname}
            if (self._schemas or table.schema is None) and not self._include_name(table.schema, "schema", {}):
                return False
            if not self._include_name(table.name, "table", names):
                return False
        return not self._include_object or bool(self._include_object(table, table.name, "table", False, None))  # noqa: FBT003 - Alembic's interface

    def includes_column(self, table: Any, column: Any) -> bool:
        """Ask the filters about one column."""
        if self._include_name:
            names = {"schema_name": table.schema, "table_name": table.name}
            names["schema_qualified_table_name"] = table.fullname
            if not self._include_name(column.name, "column", names):
                return False
        return not self._include_object or bool(self._include_object(column, column.name, "column", False, None))  # noqa: FBT003 - likewise


def run_env_py(request: dict[str, Any]) -> list[Context]:
    """Run env.py in offline mode and return the contexts that it configures."""
    try:
        from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - not needed with --no-env-py
        from alembic.script import ScriptDirectory  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise Failure("library", library="alembic", error=facts(error)) from None
    with executing("configuration"):
        config = _config(request)
        directory = ScriptDirectory.from_config(config)
    environment = EnvironmentContext(
        config, directory, fn=lambda *_: [], as_sql=True, starting_rev=None, destination_rev="heads", tag=None
    )
    contexts = _record_contexts(environment)
    # The stock env.py configures logging from the ini, which may have no such section, or a file that no build has.
    logging.config.fileConfig = lambda *_, **__: None
    with environment:
        if request["flask"]:
            _push_flask_context()
        try:
            with executing("env.py"):
                directory.run_env()
        except Failure as failure:
            failure.fields["configured"] = "NotOffline" in failure.fields["error"]["kinds"]
            raise
    if not contexts:
        raise Failure("not configured")
    return contexts


def _config(request: dict[str, Any]) -> Any:
    """Return the configuration as `alembic upgrade heads --sql` has it."""
    from alembic import command  # noqa: PLC0415 - not needed with --no-env-py
    from alembic.config import Config  # noqa: PLC0415 - likewise

    options = Namespace(
        config=[request["ini"]], name=request["section"], x=request["x"] or None, raiseerr=False, quiet=False,
        verbose=False, cmd=(command.upgrade, ["revision"], ["sql", "tag"]), revision="heads", sql=True, tag=None,
    )  # fmt: skip
    arguments: dict[str, Any] = {"ini_section": request["section"], "cmd_opts": options}
    arguments.update(stdout=io.StringIO(), output_buffer=io.StringIO())
    try:
        return Config(request["ini"], toml_file=request["toml"], **arguments)
    except TypeError:  # Alembic before 1.16 reads no TOML
        return Config(request["ini"], **arguments)


def _record_contexts(environment: Any) -> list[Context]:
    """Let `context.configure` record what it configures, and `context.run_migrations` do nothing.

    `alembic.context` is a proxy for the methods of this object, so a subclass's would not be called.
    """
    contexts: list[Context] = []
    configure = environment.configure

    def record(connection: Any = None, url: Any = None, dialect_name: Any = None, *rest: Any, **options: Any) -> None:
        if connection is not None:
            raise NotOffline
        try:
            configure(None, url, dialect_name, *rest, **options)
            knows_dialect = True
        except Exception:  # noqa: BLE001 - without a URL, or with the one of a template; any dialect does here
            configure(None, None, "postgresql", *rest, **options)
            knows_dialect = False
        contexts.append(Context(environment.get_context(), url, knows_dialect=knows_dialect))

    environment.configure = record
    environment.run_migrations = lambda **_: None
    environment.begin_transaction = contextlib.nullcontext
    return contexts


def _push_flask_context() -> None:
    """Enter the application's context as `flask db` does, for an env.py of Flask-Migrate."""
    with executing("flask"):
        from flask.cli import ScriptInfo  # noqa: PLC0415 - few applications use it

        script_info = ScriptInfo(app_import_path=os.environ.get("FLASK_APP"))
        script_info.load_app().app_context().push()


# ---- the models


def load_models(name: str) -> list[Any]:
    """Import MODULE and return its MetaData objects below ATTRIBUTE."""
    module, _, attributes = name.partition(":")
    with executing("import", name=name, module=module, folder=os.getcwd()):
        value = importlib.import_module(module)
    for attribute in attributes.split("."):
        with executing("reading", name=name):
            if not hasattr(value, attribute):
                others = [other for other, each in sorted(vars(sys.modules[module]).items()) if _is_base(other, each)]
                raise Failure("no attribute", name=name, attribute=attribute, others=others)
            value = getattr(value, attribute)
    with executing("reading", name=name):
        metadata = metadata_in(value)
    if not metadata:
        raise Failure("no metadata", name=name, type=type(value).__name__)
    return metadata


def _is_base(name: str, value: Any) -> bool:
    """Whether an attribute of a module may be meant; it must not run code of the application's."""
    from sqlalchemy import MetaData  # noqa: PLC0415 - an interpreter without it is reported

    if name.startswith("_") or _is_part(value):
        return False
    own = getattr(value, "__dict__", {})
    return isinstance(value, MetaData) or isinstance(own.get("metadata"), MetaData)


def _is_part(value: Any) -> bool:
    """Whether a value is a table or a mapped class, which has a MetaData and is only a part of it."""
    from sqlalchemy import Table  # noqa: PLC0415 - an interpreter without it is reported

    return isinstance(value, Table) or "__mapper__" in vars(value if isinstance(value, type) else type(value))


def metadata_in(value: Any, depth: int = 0) -> list[Any]:
    """Return the MetaData objects of a value: itself, its attribute `metadata`, or those in a sequence."""
    from sqlalchemy import MetaData  # noqa: PLC0415 - an interpreter without it is reported

    if isinstance(value, MetaData):
        return [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [metadata_in(each, depth + 1) for each in value] if depth < MAX_NESTING else [[]]
        return [each for part in parts for each in part] if all(parts) else []
    metadata = None if _is_part(value) else getattr(value, "metadata", None)
    return [metadata] if isinstance(metadata, MetaData) else []


def tables_of(metadata: Iterable[Any], contexts: list[Context], mappers: Mappers) -> list[list[Any]]:
    """Return the tables that env.py's filters and `info` leave as [schema, name, columns, read only]."""
    dialects = {context.dialect for context in contexts}
    dialect = dialects.pop() if len(dialects) == 1 else ""
    tables = []
    for table in (table for each in metadata for table in each.tables.values()):
        mark = table.info.get("gate")
        if mark not in (None, "ignore", "read-only"):
            raise Failure("info", table=table.fullname, mark=repr(mark))
        including = [context for context in contexts if context.includes_table(table)]
        if mark == "ignore" or (contexts and not including):
            continue
        named = [c for c in mappers.named_columns(table) if not _is_system(c, dialect)]
        columns = [c.name for c in named if not contexts or any(each.includes_column(table, c) for each in including)]
        schema = stored_name(table.schema, dialect) if table.schema else None
        stored = [stored_name(column, dialect) for column in columns]
        tables.append([schema, stored_name(table.name, dialect), stored, mark == "read-only"])
    return tables


def _is_system(column: Any, dialect: str) -> bool:
    """Whether every table has the column; without a known dialect, an unknown one is PostgreSQL."""
    return dialect in ("postgresql", "") and column.name in POSTGRESQL_SYSTEM_COLUMNS


def stored_name(name: Any, dialect: str) -> str:
    """Return the name under which the database stores what SQLAlchemy calls `name`.

    A name with `quote=False` is folded to lower case, but not in MySQL.
    """
    if getattr(name, "quote", None) is False and dialect not in ("mysql", "mariadb"):
        name = name.lower()
    if dialect == "postgresql":
        name = name.encode("utf-8", "surrogatepass")[:MAX_POSTGRESQL_NAME].decode("utf-8", "ignore")
    return str(name)


# ---- the whole


def record(request: dict[str, Any], pipe: Pipe) -> dict[str, Any]:
    """Execute the application's code and return what it says."""
    try:
        mappers = Mappers()
    except ImportError as error:
        raise Failure("library", library="sqlalchemy", error=facts(error)) from None
    contexts: list[Context] = []
    metadata: list[Any] = []
    if request["env_py"]:
        pipe.send(step="env.py")
        contexts = run_env_py(request)
    sys.path[:0] = request["search_path"]
    for name in request["models"]:
        pipe.send(step=f"importing {name.partition(':')[0]}")
        metadata += load_models(name)
    for context in [] if request["models"] else contexts:
        found = metadata_in(context.metadata)
        if not found:
            kind = None if context.metadata is None else type(context.metadata).__name__
            raise Failure("no target metadata", type=kind)
        metadata += found
    pipe.send(step="reading the models")
    metadata = [*{id(each): each for each in metadata}.values()]
    with executing("filters"):
        tables = tables_of(metadata, contexts, mappers)
    return {
        "tables": tables,
        "declared": sum(len(each.tables) for each in metadata),
        "version_tables": [[c.version_table, c.version_table_schema] for c in contexts],
        "urls": [context.url for context in contexts],
    }


def main() -> NoReturn:
    """Answer, and exit at once: an exit function or a thread of the application could hang."""
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    if sys.path and os.path.realpath(sys.path[0] or ".") == os.path.dirname(os.path.realpath(__file__)):
        del sys.path[0]  # the folder of this file, which is no part of the application
    process, request, folder = os.getpid(), json.loads(sys.argv[2]), os.getcwd()
    pipe = Pipe(int(sys.argv[1]), request["token"])
    sys.argv[:] = ["alembic", "upgrade", "heads", "--sql"]  # for an env.py that reads sys.argv
    signal.signal(signal.SIGALRM, _raise_time_limit)
    signal.setitimer(signal.ITIMER_REAL, request["time_limit"])
    answer: dict[str, Any]
    try:
        with executing("itself"):
            answer = {"recorded": record(request, pipe)}
    except Failure as failure:
        libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
        answer = {"failure": {**failure.fields, "libraries": libraries, "start": folder}}
    if os.getpid() == process:  # not in a process that the application has forked
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(**answer)
    os._exit(0)


def _raise_time_limit(*_: Any) -> NoReturn:
    raise TimeLimit


if __name__ == "__main__":
    main()
