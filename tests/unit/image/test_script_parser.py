"""One migration script is parsed to the values that Python would bind, and never executed."""

from __future__ import annotations

import importlib
import json
import pkgutil
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import dialects

from gate.errors import BadScripts
from gate.image import plain_script, script_parser
from gate.image.env_py import VersionTable, read_env_py
from gate.image.revision_graph import Revision
from gate.image.script_parser import NotLiteral, Script, read_script

PATH = "versions/one.py"


def read(source: str | bytes, file_name: str = "one.py") -> Script | NotLiteral:
    """Parse with `ast`; where the patterns accept the script, too, both must agree."""
    text = source.encode() if isinstance(source, str) else source
    found = read_script(text, PATH, file_name)
    plain = plain_script.read(text, PATH)
    assert plain is None or (isinstance(found, Script) and found == Script(plain))
    return found


def test_what_alembic_generates_is_plain() -> None:
    generated = b'''"""add the price

Revision ID: ae1027a6acf
Revises: 1975ea83b712
Create Date: 2026-01-01 00:00:00.000000

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = 'ae1027a6acf'
down_revision: Union[str, Sequence[str], None] = '1975ea83b712'
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = ("b1", 'b2',)


def upgrade() -> None:
    """Upgrade schema."""
    pass
'''
    plain = Revision("ae1027a6acf", ("1975ea83b712",), ("b1", "b2"), (), "add the price", PATH)
    assert plain_script.read(generated, PATH) == plain


def revision(source: str | bytes) -> Revision:
    found = read(source)
    assert isinstance(found, Script), found
    return found.revision


PLAIN = 'revision = "a2"\ndown_revision = "a1"\n'

STYLES: dict[str, str | bytes] = {
    "plain": PLAIN,
    "single quotes": "revision = 'a2'\ndown_revision = 'a1'",
    "triple quotes": "revision = '''a2'''\ndown_revision = \"\"\"a1\"\"\"",
    "raw and unicode prefixes": "revision = r'a2'\ndown_revision = u'a1'",
    "escapes": r"revision = '\x61\u0032'" + "\ndown_revision = '\\N{LATIN SMALL LETTER A}1'",
    "annotated": 'revision: str = "a2"\ndown_revision: str = "a1"',
    "annotated with Union": (
        'from typing import Union\nrevision: str = "a2"\ndown_revision: Union[str, None] = "a1"\n'
        "branch_labels: Union[str, Sequence[str], None] = None\ndepends_on: str | None = None"
    ),
    "annotated with Final": ('from typing import Final\nrevision: Final = "a2"\ndown_revision: Final[str] = "a1"\n'),
    "from __future__": "from __future__ import annotations\n" + PLAIN,
    "parentheses": 'revision = ("a2")\ndown_revision = (("a1"))',
    "parentheses over lines": 'revision = (\n    "a2"\n)\ndown_revision = (  # why\n    "a1"\n)',
    "implicit concatenation": 'revision = "a" "2"\ndown_revision = (\n    "a"\n    \'1\'\n)',
    "continued lines": 'revision \\\n  = "a2"\ndown_revision = \\\n    "a1"',
    "comments": 'revision = "a2"  # down_revision = "x"\n# revision = "y"\ndown_revision = "a1"  # noqa',
    "semicolons": 'revision = "a2"; down_revision = "a1"',
    "no blanks": 'revision="a2"\ndown_revision="a1"',
    "tabs": 'revision\t=\t"a2"\ndown_revision\t=\t"a1"',
    "constants": 'ID = "a2"\nPARENT: str = "a1"\nrevision = ID\ndown_revision = PARENT',
    "constants of constants": 'A = "a1"\nB = A\nrevision = "a2"\ndown_revision = B\nA = "x"',
    "chained assignment": 'revision = slug = "a2"\ndown_revision = parent = "a1"',
    "unpacked": 'revision, down_revision = "a2", "a1"',
    "unpacked from a constant": 'BOTH = ("a2", "a1")\n(revision, down_revision) = BOTH',
    "assigned twice": 'revision = "x"\ndown_revision = None\nrevision = "a2"\ndown_revision = "a1"',
    "computed at first, literal in the end": 'revision = make()\nrevision = "a2"\ndown_revision = "a1"',
    "id after a function": 'def upgrade():\n    revision = "x"\n\nrevision = "a2"\ndown_revision = "a1"',
    "names used inside functions": (
        PLAIN + "def upgrade():\n    revision = compute()\n    for down_revision in ():\n        pass\n"
    ),
    "names inside a class": PLAIN + 'class Settings:\n    revision = compute()\n    down_revision = "x"',
    "an annotation without a value": 'revision: str\nrevision = "a2"\ndown_revision = "a1"\ndown_revision: str',
    "docstring with assignments": '"""Create it.\n\nrevision = "x"\ndown_revision = "y"\n"""\n' + PLAIN,
    "string with assignments": 'SQL = """\nrevision = "x"\ndown_revision = None\n"""\n' + PLAIN,
    "string statements": '"first"\n"revision = \'x\'"\n' + PLAIN,
    "BOM": b"\xef\xbb\xbf" + PLAIN.encode(),
    "latin-1": b"# -*- coding: latin-1 -*-\nNAME = 'gr\xfc\xdfe'\n" + PLAIN.encode(),
    "encoding in the second line": b"#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\nX='\x80'\n"
    + PLAIN.encode(),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "CR": PLAIN.replace("\n", "\r"),
    "form feed and blank lines": "\n\n\x0c\n" + PLAIN,
    "no newline at the end": PLAIN.strip(),
    "match, try and if around other names": (
        "try:\n    import json\nexcept ImportError:\n    json = None\nif json:\n    DIALECT = 'x'\n" + PLAIN
    ),
    "later use of the names": PLAIN + "print(revision, down_revision)\nOPS = [revision]",
    "comprehensions have their own names": PLAIN + "X = [revision for revision in 'abc']\n",
    "another module's attribute": PLAIN + "import op\nop.revision = make()\nop.x['revision'] = make()",
}


