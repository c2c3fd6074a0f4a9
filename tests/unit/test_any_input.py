"""Whatever stands in the environment, in files, rows and requests: a sentence or the truth, never a traceback.

What is drawn here is mostly wrong. Where Alembic makes sense of it, gate must make the same sense.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gate import redaction
from gate.asgi import Ready
from gate.cli import arguments
from gate.cli.serve import Sidecar
from gate.database import location
from gate.database.lock import LockKey, Migrator
from gate.database.postgresql.connection import connect
from gate.database.postgresql.sql import identifier, literal
from gate.database.stamp import Stamp, TableName
from gate.drift import comparison
from gate.drift.comparison import Verdict
from gate.drift.inspector import Inspection
from gate.errors import BadScripts, BadSettings, BadUsage, GateError
from gate.image import alembic_config, script_directory
from gate.image.alembic_config import Configuration
from gate.image.env_py import read_env_py
from gate.image.revision_graph import Revision, RevisionGraph
from gate.image.script_parser import NotLiteral, read_script
from gate.readiness import answer
from gate.readiness.placeholder_server import PlaceholderApplication
from gate.settings import database_url, settings
from gate.settings.arguments import COMMANDS
from gate.settings.database_url import UrlSource
from gate.settings.variables import SETTINGS
from gate.wsgi import Ready as WsgiReady
from tests.support.forgery import HOSTILE

GIVEN = st.text(st.characters(exclude_characters="\0"), max_size=40)
"""What a variable, an argument or the name of a file can be; a byte that is no UTF-8 comes as a lone surrogate."""

PASSWORD = "S3cr3tW0rd"
WORDS = st.sampled_from(
    [
        *"0123456789:/@?#%&=+.,[]'\"\\ \n\t",
        "1",
        "-1",
        "1e9",
        "nan",
        "inf",
        "go",
        "json",
        ":8000",
        "[::1]:80",
        "9" * 5000,
    ]
)
PIECES = st.sampled_from(
    [
        "postgresql",
        "+asyncpg",
        "sqlite",
        "://",
        "u",
        ":",
        PASSWORD,
        "@",
        "h",
        ",",
        "/",
        "db",
        "?",
        "&",
        "=",
        "password",
        "sslmode",
        "host",
        "port",
        "%",
        "%4",
        "%40",
        "%00",
        "%ff",
        "[::1]",
        " ",
        "\n",
        "\udcff",
        "é",
        "'",
        "\\",
    ]
)


def printable_lines(error: GateError) -> bool:
    return all(line.isprintable() for line in str(error).split("\n"))


# Settings and URLs


@given(
    st.dictionaries(st.sampled_from([s.variable for s in SETTINGS]), GIVEN | st.lists(WORDS, max_size=4).map("".join))
)
def test_any_environment_is_either_settings_or_complaints(environment: dict[str, str]) -> None:
    try:
        found = settings.read(environment)
    except BadSettings as error:
        assert printable_lines(error)
    else:
        for name in (found.version_table, found.version_table_schema):
            TableName(name or "v", name).key.signed  # noqa: B018 - it is a name that can be sent to a server
            assert literal(name).encode()
            assert identifier(name or "").encode()


@given(st.text(st.characters(categories=["Lu", "Cc", "Cs"]), max_size=20), st.booleans())
def test_any_name_of_a_variable_is_shown_on_one_line(name: str, near: bool) -> None:  # noqa: FBT001 - drawn
    try:
        settings.read({f"GATE_TIMEOUT{name[:1]}" if near else f"GATE_{name}": "1"})
    except BadSettings as error:
        assert printable_lines(error)


@given(
    st.lists(
        st.sampled_from([*COMMANDS, *(s.flag for s in SETTINGS if s.flag), "-c", "-x", "--"]) | GIVEN,
        max_size=6,
    )
)
def test_any_arguments_are_understood_or_refused_with_a_sentence(words: list[str]) -> None:
    assume(not {"-h", "--help", "--version"} & {*words})
    try:
        parsed = arguments.parse(words)
    except BadUsage as error:
        assert printable_lines(error)
    else:
        assert parsed.command in COMMANDS


@given(st.lists(PIECES, max_size=12).map("".join))
@example(f"postgresql://u:{PASSWORD}\udcff@h/db")
@example(f"postgresql://u:{PASSWORD}%00@h/db")
def test_any_url_is_either_one_or_a_complaint_and_its_password_is_never_shown(text: str) -> None:
    try:
        url = database_url.parse(text, "DATABASE_URL")
    except BadSettings as error:
        assert PASSWORD not in str(error)
        assert printable_lines(error)
    else:
        assert (
            PASSWORD not in redaction.hide(f"cannot connect to {text}")
            or PASSWORD in {url.conninfo.get(key) for key in ("user", "host", "dbname")}
            or f":{PASSWORD}" not in text
        ), "what stands where no password does is none"


@given(st.lists(PIECES, max_size=8).map("".join), st.lists(PIECES, max_size=8).map("".join))
def test_any_url_that_gate_takes_is_tried_and_a_failure_is_told(user: str, query: str) -> None:
    text = f"postgresql://{user}@127.0.0.1:1/db?{query}"
    try:
        place = location.locate(UrlSource("DATABASE_URL", text), {}, None, (1, 1))
        assume({place.url().conninfo.get(key, "") for key in ("host", "port", "hostaddr")} <= {"127.0.0.1", "1", ""})
        connect(place).close()
    except GateError as error:
        assert printable_lines(error)
        assert f":{PASSWORD}@" not in str(error)


@given(st.lists(PIECES | GIVEN, max_size=6).map("".join), st.sampled_from(["", " ", "\n", ".", ", "]))
def test_a_password_that_was_told_is_hidden_in_any_text_around_it(around: str, between: str) -> None:
    database_url.parse(f"postgresql://u:{PASSWORD}@h/db", "DATABASE_URL")
    assert PASSWORD not in redaction.hide(f"{around}{between}{PASSWORD}{between}{around}")


# The Alembic configuration


KEYS = st.sampled_from(
    "script_location version_locations path_separator version_path_separator sqlalchemy.url prepend_sys_path "
    "recursive_version_locations sourceless databases here unknown".split()
)
VALUES = (
    st.sampled_from(
        [
            "migrations",
            "%(here)s/migrations",
            "%(nothing)s",
            "%",
            "%%",
            "os",
            ":",
            "true",
            "no:such",
            "json:tool",
            "a..b:c",
            ":",
            "migrations/v1 migrations/v2",
            "a\0b",
            "\n",
            "\n  b",
            "[x]",
            "{}",
            "-1",
            "\udcff",
            "é",
            "#",
            ";",
        ]
    )
    | GIVEN
)
TOML_VALUES = st.recursive(
    VALUES.map(lambda text: json.dumps(text.encode("utf-8", "replace").decode()))
    | st.sampled_from(["true", "1", "nan", "1979-05-27"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("any")
    for name in ("migrations/versions", "migrations/v1", "migrations/v2"):
        (found / name).mkdir(parents=True)
    with chdir(found):
        yield found


def alembic_reads(section: str) -> tuple[Path, list[Path]] | None:
    path = [*sys.path]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = Config("alembic.ini", toml_file="pyproject.toml", ini_section=section)
            directory = ScriptDirectory.from_config(config)
            places = [Path(os.path.abspath(each)) for each in directory.version_locations or []]
            default = [Path(os.path.abspath(directory.dir)) / "versions"]
            return Path(os.path.abspath(directory.dir)), places or default
        except Exception:  # noqa: BLE001 - it raises anything
            return None
        finally:
            sys.path[:] = path


def compare_configurations(section: str) -> None:
    try:
        found = alembic_config.read([], None, section)
    except BadSettings as error:
        assert printable_lines(error)
    else:
        alembics = alembic_reads(section)
        if alembics is not None:
            ours = (
                Path(os.path.abspath(found.script_location)),
                [*map(Path, map(os.path.abspath, found.version_locations))],
            )
            assert ours == alembics


@given(
    options=st.lists(st.tuples(KEYS, VALUES), max_size=5),
    good=st.booleans(),
    noise=GIVEN,
    section=st.sampled_from(["alembic", "x", "DEFAULT", "\udcff", "a]\n[b"]),
)
def test_any_ini_file_is_read_as_alembic_reads_it_or_refused_with_a_sentence(
    folder: Path,
    options: list[tuple[str, str]],
    good: bool,  # noqa: FBT001 - drawn
    noise: str,
    section: str,
) -> None:
    lines = ["script_location = migrations"] if good else []
    text = "\n".join([f"[{section}]", *lines, *(f"{key} = {value}" for key, value in options), noise])
    (folder / "pyproject.toml").unlink(missing_ok=True)
    (folder / "alembic.ini").write_bytes(text.encode("utf-8", "surrogatepass"))
    compare_configurations(section)


@given(
    options=st.dictionaries(KEYS, TOML_VALUES, max_size=4),
    good=st.booleans(),
    noise=GIVEN,
)
def test_any_pyproject_is_read_as_alembic_reads_it_or_refused_with_a_sentence(
    folder: Path,
    options: dict[str, str],
    good: bool,  # noqa: FBT001 - drawn
    noise: str,
) -> None:
    given_options = {**options, **({"script_location": '"migrations"'} if good else {})}
    lines = [f"{json.dumps(key)} = {value}" for key, value in given_options.items()]
    (folder / "alembic.ini").unlink(missing_ok=True)
    text = "\n".join(["[tool.alembic]", *lines, noise if not good else ""])
    (folder / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    compare_configurations("alembic")


@pytest.mark.parametrize("deep", ["[" * 5000, "{a=" * 5000, '"%(here)999999999999s"'])
def test_a_pyproject_that_would_take_all_memory_is_refused(folder: Path, deep: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.alembic]\nscript_location = {deep}")
    with pytest.raises(BadSettings, match=r"pyproject\.toml"):
        alembic_config.read(["none.ini"], None, None)


# Scripts

PLAIN = '''"""make {id}

