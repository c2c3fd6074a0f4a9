"""Any command line is parsed or refused with a message."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from gate.cli import arguments
from gate.errors import BadUsage
from gate.settings.arguments import COMMANDS
from gate.settings.variables import SETTINGS
from tests.support.strategies import TEXT, printable_lines


@given(
    st.lists(
        st.sampled_from([*COMMANDS, *(s.flag for s in SETTINGS if s.flag), "-c", "-x", "--"]) | TEXT,
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