@pytest.mark.parametrize("source", list(STYLES.values()), ids=list(STYLES))
def test_one_revision_reads_the_same_in_every_style(source: str | bytes) -> None:
    found = revision(source)
    assert (found.id, found.down, found.depends_on, found.labels) == ("a2", ("a1",), (), ())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("None", ()),
        ("()", ()),
        ("[]", ()),
        ("(None)", ()),
        ('"a1"', ("a1",)),
        ('("a1")', ("a1",)),
        ('("a1",)', ("a1",)),
        ('["a1"]', ("a1",)),
        ('{"a1"}', ("a1",)),
        ('("a1", "b1")', ("a1", "b1")),
        ('"a1", "b1"', ("a1", "b1")),
        ('["a1", "b1"]', ("a1", "b1")),
        ('(\n    "a1",\n    "b1",  # why\n)', ("a1", "b1")),
        ('[\n    "a"\n    "1",\n    (\n        "b1"\n    ),\n]', ("a1", "b1")),
        ("(ONE, 'b1')", ("a1", "b1")),
        ("BOTH", ("a1", "b1")),
    ],
)
@pytest.mark.parametrize("name", ["down_revision", "depends_on", "branch_labels"])
def test_one_and_several_names_are_read_in_every_form(name: str, written: str, meant: tuple[str, ...]) -> None:
    found = revision(f"ONE = 'a1'\nBOTH = ONE, 'b1'\nrevision = 'r1'\ndown_revision = None\n{name} = {written}\n")
    values = {"down_revision": found.down, "depends_on": found.depends_on, "branch_labels": found.labels}
    assert values == {**dict.fromkeys(values, ()), name: meant}


@pytest.mark.parametrize("id_", ["0.98.0", "alembic_start", "1", "größe", "a b", "2024_01_01_1200", "x" * 200])
def test_any_text_is_an_id(id_: str) -> None:
    assert revision(f"revision = {id_!r}\ndown_revision = {id_!r}").id == id_


