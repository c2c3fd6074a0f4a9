"""Any database URL is parsed or refused with a message, and its password is never shown."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from gate import redaction
from gate.database import location
from gate.database.postgresql.connection import connect
from gate.errors import BadSettings, GateError
from gate.settings import database_url
from gate.settings.database_url import UrlSource
from tests.support.strategies import PASSWORD, TEXT, URL_PIECES, printable_lines


@given(st.lists(URL_PIECES, max_size=12).map("".join))
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
        ), "text outside the password field is not redacted"


@given(st.lists(URL_PIECES, max_size=8).map("".join), st.lists(URL_PIECES, max_size=8).map("".join))
def test_any_url_that_gate_takes_is_tried_and_a_failure_is_told(user: str, query: str) -> None:
    text = f"postgresql://{user}@127.0.0.1:1/db?{query}"
    try:
        database = location.locate(UrlSource("DATABASE_URL", text), {}, None, (1, 1))
        assume({database.url().conninfo.get(key, "") for key in ("host", "port", "hostaddr")} <= {"127.0.0.1", "1", ""})
        connect(database).close()
    except GateError as error:
        assert printable_lines(error)
        assert f":{PASSWORD}@" not in str(error)


@given(st.lists(URL_PIECES | TEXT, max_size=6).map("".join), st.sampled_from(["", " ", "\n", ".", ", "]))
def test_a_password_that_was_told_is_hidden_in_any_text_around_it(around: str, between: str) -> None:
    database_url.parse(f"postgresql://u:{PASSWORD}@h/db", "DATABASE_URL")
    assert PASSWORD not in redaction.hide(f"{around}{between}{PASSWORD}{between}{around}")
