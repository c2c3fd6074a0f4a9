"""What GATE_SCHEMAS asks for: names, patterns, or a SELECT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import BadSettings
from gate.settings import settings
from gate.settings.schema_source import MAX_NAME_BYTES, SchemaSource, is_system_schema

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15).filter(
    lambda name: not is_system_schema(name)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", SchemaSource(("a",))),
        (" a , b ", SchemaSource(("a", "b"))),
        ("b,a,b", SchemaSource(("b", "a"))),
        ("Tenant_A", SchemaSource(("Tenant_A",))),
        ('"a,b"', SchemaSource(("a,b",))),
        ('"say ""hi""", x', SchemaSource(('say "hi"', "x"))),
        ("tenant_*", SchemaSource(patterns=("tenant_*",))),
        ("shared,t?", SchemaSource(("shared",), ("t?",))),
        ('"t*"', SchemaSource(("t*",))),
        ("select", SchemaSource(("select",))),
        ("with,table", SchemaSource(("with", "table"))),
        ("select_1", SchemaSource(("select_1",))),
        ("SELECT name FROM tenants;", SchemaSource(query="SELECT name FROM tenants")),
        ("select(1)", SchemaSource(query="select(1)")),
        ("(VALUES ('a'))", SchemaSource(query="(VALUES ('a'))")),
        ("TABLE tenants", SchemaSource(query="TABLE tenants")),
        ("WITH x AS (SELECT 1) SELECT * FROM x", SchemaSource(query="WITH x AS (SELECT 1) SELECT * FROM x")),
        ("-- all\nSELECT 1", SchemaSource(query="-- all\nSELECT 1")),
        ("/* all */ SELECT 1", SchemaSource(query="/* all */ SELECT 1")),
    ],
)
def test_the_setting_is_read(text: str, expected: SchemaSource) -> None:
    assert SchemaSource.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,,b", "has an empty name"),
        ("a,", "has an empty name"),
        (",", "has an empty name"),
        ('""', "has a quote"),
        ('"a', "has a quote"),
        ('a"b', "has a quote"),
        ('"a"b', "has a quote"),
        ("a b", "neither a SELECT nor a plain name"),
        ("DELETE FROM tenants", "neither a SELECT nor a plain name"),
        ("a;b", "neither a SELECT nor a plain name"),
        ("pg_catalog", "a schema of the server itself"),
        ("a,information_schema", "a schema of the server itself"),
        ("é" * 32, f"longer than PostgreSQL's {MAX_NAME_BYTES} bytes"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BadSettings) as refused:
        settings.read({"GATE_SCHEMAS": text})
    assert str(refused.value).startswith("GATE_SCHEMAS ")
    assert reason in str(refused.value)


def test_the_flag_is_named_where_it_was_given() -> None:
    with pytest.raises(BadSettings, match=r"^--schemas has an empty name"):
        settings.read({}, {"GATE_SCHEMAS": "a,,b"})


def test_one_schema_and_many_exclude_each_other() -> None:
    with pytest.raises(BadSettings, match="GATE_SCHEMAS and GATE_VERSION_TABLE_SCHEMA exclude each other"):
        settings.read({"GATE_SCHEMAS": "a", "GATE_VERSION_TABLE_SCHEMA": "a"})


@pytest.mark.parametrize("name", ["a=b", "two words"])
def test_a_schema_argument_that_alembic_cannot_take_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match="GATE_SCHEMA_ARGUMENT must be a name"):
        settings.read({"GATE_SCHEMA_ARGUMENT": name})


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_any_quoted_name_is_read_as_it_is(names: list[str]) -> None:
    text = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    assert SchemaSource.parse(text) == SchemaSource(tuple(names))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        source = SchemaSource.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert source.names or source.patterns or source.query
        assert SchemaSource.parse(str(source)) == source