@pytest.mark.parametrize(
    ("docstring", "message"),
    [
        ("", ""),
        ('"""Create the table."""\n', "Create the table."),
        ('"""\nCreate the table.\n\nRevision ID: a2\nRevises: a1\n"""\n', "Create the table."),
        ('"""Create\nthe   table.\n\nMore."""\n', "Create the table."),
        ("# a comment\n'''Größe'''\n", "Größe"),
        ("from __future__ import annotations\n", ""),
    ],
)
def test_the_message_is_the_docstrings_first_paragraph_in_one_line(docstring: str, message: str) -> None:
    assert revision(docstring + PLAIN).message == message


def test_the_path_is_kept_and_a_legacy_script_is_named_by_its_file() -> None:
    found = read("down_revision = None", file_name="1975ea83b712.py")
    assert isinstance(found, Script)
    assert (found.revision.id, found.revision.path) == ("1975ea83b712", PATH)


COMPUTED = {
    "conditional": ('if True:\n    revision = "a2"\nelse:\n    revision = "x"\n', 1, "revision"),
    "conditional parent": (PLAIN + "import os\nif os.environ:\n    down_revision = None", 4, "down_revision"),
    "a call": ('revision = make("a2")', 1, "revision"),
    "a method": ('revision = "A2".lower()', 1, "revision"),
    "an f-string": ('N = "2"\nrevision = f"a{N}"', 2, "revision"),
    "a sum": ('revision = "a" + "2"', 1, "revision"),
    "a formatted string": ('revision = "a%d" % 2', 1, "revision"),
    "an attribute": ("import x\nrevision = x.id", 2, "revision"),
    "a conditional expression": ('revision = "a2" if True else "x"', 1, "revision"),
    "an unknown name": ("revision = ID", 1, "revision"),
    "a name assigned only later": ('revision = ID\nID = "a2"', 1, "revision"),
    "a number": ("revision = 5", 1, "revision"),
    "bytes": ('revision = b"a2"', 1, "revision"),
    "a starred tuple": ('X = ("a1",)\nrevision = "a2"\ndown_revision = (*X,)', 3, "down_revision"),
    "a tuple of a computed one": ('revision = "a2"\ndown_revision = ("a1", make())', 2, "down_revision"),
    "a nested tuple": ('revision = "a2"\ndown_revision = (("a1",), "b1")', 2, "down_revision"),
    "an import": ("from ids import revision", 1, "revision"),
    "an import by another name": ("import ids as revision", 1, "revision"),
    "a star import": (PLAIN + "from ids import *", None, "revision"),
    "a loop": ('for revision in ("x", "a2"):\n    pass', 1, "revision"),
    "with": ("with open() as revision:\n    pass", 1, "revision"),
    "try": ('try:\n    revision = "a2"\nfinally:\n    pass', 1, "revision"),
    "except as": (PLAIN + "try:\n    pass\nexcept E as revision:\n    pass", None, "revision"),
    "match": ('match "a2":\n    case revision:\n        pass', 1, "revision"),
    "a walrus": ('print(revision := "a2")', 1, "revision"),
    "a walrus in an assignment": (PLAIN + 'X = (revision := "a3")', None, "revision"),
    "a walrus in a comprehension": (PLAIN + 'X = [revision := x for x in "ab"]', None, "revision"),
    "an augmented assignment": ('revision = "a"\nrevision += "2"', None, "revision"),
    "deleted": (PLAIN + "del revision", None, "revision"),
    "a function by that name": ("def revision():\n    pass", 1, "revision"),
    "a class by that name": ("class revision:\n    pass", 1, "revision"),
    "a global in a function": (PLAIN + "def f():\n    global revision\n    revision = 'a3'\nf()", None, "revision"),
    "globals()": (PLAIN + 'globals()["revision"] = "a3"', None, "revision"),
    "globals().update": (PLAIN + 'globals().update(revision="a3")', None, "revision"),
    "exec": (PLAIN + "exec(\"revision = 'a3'\")", None, "revision"),
    "setattr": (PLAIN + 'import sys\nsetattr(sys.modules[__name__], "revision", "a3")', None, "revision"),
    "unpacked from a call": ("revision, down_revision = make()", 1, "revision"),
    "starred target": ('revision, *down_revision = "a2", "a1"', 1, "down_revision"),
    "a computed dependency": (PLAIN + "depends_on = make()", 3, "depends_on"),
}


