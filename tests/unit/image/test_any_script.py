"""Any migration script is read as Python would run it, or refused with a message."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from hypothesis import assume, given
from hypothesis import strategies as st

from gate.drift import comparison
from gate.drift.comparison import Verdict
from gate.errors import BadScripts
from gate.image import script_directory
from gate.image.alembic_config import Configuration
from gate.image.env_py import read_env_py
from gate.image.revision_graph import RevisionGraph
from gate.image.script_parser import NotLiteral, read_script
from tests.support.strategies import TEXT, printable_lines

PLAIN = '''"""make {id}

Revises: {down}
"""
from typing import Sequence

from alembic import op

revision: str = {id!r}
down_revision: str | Sequence[str] | None = {down!r}
branch_labels = None
depends_on = ()
post_deploy = False


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
    b"post_deploy = ", b"True", b"False", b"0",
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
    b"\npost_deploy = True\n",
    b"\npost_deploy: bool = False\n",
    b"\npost_deploy = 1\n",
    b"\npost_deploy = post_deploy\n",
    b"\npost_deploy, depends_on = True, None\n",
    b"\nif 1: post_deploy = False\n",
    b"\nfor post_deploy in (True,): pass\n",
    b"\ndel post_deploy\n",
    b"\nclass post_deploy: pass\n",
    b"\nimport os as post_deploy\n",
    b"\nglobals()['post_deploy'] = False\n",
    b"\ndef f():\n    global post_deploy\n    post_deploy = False\nf()\n",
    b"\nrevision, down_revision = down_revision, revision\n",
    b"\nclass revision: pass\n",
    b"\n__getattr__ = lambda n: 'x'\n",
    b"\nlambda: (revision := 'l')\n",
    b"\n[revision := i for i in 'ab']\n",
    b"\n@print\ndef down_revision(): pass\n",
]
INSERTED = st.sampled_from(TOKENS + STATEMENTS)
MUTATIONS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), INSERTED), min_size=1, max_size=3)
"""Each is an offset, a number of bytes to remove (only below 12), and the bytes to insert."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("any")
    (path / "migrations" / "versions").mkdir(parents=True)
    return path


def mutated(source: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, inserted in mutations:
        source = source[:at] + inserted + source[at + length * (length < 12) :]
    return source


def alembic_loads(path: Path) -> dict[str, Any] | None:
    """Run the script and return its module variables as Alembic reads them; None if it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec = importlib.util.spec_from_file_location("drawn", path)
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except (Exception, SystemExit):  # noqa: BLE001 - a generated script may raise anything
            return None
    read = {name: getattr(module, name, None) for name in NAMES} | {"has_down": hasattr(module, "down_revision")}
    return read | {"post_deploy": vars(module).get("post_deploy", False)}


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
        script = script_directory._read_script(str(path), whole=True)
    except BadScripts as error:
        assert printable_lines(error)
        return
    ran = alembic_loads(path)
    if isinstance(script, NotLiteral) or ran is None:
        return
    assert ran["has_down"]
    assert script.revision.id == ran["revision"]
    assert set(script.revision.down) == as_set(ran["down_revision"])
    assert set(script.revision.depends_on) == as_set(ran["depends_on"])
    assert script.revision.post_deploy is ran["post_deploy"]
    assert script.opaque_labels or set(script.revision.labels) == as_set(ran["branch_labels"])


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
    configuration = Configuration("", "", "alembic", folder / "migrations", (versions,))
    try:
        scripts, reason = script_directory._read_scripts(configuration, whole=True)
        assume(not reason)  # otherwise gate loads the scripts with Alembic
        drift = comparison.compare(RevisionGraph(script.revision for script in scripts), rows)
    except BadScripts as error:
        assert printable_lines(error)
        return
    if drift.verdict is Verdict.CURRENT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert alembic_would_run(ScriptDirectory(str(folder / "migrations")), rows) == [], drift


def alembic_would_run(directory: ScriptDirectory, rows: set[str]) -> list[str]:
    """Return the revisions of Alembic's upgrade plan; none if the rows overlap or a script cannot be loaded."""
    try:
        return [step.revision.revision for step in directory._upgrade_revs("heads", tuple(rows))]  # type: ignore[arg-type]
    except (RevisionError, CommandError) as error:
        return [] if "overlaps" in str(error) else [str(error)]
    except Exception:  # noqa: BLE001 - such a script stops the migration itself
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


@given(st.binary(max_size=60) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), st.integers(0, 80))
def test_any_bytes_in_a_script_are_read_or_refused(noise: bytes, at: int) -> None:
    source = b"revision = 'a1'\ndown_revision = None\nX = ['version_table', {'version_table': 1}]\n"
    for text in (noise, source[:at] + noise + source[at:]):
        for read in (lambda text: read_script(text, "a1.py", "a1.py"), lambda text: read_env_py(text, "env.py")):
            try:
                read(text)
            except BadScripts as error:
                assert printable_lines(error)