Revises: {down}
"""
from typing import Sequence

from alembic import op

revision: str = {id!r}
down_revision: str | Sequence[str] | None = {down!r}
branch_labels = None
depends_on = ()


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
'''
CHAIN = {"a1": None, "a2": "a1", "a3": "a2"}
NAMES = ("revision", "down_revision", "branch_labels", "depends_on")
TOKENS = [
    b"", b"\n", b" ", b"#", b"'", b'"', b'"""', b"'''", b"\\", b"(", b")", b"[", b",", b"=", b":", b";",
    b"\r", b"\x0c", b"\t", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"None", b"'a1'", b"'a2'", b"a3",
    b"if 0:", b"if 1:", b"def f():", b"class c:", b"global revision", b"revision = ", b"down_revision = ",
    b"depends_on = ", b"del revision", b"+ 'x'", b"f'x'", b"b'x'", b"u'a9'", b"r'a9'", b"'a' 'b'",
]  # fmt: skip
STATEMENTS = [
    b"\ndef f(x=(revision := 'd')): pass\n",
    b"\nclass C((revision := object)): pass\n",
    b"\n@(down_revision := (lambda f: f))\ndef g(): pass\n",
    b"\ndef h() -> (revision := 'r'): pass\n",
    b"\nlambda x=(revision := 'l'): x\n",
    b"\nx: (revision := 'n')\n",
    b"\nx: (depends_on := 'a1') = 1\n",
    b"\ndef __getattr__(name): return 'a1'\n",
    b"\nupgrade.__globals__['revision'] = 'g'\n",
    b"\nupgrade.__globals__.update(down_revision=None)\n",
    b"\nclass C:\n    global revision\n    revision = 'c'\n",
    b"\nf'{(revision := 1)}'\n",
    b"\nassert (revision := 'a')\n",
    b"\nwhile (revision := ''): pass\n",
    b"\ndel depends_on\n",
    b"\ntry: 1/0\nexcept Exception as revision: pass\n",
    b"\nimport sys; sys._getframe().f_globals['revision'] = 'f'\n",
    b"\nrevision = 'a9'\n",
    b"\ndown_revision = None\n",
    b"# coding: latin-1\n",
    b"\nexec('revision = 1')\n",
    b"\nimport os as revision\n",
    b"\nfor revision in 'ab': pass\n",
    b"\ntry: pass\nfinally: revision = 'z'\n",
    b"\nwith open('/dev/null') as down_revision: pass\n",
    b"\nglobals()['revision'] = 'q'\n",
    b"\nrevision += 'x'\n",
    b"\n(revision := 'w')\n",
    b"\n*revision, down_revision = 'ab'\n",
    b"\nmatch 'm':\n    case revision: pass\n",
    b"\nfrom os.path import *\n",
    b"\nrevision, down_revision = down_revision, revision\n",
    b"\nclass revision: pass\n",
    b"\n__getattr__ = lambda n: 'x'\n",
    b"\nlambda: (revision := 'l')\n",
    b"\n[revision := i for i in 'ab']\n",
    b"\n@print\ndef down_revision(): pass\n",
]
INSERTED = st.sampled_from(TOKENS + STATEMENTS)
MUTATIONS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), INSERTED), min_size=1, max_size=3)
"""At a place, so many bytes away, and these in their stead."""