@pytest.mark.parametrize(("source", "line", "name"), list(COMPUTED.values()), ids=list(COMPUTED))
def test_a_computed_value_is_reported_with_file_line_and_name(source: str, line: int | None, name: str) -> None:
    found = read(source)
    assert isinstance(found, NotLiteral), found
    assert (found.path, found.name) == (PATH, name)
    assert found.line == (line or found.line)


@pytest.mark.parametrize(
    "labels",
    ["make()", '("a",) + OTHER', "None if X else 'a'", "X"],
)
def test_a_computed_label_does_not_make_the_script_unreadable(labels: str) -> None:
    found = read(f"{PLAIN}branch_labels = {labels}")
    assert isinstance(found, Script)
    assert found.opaque_labels
    assert (found.revision.id, found.revision.labels) == ("a2", ())


def test_a_literal_label_is_not_opaque() -> None:
    found = read(f"{PLAIN}branch_labels = ('shop',)")
    assert isinstance(found, Script)
    assert (found.opaque_labels, found.revision.labels) == (False, ("shop",))


UNREADABLE: dict[str, tuple[bytes, int]] = {
    "broken syntax": (b"revision = 'a2'\ndown_revision = (\n", 2),
    "broken far below": (PLAIN.encode() + b"\n\ndef upgrade(:\n    pass\n", 5),
    "wrong indentation": (b"revision = 'a2'\n  down_revision = None\n", 2),
    "Python 2": (b"revision = 'a2'\nprint 'x'\n", 2),
    "merge conflict": (b"<<<<<<< HEAD\nrevision = 'a2'\n", 1),
    "a null byte": (PLAIN.encode() + b"\0", 1),
    "binary": (bytes(range(256)), 1),
    "a lie about the encoding": (b"# -*- coding: utf-8 -*-\nX = '\xfc'\n" + PLAIN.encode(), 1),
    "undeclared encoding": (b"X = '\xfc'\n" + PLAIN.encode(), 1),
    "an unknown encoding": (b"# -*- coding: nonsense -*-\n" + PLAIN.encode(), 1),
    "too deep": (b"X = " + b"(" * 1000 + b")" * 1000 + b"\n" + PLAIN.encode(), 1),
    "empty": (b"", 1),
    "only a docstring": (b'"""revision = 1"""', 1),
    "no id": (b"down_revision = None", 1),
    "an id that is None": (b"revision = None\ndown_revision = None", 1),
    "an id that is a tuple": (b"revision = ('a2',)\ndown_revision = None", 1),
    "no parent": (b"revision = 'a2'", 1),
}


@pytest.mark.parametrize(("source", "line"), list(UNREADABLE.values()), ids=list(UNREADABLE))
def test_an_invalid_script_is_refused_with_file_and_line(source: bytes, line: int) -> None:
    with pytest.raises(BadScripts) as caught:
        read(source)
    message = str(caught.value)
    assert message.startswith(f"{PATH}, line ")
    assert "\n" not in message
    assert int(message.removeprefix(f"{PATH}, line ").split(":")[0]) >= line or line == 1


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10).filter(lambda t: "\0" not in t)


def _quoted(text: str, how: int) -> str:
    """One string literal of Python for the text, in one of many styles."""
    plain = repr(text)
    body = (
        "".join(c if c.isalnum() else "".join(f"\\x{b:02x}" for b in c.encode("latin-1")) for c in text)
        if (text.isascii())
        else None
    )
    half = len(text) // 2
    styles = [
        plain,
        json.dumps(text, ensure_ascii=False),
        f"({plain})",
        f"(\n    {plain}\n)",
        f"({text[:half]!r} {text[half:]!r})",
        f"(\n    {text[:half]!r}  # first\n    {text[half:]!r}\n)",
        f"u{plain}",
        f"'''{body}'''" if body is not None else plain,
        f'"""{body}"""' if body is not None else plain,
    ]
    return styles[how % len(styles)]


