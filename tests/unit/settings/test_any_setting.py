"""Settings from any environment: a value or a message, never a traceback."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gate.database.postgresql.sql import identifier, literal
from gate.database.stamp import TableName
from gate.errors import BadSettings
from gate.settings import settings
from gate.settings.variables import SETTINGS
from tests.support.strategies import TEXT, printable_lines

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


@given(
    st.dictionaries(st.sampled_from([s.variable for s in SETTINGS]), TEXT | st.lists(WORDS, max_size=4).map("".join))
)
def test_any_environment_is_either_settings_or_complaints(environment: dict[str, str]) -> None:
    try:
        value = settings.read(environment)
    except BadSettings as error:
        assert printable_lines(error)
    else:
        for name in (value.version_table, value.version_table_schema):
            TableName(name or "v", name).key.signed  # noqa: B018 - the property encodes the name
            assert literal(name).encode()
            assert identifier(name or "").encode()


@given(st.text(st.characters(categories=["Lu", "Cc", "Cs"]), max_size=20), st.booleans())
def test_any_name_of_a_variable_is_shown_on_one_line(name: str, near: bool) -> None:  # noqa: FBT001 - a Hypothesis argument
    try:
        settings.read({f"GATE_TIMEOUT{name[:1]}" if near else f"GATE_{name}": "1"})
    except BadSettings as error:
        assert printable_lines(error)
