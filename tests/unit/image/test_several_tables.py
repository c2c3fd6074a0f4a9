"""Whether one run of env.py configures several version tables, or several databases."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadScripts
from gate.image.env_py import read_env_py
from gate.image.several_tables import several_tables

CALL = "context.configure(connection=c{})\ncontext.run_migrations()\n"
RUN = "def run(c, schema):\n    context.configure(connection=c, version_table_schema=schema)\n"


def several(text: str) -> str:
    """What is found in an env.py, as `gate check` reads it."""
    source = text.encode()
    return several_tables(source, "env.py") if read_env_py(source, "env.py").may_repeat else ""


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


SEVERAL = {
    "a loop over schemas": "for schema in schemas:\n" + indented(CALL.format(", version_table_schema=schema")),
    "a name made of the loop's": "for t in tenants:\n    s = f'tenant_{t}'\n"
    + indented(CALL.format(", version_table_schema=s")),
    "a table for each": "for name in ('a', 'b'):\n" + indented(CALL.format(", version_table='v_' + name")),
    "a function that a loop calls": RUN + "for s in schemas:\n    run(c, s)\n",
    "a function of an asynchronous loop": RUN
    + "async def main():\n    async for s in schemas():\n        await c.run_sync(run, s)\nasyncio.run(main())\n",
    "a function that map calls": RUN + "list(map(run, cs, schemas))\n",
    "a function that an executor calls": RUN + "pool.map(run, cs, schemas)\n",
    "a comprehension": RUN + "[run(c, s) for s in schemas]\n",
    "coroutines that run together": RUN.replace("def", "async def")
    + "async def main():\n    await asyncio.gather(*(run(c, s) for s in schemas))\n",
    "a lambda": "run = lambda s: context.configure(connection=c, version_table=s)\nfor s in schemas:\n    run(s)\n",
    "a search_path": "for s in schemas:\n    c.execute(text(f'SET search_path TO {s}'))\n" + indented(CALL.format("")),
    "a search_path with %": "for s in schemas:\n    c.execute('SET search_path TO %s' % s)\n"
    + indented(CALL.format("")),
    "a default schema": "for s in schemas:\n    c.dialect.default_schema_name = s\n" + indented(CALL.format("")),
    "a schema_translate_map": (
        "for s in schemas:\n    c = e.connect().execution_options(schema_translate_map={None: s})\n"
        + indented(CALL.format(""))
    ),
    "several databases": "for e in engines:\n    with e.connect() as c:\n" + indented(indented(CALL.format(""))),
    "the multidb template": "for name, rec in engines.items():\n    context.configure(connection=rec['connection'])\n",
    "a loop while there are some": "while schemas:\n    s = schemas.pop()\n"
    + indented(CALL.format(", version_table_schema=s")),
    "a closure": (
        "def run():\n    context.configure(connection=c, version_table_schema=s)\nfor s in schemas:\n    run()\n"
    ),
    "one table after the other": CALL.format(", version_table='va'") + CALL.format(", version_table='vb'"),
    "the default, then another": CALL.format("") + CALL.format(", version_table='vb'"),
    "one schema after the other": CALL.format(", version_table_schema=A") + CALL.format(", version_table_schema=B"),
    "one in a function, one without": "def run():\n"
    + indented(CALL.format(""))
    + "run()\n"
    + CALL.format(", version_table='v'"),
    "one that may follow": CALL.format("") + "if x:\n" + indented(CALL.format(", version_table='v'")),
}

ONE = {
    "a loop that tries again": "for n in range(5):\n" + indented(CALL.format(", version_table=NAME")),
    "an endless loop that tries again": "while True:\n    c = e.connect()\n" + indented(CALL.format("")),
    "a library that tries again": "for attempt in Retrying():\n    with attempt:\n"
    + indented(indented(CALL.format(""))),
    "pauses between tries": "for s in (1, 2):\n    time.sleep(s)\n    c = e.connect()\n" + indented(CALL.format("")),
    "a loop over another option": "for flag in (True, False):\n" + indented(CALL.format(", compare_type=flag")),
    "a loop before": "for name in names:\n    load(name)\n" + CALL.format(", version_table_schema=S"),
    "a loop that finds a host": "for url in urls:\n    e = create_engine(url)\n    break\n" + CALL.format(""),
    "a comprehension in the call": CALL.format(", include=[t for t in tables]"),
    "a loop in a function that filters": (
        "def include(name, *a):\n    return any(name == t for t in tables)\n" + CALL.format(", include_name=include")
    ),
    "offline and online": "for s in schemas:\n    context.configure(url=s)\n" + CALL.format(""),
    "either or": "if x:\n" + indented(CALL.format("")) + "else:\n" + indented(CALL.format(", version_table='v'")),
    "the first returns": (
        "def run():\n    if x:\n"
        + indented(indented(CALL.format("")))
        + "        return\n"
        + indented(CALL.format(", version_table='v'"))
        + "run()\n"
    ),
    "either of two functions": (
        "def one():\n"
        + indented(CALL.format(""))
        + "def other():\n"
        + indented(CALL.format(", version_table='v'"))
        + "one() if x else other()\n"
    ),
    "a handler": "try:\n" + indented(CALL.format("")) + "except E:\n" + indented(CALL.format(", version_table='v'")),
    "a match": "match x:\n    case 1:\n        pass\n    case _:\n" + indented(indented(CALL.format(""))),
    "the same twice": "N = 'v'\n" + CALL.format(", version_table=N") + CALL.format(", version_table='v'"),
    "a function that nothing calls": "def run():\n" + indented(CALL.format(", version_table='v'")) + CALL.format(""),
    "functions that call each other": (
        "def a():\n    b()\n" + indented(CALL.format("")) + "def b():\n    a()\n" + CALL.format(", version_table='v'")
    ),
    "a schema from outside": "S = os.environ['S']\n" + CALL.format(", version_table_schema=S"),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_several_tables_in_one_run_are_seen_with_the_line(form: str) -> None:
    found = several(SEVERAL[form])
    assert found.startswith("env.py, line ")


@pytest.mark.parametrize("form", ONE)
def test_one_table_in_one_run_is_not_taken_for_several(form: str) -> None:
    assert several(ONE[form]) == ""


def test_a_long_chain_of_operators_is_read_and_one_that_is_too_long_refused() -> None:
    source = CALL.format("") + CALL.format(", version_table='v'") + "x = " + "+".join(["y"] * 400) + "\n"
    assert "line 3" in several(source)
    with pytest.raises(BadScripts, match=r"env\.py, line 1: Python cannot read this script"):
        read_env_py(("x = " + "+".join(["y"] * 3000)).encode(), "env.py")


@given(st.lists(st.sampled_from([*SEVERAL.values(), *ONE.values(), "x = {\n", "#\x00"])))
def test_any_env_py_is_read_or_refused(parts: list[str]) -> None:
    with suppress(BadScripts):
        found = several("".join(parts))
        assert found == "" or found.startswith("env.py, line ")