@st.composite
def assignments(draw: st.DrawFn, name: str, value: Any) -> str:
    """One or two statements that bind the name to the value, as people write them."""
    how = draw(st.integers(0, 100))

    def literal(one: Any) -> str:
        return "None" if one is None else _quoted(one, how)

    if isinstance(value, tuple):
        inner = ", ".join(map(literal, value))
        forms = [f"({inner},)" if value else "()", f"[{inner}]"]
        forms += [f"(\n    {inner},\n)", f"[\n    # why\n    {inner},\n]"] if value else []
        text = draw(st.sampled_from(forms))
    else:
        text = literal(value)
    return draw(
        st.sampled_from(
            [
                f"{name} = {text}\n",
                f"{name}={text} # down_revision = 'x'\n",
                f"{name}: str = {text}\n",
                f"{name}: Union[str, None] = {text}\n",
                f"{name}: Final = {text}\n",
                f"{name} = other_{name} = {text}\n",
                f"CONSTANT_{name} = {text}\n{name} = CONSTANT_{name}\n",
                f"{name} = 'wrong'\n{name} = {text}\n",
                f"({name}) = {text}\n",
                f"{name}, _ = {text}, 'x'\n" if not isinstance(value, tuple) and value else f"{name} = {text}\n",
            ]
        )
    )


PARENTS = st.none() | NAMES | st.lists(NAMES, max_size=3).map(tuple)
NOISE = st.sampled_from(
    [
        "",
        "from alembic import op\n",
        "import sqlalchemy as sa\n",
        "# revision = 'x'\n",
        "def upgrade():\n    revision = 'x'\n    op.execute('''\ndown_revision = 'y'\n''')\n",
        "def downgrade() -> None:\n    pass\n",
        "X = {'revision': 'x'}\n",
        "TABLE = 't' if X else 'u'\n",
        "class Shop:\n    revision = 'x'\n",
    ]
)


@given(id_=NAMES, down=PARENTS, depends_on=PARENTS, labels=PARENTS, data=st.data())
def test_one_revision_reads_the_same_however_it_is_written(
    id_: str, down: Any, depends_on: Any, labels: Any, data: st.DataObject
) -> None:
    values = {"revision": id_, "down_revision": down, "depends_on": depends_on, "branch_labels": labels}
    names = data.draw(st.permutations(list(values)))
    parts = ["'''Make it.\n\nrevision = 'x'\n'''\n"]
    for name in names:
        parts += [data.draw(NOISE), data.draw(assignments(name, values[name]))]
    source = "".join([*parts, data.draw(NOISE)])
    newline = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoded = source.replace("\n", newline).encode(data.draw(st.sampled_from(["utf-8", "utf-8-sig"])))

    def as_tuple(value: Any) -> tuple[str, ...]:
        return () if value is None else (value,) if isinstance(value, str) else value

    expected = Revision(id_, as_tuple(down), as_tuple(depends_on), as_tuple(labels), "Make it.", PATH)
    assert revision(encoded) == expected


CALL = "context.configure(connection=c, {})"


