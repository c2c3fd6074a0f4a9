"""What a driver's error about a database means."""

from __future__ import annotations

import pytest

from gate.database.location import explain
from gate.settings import database_url

URL = database_url.parse("postgresql://postgres@127.0.0.1:6432/shop", "DATABASE_URL")


@pytest.mark.parametrize(
    "text",
    [
        "FATAL:  server login has been failing, try again later (server_login_retry)",
        "server conn crashed?\nserver closed the connection unexpectedly",
    ],
)
def test_a_pooler_without_its_server_is_named(text: str) -> None:
    assert "The pooler has no connection to the database server" in str(explain(Exception(text), URL))


def test_a_password_that_the_server_refuses_through_a_pooler_is_named() -> None:
    text = "server login has been failing, cached error: password authentication failed (server_login_retry)"
    assert "refuses the password" in str(explain(Exception(text), URL))
