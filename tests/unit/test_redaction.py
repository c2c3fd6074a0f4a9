"""No password is shown: in any spelling, as a part beside a cut, or where only its place betrays it."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gate import log, redaction
from gate.database.location import explain
from gate.database.sessions import MAX_STATEMENT_LENGTH, shorten_error, shorten_statement
from gate.errors import BadSettings
from gate.redaction import HIDDEN, hide, hide_in_message
from gate.settings import database_url
from gate.text import printable
from gate.waiting.termination_log import TerminationLog

Spelling = Callable[[str], str]

ENCODINGS: dict[str, Spelling] = {
    "as it is": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, with / and space": lambda text: quote(text, safe="/ +"),
    "percent, as encodeURI": lambda text: quote(text, safe=";,/?:@&=+$-_.!~*'()#"),
    "percent, a form": quote_plus,
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent, small letters": lambda text: "".join(
        c if c.isalnum() and c.isascii() else quote(c, "").lower() for c in text
    ),
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "bytes": lambda text: repr(text.encode())[2:-1],
    "json": lambda text: json.dumps(text)[1:-1],
    "json, not ascii": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "sql": lambda text: text.replace("'", "''"),
    "mysql": lambda text: text.replace("\\", "\\\\").replace("'", "\\'"),
    "an sql identifier": lambda text: text.replace('"', '""'),
    "html": html.escape,
    "html, double quotes only": lambda text: html.escape(text, quote=False),
    "html, decimal": lambda text: "".join(c if c.isalnum() and c.isascii() else f"&#{ord(c)};" for c in text),
    "shell": shlex.quote,
    "shell, backslashes": lambda text: "".join(c if c.isalnum() else f"\\{c}" for c in text),
    "ini": lambda text: text.replace("%", "%%"),
    "str.format": lambda text: text.replace("{", "{{").replace("}", "}}"),
    "sqlalchemy's text()": lambda text: text.replace(":", "\\:"),
    "the log's own": printable,
    "one line": lambda text: " ".join(text.split()),
}
"""Every language in which a text may quote a password."""

OUTER: dict[str, Spelling] = {
    name: ENCODINGS[name] for name in ("as it is", "repr", "ascii", "json", "html", "the log's own")
}
"""Those that quote a text which quotes a password, such as the repr of a statement."""


def know(*secrets: str) -> None:
    """Make these the only known passwords: Hypothesis draws many in one test."""
    redaction._known.clear()
    redaction.remember({*secrets})


def occurs(password: str, *texts: str) -> bool:
    """Whether a text shows the password without quoting it: "her" is hidden in "here", too."""
    return any(spelling in text for spelling in redaction.spellings(password) for text in texts)


PASSWORDS = st.text(
    st.sampled_from("aZ09_")
    | st.sampled_from("%@:/?#&+='\"\\ $!*<>{}()[]~^|;,.-")
    | st.characters(exclude_categories=["Cs"]),
    min_size=3,
    max_size=24,
).filter(lambda text: text == text.strip())


@given(PASSWORDS, st.sampled_from([*ENCODINGS]), st.sampled_from([*OUTER]))
@example("it's %41 a\\pass/wörd\"", "sql", "repr")
@example("''''''''''''''''''''", "shell", "json")
@example("\\\\\\'\\\\'", "mysql", "repr")
@example("a\U0001f511b€", "json", "ascii")
def test_a_password_is_hidden_in_every_spelling(password: str, encoding: str, outer: str) -> None:
    assume(not {*password} <= {*"* "})
    written = OUTER[outer](ENCODINGS[encoding](password))
    assume(len(written) >= redaction.MIN_SECRET_LENGTH)
    assume(not occurs(password, "no way toQ", "Qfor x"))
    know(*redaction.spellings(password))
    shown = hide(f"no way toQ{written}Qfor x")
    assert written not in shown
    assert shown.startswith("no way toQ")
    assert shown.endswith("Qfor x")
    assert len(shown) < len("no way toQQfor x") + 20, "some of it is left"


@given(PASSWORDS, st.sampled_from(["postgresql+asyncpg", "mysql+pymysql"]))
def test_a_password_is_hidden_in_the_url_that_sqlalchemy_renders(password: str, driver: str) -> None:
    made = sqlalchemy.URL.create(driver, "app", password, "db", None, "shop")
    assume(not occurs(password, f"no {driver}://app:", "@db/shop here"))
    know(*redaction.spellings(password))
    assert hide(f"no {made.render_as_string(hide_password=False)} here") == f"no {driver}://app:{HIDDEN}@db/shop here"


DISTINCT = st.text("QWXYZ789@/:?#%&+'\"\\ -", min_size=6, max_size=24).filter(
    lambda text: text == " ".join(text.split())
)
"""Passwords of characters that occur in no text around them; without repetitions of white space."""

CUTS = ["", "...", "…", " ...", "'", '"', "`", "\n", "\\n", "...'", " ... (300 characters truncated) ... "]


def visible(password: str, text: str) -> int:
    """The length of the longest beginning or end of the password that the text shows."""
    parts = (part for n in range(1, len(password) + 1) for part in (password[:n], password[-n:]))
    return max((len(part) for part in parts if part in text and any(c in "QWXYZ789" for c in part)), default=0)


@given(DISTINCT, st.data(), st.sampled_from(CUTS))
@example("Tr0ub4dor-and-3-horses", None, "...")
@example("77\\777", None, "'")
def test_no_beginning_and_no_end_of_a_password_is_shown_beside_a_cut(
    password: str, data: st.DataObject | None, cut: str
) -> None:
    know(password)
    for length in range(3, len(password)) if data is None else [data.draw(st.integers(3, len(password) - 1))]:
        for text in (
            f"LINE 1: select to {password[:length]}{cut}",
            f"{cut}{password[-length:]} from nowhere",
            f"before {cut or '...'}{password[:length]}{cut or '...'} and after",
            f"before {cut or '...'}{password[-length:]}{cut or '...'} and after",
            f"before '{password[1:length]}' and after",
        ):
            assert visible(password, hide(text)) < redaction.MIN_SECRET_LENGTH, text


@given(DISTINCT, st.integers(0, 700), st.booleans())
def test_a_statement_is_redacted_before_it_is_cut(password: str, length: int, known: bool) -> None:  # noqa: FBT001 - drawn
    assume("@" not in password and not password[0].isdigit())
    know(*([password] if known else []))
    url = f"postgresql://web:{password if known else password.replace(' ', '_')}@h/db"
    statement = f"select {'x' * length} '{url}' from nowhere"
    shown = [
        shorten_statement(statement),
        shorten_error(f"UndefinedTable: {statement} (in: {statement})"),
        str(explain(ValueError(statement), database_url.parse("postgresql://h/db", "DATABASE_URL"))),
    ]
    assert [text for text in shown if visible(password, text) >= redaction.MIN_SECRET_LENGTH] == []
    assert len(shown[0]) <= MAX_STATEMENT_LENGTH


def test_the_statement_that_failed_is_shown_in_short_behind_a_long_error() -> None:
    shown = shorten_error(f"UndefinedTable: {'x' * 1000} (in: {'y' * 1000})")
    assert shown == f"UndefinedTable: {'x' * 484}… (in: {'y' * 120})"
    assert shorten_error("RuntimeError: (in: no statement") == "RuntimeError: (in: no statement"


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize("end", ["", "...", "'", "…'", '")', " and so on", "\n"])
def test_what_has_the_form_of_a_url_is_hidden_where_its_at_sign_was_cut_off(cut: int, end: str) -> None:
    assert hide(f"dblink('postgresql://web:{'s3cr3tW0rdX'[:cut]}{end}").startswith(f"dblink('postgresql://web:{HIDDEN}")


@pytest.mark.parametrize(
    "password", ["pa ss", "pa/ss", "pa?ss", "pa#ss", "pa ss/wo rd", "1234567", "a:b", "a@b", "12 ab?"]
)
def test_an_unknown_password_with_delimiters_is_hidden_in_a_url(password: str) -> None:
    for text in (f"no postgresql://web:{password}@db/shop here", f"no 'postgresql://web:{password}@db:5432/shop' here"):
        assert "ss" not in hide(text).replace("postgresql", "")
        assert password not in hide(text)


@pytest.mark.parametrize("password", ["pa/sw0rd", "pa#sw0rd", "pa?sw0rd", "pa sw0rd", "pa@sw0rd", "pa:sw0rd", "[sw0rd"])
@pytest.mark.parametrize(
    "error",
    [
        "Port could not be cast to integer value as '{before}'",
        "invalid literal for int() with base 10: '{after}@db'",
        'could not translate host name "{after}@db" to address',
        'invalid port number: "{after}"',
        "netloc 'web:{password}@db' contains invalid characters under NFKC normalization",
        'syntax error at or near "sw0rd"',
        "could not parse 'postgresql://web:{password}@db/shop'",
    ],
)
def test_an_error_of_a_url_parser_shows_no_piece_of_the_password(password: str, error: str) -> None:
    know(*redaction.spellings(password))
    after = password[password.index("sw0rd") :]
    assert "sw0" not in hide(error.format(password=password, before=password.partition("/")[0], after=after))


@pytest.mark.parametrize(
    "text",
    [
        "connection to postgresql://db:5432/shop failed",
        "see http://localhost:8000.",
        "see (http://localhost:8000).",
        "postgresql://h1:5432,h2:5433/shop and postgresql://[::1]:5432/shop",
        "write postgresql://user:password@host:5432/database.",
        "nothing at postgresql://app@db:5432/shop",
        'relation "users" does not exist LINE 1: select * from users...',
        "sqlite:///file:/path/shop.db?uri=true",
    ],
)
def test_what_holds_no_password_stays_readable(text: str) -> None:
    redaction.remember({"Tr0ub4dor-and-3-horses"})
    assert hide(text) == hide_in_message(text) == text


WORDS = [
    "gate",
    "starting",
    "info",
    "password",
    "BEHIND",
    "Database",
    "drift",
    "message",
    "timestamp",
    "migration",
    "waits",
]
SENTENCE = "drift: db=a1 expected=a2. Database shop is BEHIND. gate waits for a migration; starting needs a password."


@pytest.mark.parametrize("word", WORDS)
def test_a_password_that_is_a_word_cuts_no_sentence_of_gate(
    word: str, capfd: pytest.CaptureFixture[str], tmp_path: pytest.TempPathFactory
) -> None:
    database_url.parse(f"postgresql://app:{word}@db/shop", "DATABASE_URL")
    log.configure("json")
    log.emit("critical", "gate.starting", SENTENCE, verdict="BEHIND", kind="BadSettings", drift="drift: db=a1")
    event = json.loads(capfd.readouterr().err)
    assert event.pop("timestamp").startswith("20")
    own = {"level": "critical", "event": "gate.starting", "message": SENTENCE, "verdict": "BEHIND"}
    assert event == own | {"kind": "BadSettings", "drift": "drift: db=a1"}
    path = tmp_path / "log"  # type: ignore[operator] # a Path
    TerminationLog(str(path)).write(SENTENCE)
    assert path.read_text() == SENTENCE
    assert word not in hide(f"role <{word}>")


@pytest.mark.parametrize("word", ["gate.starting", "critical2", "2026", "BadSettings!", "T0", "-0"])
def test_no_password_changes_event_level_or_timestamp(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    redaction.remember({word})
    log.configure("json")
    log.emit("critical", "gate.starting", f"It is {word}x", kind="BadSettings!")
    event = json.loads(capfd.readouterr().err)
    assert (event["event"], event["level"], event["kind"]) == ("gate.starting", "critical", "BadSettings!")
    assert HIDDEN not in event["timestamp"]


@pytest.mark.parametrize("secret", ["two-words", "s3cret", "xKqpZv", "with space", "a" * 21, "größer!"])
def test_a_password_that_is_no_word_is_hidden_in_messages_too(secret: str) -> None:
    redaction.remember({secret})
    assert hide_in_message(f"It is {secret}.") == f"It is {HIDDEN}."


def test_a_text_with_many_edges_takes_no_longer_than_reading_it() -> None:
    redaction.remember(
        {"'\"'\"'\\\\\\'''''", "aaaaaaaaaaaaaaaaaaaa", "\\\\\\\\\\\\\\\\", "    x    ", "%%%%%%%%", "$-'$-'"}
    )
    for bait in ("'", "aaa'", "\\", "...", "%", " ", "$-'", "%25", "&amp;", "://a:", "…a", '"\'"', "\\'"):
        assert hide(bait * 5_000)


def test_a_source_is_read_again_since_passwords_rotate() -> None:
    current = {"yesterday-1"}
    redaction.learn_from("test", lambda: current)
    assert hide("yesterday-1 today-2") == "*** today-2"
    current = {"today-2"}
    assert hide("yesterday-1 today-2") == "*** ***"


def test_the_error_about_a_url_is_the_same_for_any_known_password() -> None:
    redaction.remember({"password", "postgresql", "database"})
    with pytest.raises(BadSettings) as caught:
        database_url.parse("nonsense", "DATABASE_URL")
    assert hide_in_message(str(caught.value)) == str(caught.value)
    assert "postgresql://user:password@host:5432/database" in str(caught.value)