@pytest.mark.parametrize(
    ("source", "table", "schema"),
    [
        (CALL.format(""), None, None),
        (CALL.format('version_table="v"'), "v", None),
        (CALL.format('version_table="v", version_table_schema="s"'), "v", "s"),
        (CALL.format('version_table_schema="My Schema"'), None, "My Schema"),
        (CALL.format("version_table_schema=None"), None, None),
        (
            'TABLE = "v"\nSCHEMA: str = "s"\n' + CALL.format("version_table=TABLE, version_table_schema=SCHEMA"),
            "v",
            "s",
        ),
        (f"def run():\n    {CALL.format(chr(34).join(['version_table=', 'v', '']))}\nrun()", "v", None),
        (f"{CALL.format('version_table=chr(34)')}".replace("chr(34)", "'v'"), "v", None),
        ('OPTIONS = {"version_table": "v", "x": 1}\ncontext.configure(**OPTIONS)', "v", None),
        ('options = dict(version_table="v")\ncontext.configure(**options)', "v", None),
        ('options = {}\noptions["version_table"] = "v"\ncontext.configure(**options)', "v", None),
        ('# version_table="x"\n"""version_table="y" """\n' + CALL.format('version_table="v"'), "v", None),
        (
            "def offline():\n    "
            + CALL.format('version_table="v"')
            + "\ndef online():\n    "
            + CALL.format('version_table="v"'),
            "v",
            None,
        ),
    ],
)
def test_the_version_table_is_read_from_env_py_without_executing_it(
    source: str, table: str | None, schema: str | None
) -> None:
    assert read_env_py(source.encode(), "env.py")._replace(may_repeat=False) == VersionTable(table, schema)


@pytest.mark.parametrize(
    "source",
    [
        CALL.format("version_table=settings.table"),
        CALL.format('version_table=os.environ["TABLE"]'),
        CALL.format("version_table_schema=f'{tenant}'"),
        'import os\nTABLE = os.getenv("T")\n' + CALL.format("version_table=TABLE"),
        "def run(table):\n    " + CALL.format("version_table=table"),
        'TABLE = "v"\ndef run(TABLE):\n    ' + CALL.format("version_table=TABLE"),
        'TABLE = "v"\ndef run():\n    TABLE = make()\n    ' + CALL.format("version_table=TABLE"),
        'if X:\n    T = "v"\nelse:\n    T = "w"\n' + CALL.format("version_table=T"),
        CALL.format('version_table="v"') + "\n" + CALL.format('version_table="w"'),
        'options = {"version_table": make()}\ncontext.configure(**options)',
    ],
)
def test_a_version_table_that_env_py_computes_is_reported_as_computed(source: str) -> None:
    found = read_env_py(source.encode(), "env.py")
    assert found.computed_table or found.computed_schema


def test_an_env_py_that_python_cannot_read_is_refused_with_its_line() -> None:
    with pytest.raises(BadScripts, match=r"^env\.py, line 2: "):
        read_env_py(b"import os\ndef (", "env.py")


@pytest.mark.parametrize(
    "odd",
    [
        "import os as revision\n\ndef upgrade(): pass\n",
        "from x import y as depends_on\n\ndef upgrade(): pass\n",
        "def revision(): pass\n",
        "def \\\n revision(): pass\n",
        "def \uff52evision(): pass\n",
        "class down_revision: pass\n",
    ],
)
def test_the_patterns_reject_a_script_that_binds_a_name_in_another_way(odd: str) -> None:
    assert plain_script.read((PLAIN + odd).encode(), PATH) is None


STARRED = 'revision = "b"\ndown_revision = "a"\nfrom {} import *\n'


@pytest.mark.parametrize("module", [*sorted(script_parser.STAR_MODULES), "sqlalchemy.dialects.postgresql"])
def test_a_star_import_of_a_library_without_such_names_leaves_the_script_readable(module: str) -> None:
    exported: dict[str, Any] = {}
    exec(f"from {module} import *", exported)
    assert not {*script_parser.NAMES} & exported.keys()
    found = revision(STARRED.format(module))
    assert (found.id, found.down, found.depends_on, found.labels) == ("b", ("a",), (), ())


def test_every_dialect_of_sqlalchemy_exports_none_of_the_four_names() -> None:
    for module in pkgutil.walk_packages(dialects.__path__, script_parser.STAR_PACKAGE):
        with suppress(ImportError):  # its driver is not installed
            assert not {*script_parser.NAMES} & vars(importlib.import_module(module.name)).keys()


@pytest.mark.parametrize("module", ["ids", ".ids", "alembic.command", "shop.models", ".sqlalchemy"])
def test_any_other_star_import_is_named_with_its_remedy(module: str) -> None:
    found = read(STARRED.format(module))
    assert isinstance(found, NotLiteral)
    assert (found.line, found.star) == (3, module)
    assert f"`from {module} import *` may set revision" in found.reason
    assert "assign revision below the import" in found.reason