def mutated(source: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, inserted in mutations:
        source = source[:at] + inserted + source[at + length * (length < 12) :]
    return source


def alembic_loads(path: Path) -> dict[str, Any] | None:
    """What running the script leaves in its module, as Alembic takes it; None if it cannot be run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec = importlib.util.spec_from_file_location("drawn", path)
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except (Exception, SystemExit):  # noqa: BLE001 - a drawn script may do anything
            return None
    return {name: getattr(module, name, None) for name in NAMES} | {"has_down": hasattr(module, "down_revision")}


def as_set(value: Any) -> set[str]:
    return set() if value is None else {value} if isinstance(value, str) else set(value)


@given(mutations=MUTATIONS, at_the_end=INSERTED)
def test_a_script_that_gate_reads_says_the_same_when_it_runs(
    folder: Path, mutations: list[tuple[int, int, bytes]], at_the_end: bytes
) -> None:
    source = mutated(PLAIN.format(id="a2", down="a1").encode(), mutations) + at_the_end
    path = folder / "drawn.py"
    path.write_bytes(source)
    try:
        found = script_directory._read_script(str(path), whole=True)
    except BadScripts as error:
        assert printable_lines(error)
        return
    ran = alembic_loads(path)
    if isinstance(found, NotLiteral) or ran is None:
        return
    assert ran["has_down"]
    assert found.revision.id == ran["revision"]
    assert set(found.revision.down) == as_set(ran["down_revision"])
    assert set(found.revision.depends_on) == as_set(ran["depends_on"])
    assert found.opaque_labels or set(found.revision.labels) == as_set(ran["branch_labels"])


@given(
    mutations=st.dictionaries(st.sampled_from([*CHAIN]), MUTATIONS, min_size=1),
    rows=st.sets(st.sampled_from(["a1", "a2", "a3", "a9", "b"]), max_size=2),
)
def test_no_mutation_of_scripts_makes_a_schema_current_unless_alembic_agrees(
    folder: Path, mutations: dict[str, list[tuple[int, int, bytes]]], rows: set[str]
) -> None:
    versions = folder / "migrations" / "versions"
    for id_, down in CHAIN.items():
        (versions / f"{id_}.py").write_bytes(mutated(PLAIN.format(id=id_, down=down).encode(), mutations.get(id_, [])))
    place = Configuration("", "", "alembic", folder / "migrations", (versions,))
    try:
        scripts, because = script_directory._read_scripts(place, whole=True)
        assume(not because)  # then Alembic itself is asked
        found = comparison.compare(RevisionGraph(script.revision for script in scripts), rows)
    except BadScripts as error:
        assert printable_lines(error)
        return
    if found.verdict is Verdict.CURRENT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert alembic_would_run(ScriptDirectory(str(folder / "migrations")), rows) == [], found


def alembic_would_run(directory: ScriptDirectory, rows: set[str]) -> list[str]:
    """Its steps; none if it refuses the rows as overlapping, or cannot load what no drawing leaves whole."""
    try:
        return [step.revision.revision for step in directory._upgrade_revs("heads", tuple(rows))]  # type: ignore[arg-type]
    except (RevisionError, CommandError) as error:
        return [] if "overlaps" in str(error) else [str(error)]
    except Exception:  # noqa: BLE001 - a script that does not run stops the migration by itself
        return []


@pytest.mark.parametrize(
    "source",
    [
        b"x = " + b"(" * 5000 + b")" * 5000,
        b"x = " + b"1 + " * 20000 + b"1",
        b"x = " + b"-" * 20000 + b"1",
        b"x = a" + b".b" * 20000,
        b"x = f" + b"()" * 5000,
        b"x = " + b"lambda: " * 3000 + b"1",
        b"if 1:\n pass\n" + b"elif 1:\n pass\n" * 3000,
        b"\n".join(b" " * n + b"if 1:" for n in range(90)) + b"\n" + b" " * 90 + b"pass",
    ],
)
def test_a_script_nested_however_deep_is_read_or_refused(source: bytes) -> None:
    for whole in (b"revision = 'a1'\ndown_revision = None\n" + source, source):
        for read in (lambda text: read_script(text, "a1.py", "a1.py"), lambda text: read_env_py(text, "env.py")):
            try:
                read(whole)
            except BadScripts as error:
                assert printable_lines(error)


@given(st.binary(max_size=60) | GIVEN.map(lambda text: text.encode("utf-8", "surrogatepass")), st.integers(0, 80))
def test_any_bytes_in_a_script_are_read_or_refused(noise: bytes, at: int) -> None:
    source = b"revision = 'a1'\ndown_revision = None\nX = ['version_table', {'version_table': 1}]\n"
    for text in (noise, source[:at] + noise + source[at:]):
        for read in (lambda text: read_script(text, "a1.py", "a1.py"), lambda text: read_env_py(text, "env.py")):
            try:
                read(text)
            except BadScripts as error:
                assert printable_lines(error)


# Rows, and who holds the lock

IMAGE = RevisionGraph(
    [Revision("aaaa1111"), Revision("aaaa2222", ("aaaa1111",)), Revision("b", ("aaaa1111",), labels=("shop",))]
)
ROW = GIVEN | st.sampled_from(
    ["aaaa1111", "aaaa2222", "aaaa", "aaaa2", "b", "shop", "sh", "", "heads", "base", "+1", "b@head"]
)


@given(st.lists(ROW, max_size=5))
def test_any_rows_have_a_verdict_that_can_be_shown(rows: list[str]) -> None:
    found = comparison.compare(IMAGE, rows)
    assert str(found).isprintable()
    assert found.verdict is not Verdict.CURRENT or {IMAGE.resolve(row) for row in rows} >= {*IMAGE.heads}
    stamp = Stamp("\x1b", "s", tuple(rows))
    told = answer.answer(answer.Readiness(Inspection(stamp, found).drift))
    assert json.loads(told.body)["verdict"] == found.verdict


@given(
    st.lists(
        st.sampled_from(["gate/", "00000000", " ", "/", "1", "-", "@", "9" * 400, "1e9", "²", "\n"]), max_size=9
    ).map("".join)
    | GIVEN
)
def test_any_holder_of_the_lock_can_be_told(line: str) -> None:
    key = LockKey(0)
    for text in (line, f"{key.tag} {line}", f"{key.tag} 1/2 r @{line} h"):
        assert str(Migrator.parse(text, key, 4711))


@given(GIVEN, st.integers(), st.integers(), GIVEN)
def test_what_a_holder_shows_of_itself_always_fits(host: str, step: int, total: int, revision: str) -> None:
    line = Migrator(host, step, total, revision, 1).application_name(LockKey(1))
    assert line.isascii()
    assert len(line) <= 63


# Requests

REQUEST = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "http", "http", "websocket", "lifespan"]),
        "method": st.sampled_from(["GET", "HEAD", "POST", "\xff", "get", ""]),
        "path": st.sampled_from(["/", "/health", "/health/ready", "/metrics", ""]) | GIVEN,
        "headers": st.lists(
            st.tuples(
                st.sampled_from([b"accept", b"Accept", b"x"]),
                st.binary(max_size=20)
                | st.sampled_from([b"text/html", b"text/plain;q=0", b"*/*", b"application/json"]),
            ),
            max_size=3,
        ),
    }
)
SEEN = st.lists(st.sampled_from([*HOSTILE.values()]) | ROW, max_size=4).map(
    lambda rows: Inspection(Stamp("d", "s", tuple(rows)), comparison.compare(IMAGE, rows))
)


def asked(application: Any, request: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(application(request, receive, send))
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@given(request=REQUEST, seen=SEEN)
def test_any_request_is_answered_and_what_calls_itself_json_is_json(request: dict[str, Any], seen: Inspection) -> None:
    ready = Ready("postgresql://127.0.0.1:1/none", ttl=1000)
    ready.cache.record(seen)
    holding = PlaceholderApplication("/health")
    holding.state = answer.fields(answer.Readiness(seen.drift, migrating=HOSTILE["markup"]))
    for application in (ready, holding, Sidecar(ready)):
        status, headers, body = asked(application, request)
        assert status in {0, 200, 404, 405, 503}
        assert status or request["type"] != "http"
        assert int(headers.get(b"content-length", b"0")) == len(body) or request["method"] == "HEAD"
        if body and headers[b"content-type"] == b"application/json":
            json.loads(body)
        if body and headers[b"content-type"].startswith(b"text/plain"):
            assert status == 200 or body.decode().rstrip("\n").isprintable()
        assert b"<script>" not in body or not headers[b"content-type"].startswith(b"text/html")


@given(request=REQUEST, seen=SEEN)
def test_any_request_through_wsgi_is_answered(request: dict[str, Any], seen: Inspection) -> None:
    ready = WsgiReady("postgresql://127.0.0.1:1/none", ttl=1000)
    ready.cache.record(seen)
    said: list[Any] = []
    accept = b",".join(value for _, value in request["headers"]).decode("latin-1")
    environ = {"REQUEST_METHOD": request["method"], "HTTP_ACCEPT": accept, "PATH_INFO": request["path"]}
    body = b"".join(ready(environ, lambda *args: said.append(args)))
    status, headers = said[0]
    assert status.split()[0] in {"200", "405", "503"}
    if body and dict(headers)["content-type"] == "application/json":
        assert json.loads(body)["verdict"] == seen.drift.verdict
