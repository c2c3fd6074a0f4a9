"""What `gate plan` prints: SQL of which each statement ends once, and comments that cannot become statements."""

from __future__ import annotations

import pytest
from hypothesis import given

from gate.drift.comparison import Drift, Verdict
from gate.migration.preview import Preview, RevisionPreview, as_sql
from tests.support.strategies import TEXT

DRIFT = Drift(Verdict.BEHIND, ("a1",), ("a3",), ("a2", "a3"))


@pytest.mark.parametrize(
    ("written", "sql"),
    [
        ("SELECT 1;\n\n", "SELECT 1;"),
        ("SELECT 1;;", "SELECT 1;"),
        ("SELECT 1 ;  ;\n", "SELECT 1;"),
        ("SELECT 1 -- the end;", "SELECT 1 -- the end\n;"),
        ("SELECT 1; -- the end;", "SELECT 1; -- the end\n;"),
        ("SELECT 1 # the end of MariaDB's;", "SELECT 1 # the end of MariaDB's\n;"),
        ("SELECT 'a -- b',\n  2;", "SELECT 'a -- b',\n  2;"),
        ("-- a comment", "-- a comment"),
        ("GO", "GO"),
        (";", ""),
        (" \n", ""),
    ],
)
def test_each_statement_ends_with_one_semicolon_that_no_comment_contains(written: str, sql: str) -> None:
    assert as_sql([written]) == sql


def test_statements_are_separated_by_a_blank_line() -> None:
    assert as_sql(["BEGIN;\n\n", "", "SELECT 1;"]) == "BEGIN;\n\nSELECT 1;"


@given(TEXT, TEXT, TEXT, TEXT)
def test_whatever_a_script_or_an_error_says_is_a_comment(id_: str, message: str, file: str, reason: str) -> None:
    revision = RevisionPreview(id_, message, file, reason=reason)
    sql = Preview(DRIFT, message, (reason,), revisions=(revision,)).as_sql()
    lines = [line for line in sql.split("\n") if line]
    assert all(line.startswith("-- ") and line.isprintable() for line in lines)
    assert len(lines) == 3 + bool(reason)


def test_blocks_are_in_order_between_what_is_before_and_after() -> None:
    revisions = (
        RevisionPreview("a2", "add shop", "a2.py", "SELECT 2;"),
        RevisionPreview("a3", "", "a3.py", None, "It connects."),
    )
    preview = Preview(DRIFT, "shop", ("Summary.",), "", revisions, "BEGIN;", "COMMIT;")
    assert preview.as_sql() == (
        "-- gate plan: BEHIND drift: db=a1 expected=a3\n-- Summary.\n\nBEGIN;\n\n"
        "-- revision a2: add shop (a2.py)\nSELECT 2;\n\n"
        "-- revision a3 (a3.py)\n-- gate has no SQL: It connects.\n\nCOMMIT;"
    )
    assert preview.as_text().splitlines()[1:] == ["Summary.", "  1/2  a2: add shop (a2.py)", "  2/2  a3 (a3.py)"]


def test_json_has_statements_and_reasons_only_if_they_were_asked_for() -> None:
    revision = RevisionPreview("a2", "add shop", "a2.py", "SELECT 2;")
    preview = Preview(DRIFT, "shop", ("Summary.",), "", (revision,), "BEGIN;", "COMMIT;")
    plain, with_sql = preview.as_json(with_sql=False), preview.as_json(with_sql=True)
    assert plain["revisions"] == [{"revision": "a2", "message": "add shop", "file": "a2.py", "phase": "required"}]
    assert with_sql["revisions"] == [
        {
            "revision": "a2",
            "message": "add shop",
            "file": "a2.py",
            "phase": "required",
            "sql": "SELECT 2;",
            "reason": None,
        }
    ]
    assert (with_sql["before"], with_sql["after"], with_sql["error"]) == ("BEGIN;", "COMMIT;", None)