def test_a_name_assigned_below_a_star_import_is_certain() -> None:
    source = 'from ids import *\nrevision = "b"\ndown_revision = "a"\ndepends_on = branch_labels = None\n'
    assert revision(source).id == "b"


def test_a_variable_of_the_script_may_come_from_any_star_import() -> None:
    assert isinstance(read('x = "b"\nfrom sqlalchemy import *\nrevision = x\ndown_revision = None\n'), NotLiteral)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("", False),
        ("post_deploy = True", True),
        ("post_deploy = False", False),
        ("post_deploy: bool = True", True),
        ("post_deploy=True  # contracts", True),
        ("post_deploy = True\npost_deploy = False", False),
        ("X = True\npost_deploy = X", True),
        ("def upgrade():\n    post_deploy = True", False),
        ("def upgrade():\n    pass\n\npost_deploy = True", True),
        ("from sqlalchemy import *\npost_deploy = True", True),
        ("post_deploy = True\nfrom sqlalchemy import *", True),
        ("# post_deploy = True", False),
        ('X = """\npost_deploy = True\n"""', False),
    ],
)
def test_post_deploy_is_read_as_text(line: str, value: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert revision(f'revision = "b"\ndown_revision = "a"\n{line}\n').post_deploy is value


@pytest.mark.parametrize("flag", ["True", "False"])
def test_post_deploy_leaves_a_plain_script_plain(flag: str) -> None:
    source = f'revision = "b"\ndown_revision = "a"\npost_deploy = {flag}\n\n\ndef upgrade() -> None:\n    pass\n'
    plain = plain_script.read(source.encode(), PATH)
    assert plain
    assert plain.post_deploy is (flag == "True")
    assert revision(source) == plain


@pytest.mark.parametrize(
    "line",
    [
        "post_deploy = bool(1)",
        "post_deploy = not False",
        "if X: post_deploy = True",
        "post_deploy = True\ndel post_deploy",
        "post_deploy = True\nfrom ids import *",
        "post_deploy = 1",
        "post_deploy, X = True, None",
        "post_deploy = True if X else False",
        "def post_deploy(): pass",
        "import x as post_deploy",
    ],
)
def test_a_computed_post_deploy_needs_alembics_loader(line: str) -> None:
    source = f'revision = "b"\ndown_revision = "a"\nbranch_labels = depends_on = None\n{line}\n'
    assert isinstance(read(source), NotLiteral)


@pytest.mark.parametrize("value", ["'True'", "None", "()", "('a',)", "[]"])
def test_a_post_deploy_that_is_no_flag_is_refused_with_its_line(value: str) -> None:
    with pytest.raises(BadScripts, match=f"^{PATH}, line 3: post_deploy is of type "):
        read(f'revision = "b"\ndown_revision = "a"\npost_deploy = {value}\n')


@pytest.mark.parametrize(
    "name", ["POST_DEPLOY", "Post_Deploy", "postdeploy", "post_depoly", "post_deplo", "post_deployment"]
)
def test_a_misspelled_post_deploy_is_refused_since_the_revision_would_not_wait(name: str) -> None:
    script = f'revision = "b"\ndown_revision = "a"\n{name}: bool = True\n'
    with pytest.raises(BadScripts, match=f"^{PATH}, line 3: {name} is not a name .* did you mean post_deploy"):
        read(script)


@pytest.mark.parametrize(
    "line",
    [
        "post_depoly = False",
        "post_depoly = 'True'",
        "post_deploy = False\nPOST_DEPLOY = True",
        "post_deploy_note = True",
        "def post_depoly(): pass",
        "def upgrade():\n    post_depoly = True",
    ],
)
def test_a_name_like_post_deploy_that_cannot_mean_it_is_the_scripts_own(line: str) -> None:
    assert not revision(f'revision = "b"\ndown_revision = "a"\n{line}\n').post_deploy
