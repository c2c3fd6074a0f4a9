"""Whether running env.py in offline mode shows the version table of an online run, by its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadScripts, BadSettings
from gate.image.configure_calls import Translation, offline_doubt, read_translation
from gate.image.env_py import Expression

CALLS = """
def offline():
    context.configure(url=url{offline})

def online(connection):
    context.configure(connection=connection{online})

offline() if context.is_offline_mode() else online(connect())
"""


def calls(both: str = "", offline: str = "", online: str = "", before: str = "") -> str:
    return before + CALLS.format(offline=both + offline, online=both + online)


CERTAIN = {
    "neither names it": calls(),
    "both name it": calls(", version_table='v', version_table_schema='s'"),
    "both compute it": calls(", version_table=settings.table", before="from shop import settings\n"),
    "both unpack the same": calls(", **OPTIONS", before="from shop import OPTIONS\n"),
    "other options differ": calls(offline=", literal_binds=True", online=", compare_type=True"),
    "shown options differ": calls(online=", **{'compare_type': True}"),
    "a name of the module": calls(", version_table=NAME", before="NAME = 'v'\n"),
    "the search_path of PostgreSQL": calls(before="SQL = 'SET search_path TO public'\n"),
    "the search_path, but the schema is named": calls(
        ", version_table_schema='s'", before="SQL = 'SET search_path TO tenant'\n"
    ),
    "a dialect in the place of a URL": calls().replace("url=url", "dialect_name='postgresql'"),
}
DOUBTFUL = {
    "no call": ("run()\n", "calls no context.configure with a connection"),
    "only the offline call": ("context.configure(url=url)\n", "calls no context.configure with a connection"),
    "the online branch names it": (
        calls(online=", version_table='v'"),
        "line 6: version_table='v' is passed by one call",
    ),
    "the offline branch names it": (calls(offline=", version_table='v'"), "line 3: version_table='v' is passed by one"),
    "the schema differs": (
        calls(offline=", version_table_schema='a'", online=", version_table_schema='b'"),
        "version_table_schema='b' is not what an earlier call passes",
    ),
    "Flask-Migrate": (calls(online=", **conf_args"), "line 6: **conf_args is passed by one call"),
    "a dict names it in one branch": (calls(online=", **{'version_table': 'v'}"), "is passed by one call"),
    "a variable": (calls(", version_table=os.environ['V']"), "depends on an environment variable"),
    "a variable through names": (
        calls(", **options", before="name = os.getenv('V')\noptions = dict(version_table=name)\n"),
        "depends on an environment variable",
    ),
    "an argument": (calls(", version_table=context.get_x_argument()[0]"), "depends on an argument of the command line"),
    "the mode": (calls(", version_table='a' if context.is_offline_mode() else 'b'"), "depends on the offline mode"),
    "a local name": (
        "def run(name):\n    context.configure(connection=name, version_table=name)\n",
        "depends on the local name name",
    ),
    "the search_path": (calls(before="SQL = 'SET search_path TO tenant'\n"), "chooses the schema"),
    "a schema_translate_map": (
        calls(before="o = {'schema_translate_map': {None: 'tenant'}}\n"),
        "chooses the schema",
    ),
    "a branch": (
        "if shop:\n    options = {'version_table': 'v'}\n" + calls(", **options"),
        "is passed in one branch of env.py",
    ),
    "a loop": (
        "for name in names:\n    context.configure(connection=c, version_table=name)\n",
        "is passed in one branch of env.py",
    ),
    "a partial": (calls(before="configure = partial(context.configure, version_table='v')\n"), "is called elsewhere"),
}


@pytest.mark.parametrize("what", CERTAIN)
def test_the_offline_run_is_believed_where(what: str) -> None:
    assert offline_doubt(CERTAIN[what].encode(), "env.py") == ""


@pytest.mark.parametrize("what", DOUBTFUL)
def test_the_offline_run_is_not_believed_where_the_text_shows(what: str) -> None:
    text, reason = DOUBTFUL[what]
    doubt = offline_doubt(text.encode(), "env.py")
    assert reason in doubt
    assert doubt.startswith("env.py")


MAPS = {
    "": Translation(),
    "o = {'schema_translate_map': {'tenant': 'acme', None: None}}": Translation({"tenant": "acme", None: None}),
    "c.execution_options(schema_translate_map={'t': 'x'})": Translation({"t": "x"}),
    "M = {'t': 'x'}\nc.execution_options(schema_translate_map=M)": Translation({"t": "x"}),
    "NAME = 'x'\nc.execution_options(schema_translate_map={'t': NAME})": Translation({"t": "x"}),
}


@pytest.mark.parametrize("text", MAPS)
def test_a_literal_schema_translate_map_is_known(text: str) -> None:
    assert read_translation(text.encode(), "env.py") == MAPS[text]


@pytest.mark.parametrize("text", ["{'t': name()}", "{'t': 'a'}, x={'schema_translate_map': {'t': 'b'}}"])
def test_a_computed_schema_is_known_as_such(text: str) -> None:
    translation = read_translation(f"c.execution_options(schema_translate_map={text})".encode(), "env.py")
    assert isinstance(translation.computed_for("t"), Expression)
    assert translation.computed_for("u") is None


@pytest.mark.parametrize("text", ["maps()", "{name: 'a'}", "{**maps}", "unknown"])
def test_a_computed_map_makes_every_schema_unknown(text: str) -> None:
    translation = read_translation(f"c.execution_options(schema_translate_map={text})".encode(), "env.py")
    assert isinstance(translation.computed_for("t"), Expression)
    assert isinstance(translation.computed_for(None), Expression)


PIECES = st.sampled_from([*CERTAIN.values(), *(text for text, _ in DOUBTFUL.values()), *MAPS, "x = (", "\0", "\t"])


@given(st.lists(PIECES, max_size=3).map("\n".join))
def test_any_env_py_is_judged_or_refused(text: str) -> None:
    try:
        doubt = offline_doubt(text.encode(), "env.py")
        read_translation(text.encode(), "env.py")
    except (BadScripts, BadSettings) as error:
        assert "env.py" in str(error)
    else:
        assert "\n" not in doubt
