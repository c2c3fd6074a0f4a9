"""What the text of env.py shows of its version table, and what it hides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadScripts, BadSettings
from gate.image.env_py import read_env_py

CALL = "context.configure(connection=c{})\n"

SHOWN = [
    CALL.format(""),
    CALL.format(", **{'compare_type': True}"),
    "options = {'compare_type': True}\n" + CALL.format(", **options"),
    "options = dict(compare_type=True, **{'x': 1})\n" + CALL.format(", **options"),
    "a = {'x': 1}\nb = {**a, 'y': 2}\nb['z'] = 3\nb.update(w=4)\n" + CALL.format(", **b"),
    "context.configure(url=u, **config.attributes)\n" + CALL.format(""),
    "from alembic import context as k\nk.configure(connection=c)\n",
    "import alembic\nalembic.context.configure(connection=c)\n",
    "from alembic.context import configure\nconfigure(connection=c)\n",
    (
        "if context.is_offline_mode():\n    context.configure(url=u, version_table='v')\n"
        "else:\n    context.configure(connection=c, version_table='v')\n"
    ),
    "try:\n    context.configure(connection=c, version_table='v')\nfinally:\n    c.close()\n",
]
HIDDEN = [
    "",
    "from shop import run\nrun()\n",
    "import structlog\nstructlog.configure(processors=[])\nrun()\n",
    "context.configure(url=u, version_table='v')\n",
    CALL.format(", **options"),
    CALL.format(", **options()"),
    CALL.format(", **config.attributes"),
    CALL.format(", **{**options}"),
    CALL.format(", **{name: 'v'}"),
    "options = {}\noptions[name] = 'v'\n" + CALL.format(", **options"),
    "options = {}\nfill(options)\n" + CALL.format(", **options"),
    "options = {}\noptions.update(more)\n" + CALL.format(", **options"),
    "options = {}\noptions |= more\n" + CALL.format(", **options"),
    "options = {}\nfor options in many: pass\n" + CALL.format(", **options"),
    "options = dict(more)\n" + CALL.format(", **options"),
    "options = {}\ndef run(options):\n    " + CALL.format(", **options"),
    "options = {}\nfrom shop import options\n" + CALL.format(", **options"),
    "options = options_of(options)\n" + CALL.format(", **options"),
    "if X:\n    " + CALL.format(", version_table='v'") + "else:\n    " + CALL.format(""),
    "for t in tenants:\n    " + CALL.format(", version_table_schema='v'"),
    CALL.format(", version_table='v'") + CALL.format(""),
    "from functools import partial\n" + CALL.format("") + "partial(context.configure, connection=c)()\n",
]


@pytest.mark.parametrize("source", SHOWN)
def test_options_that_the_text_shows_are_seen(source: str) -> None:
    assert read_env_py(source.encode(), "env.py").unseen == ""


@pytest.mark.parametrize("source", HIDDEN)
def test_options_that_the_text_does_not_show_are_unseen(source: str) -> None:
    assert "env.py" in read_env_py(source.encode(), "env.py").unseen


def test_table_and_schema_are_computed_each_by_itself_with_line_and_expression() -> None:
    source = "context.configure(\n    connection=c,\n    version_table=f'{a}',\n    version_table_schema='s')\n"
    found = read_env_py(source.encode(), "env.py")
    assert str(found.computed_table) == "env.py, line 3: version_table=f'{a}'"
    assert (found.computed_schema, found.table, found.schema) == (None, None, "s")


def test_an_explicit_schema_wins_over_a_search_path() -> None:
    source = "c.execute('SET search_path TO x')\n" + CALL.format(", version_table_schema='s'")
    found = read_env_py(source.encode(), "env.py")
    assert (found.schema, found.computed_schema) == ("s", None)


def test_a_long_expression_is_shortened() -> None:
    found = read_env_py(CALL.format(f", version_table=f('{'x' * 5000}')").encode(), "env.py")
    assert len(str(found.computed_table)) < 300


PARTS = st.lists(st.sampled_from([*SHOWN, *HIDDEN, "context.script.version_locations = []\n", "x = {\n", "#\xff"]))


@given(PARTS)
def test_any_env_py_is_read_or_refused_with_its_line(parts: list[str]) -> None:
    try:
        read_env_py("".join(parts).encode(), "env.py")
    except (BadScripts, BadSettings) as error:
        assert str(error).startswith("env.py, line ")
