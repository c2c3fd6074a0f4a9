"""Reject an inspection that may have read another table than the version table of this application.

"Not found" is not believed while another table that this role can see holds revisions of this image, and neither is
Alembic's default name where env.py may name another one.
"""

from __future__ import annotations

from gate.database.stamp import Namesake, OtherTable, Stamp, TableName
from gate.drift.comparison import Drift
from gate.errors import BadSettings, DatabaseUnavailable
from gate.image.env_py import Expression
from gate.image.revision_graph import RevisionGraph
from gate.text import join_ids, printable

TABLE, SCHEMA = "GATE_VERSION_TABLE", "GATE_VERSION_TABLE_SCHEMA"


def verify(
    stamp: Stamp, table: TableName, graph: RevisionGraph, drift: Drift, *, migrating: bool = False
) -> dict[str, str]:
    """Return warnings by event name. `migrating`: this gate may migrate, and env.py may create the missing schema.

    Raises `BadSettings` if the version table is elsewhere or its name cannot be known, and `DatabaseUnavailable` if it
    may be hidden from this role, or holds rows that Alembic cannot read.
    """
    warnings = {}
    if stamp.foreign_search_path:
        warnings["gate.foreign_search_path"] = (
            f"Another client of a pooler left the search_path {printable(stamp.foreign_search_path)} on the "
            f"connection to database {stamp.database}; gate used that of its role, {printable(stamp.search_path)}. The "
            "server may get such a connection, too: let the pooler reset its connections "
            "(server_reset_query). If the pooler sets it on purpose, use ALTER ROLE … SET search_path instead."
        )
    _reject_padded_rows(drift, graph, stamp)
    known = _known_tables(stamp, graph)
    if stamp.rows is not None:
        _reject_other_candidate(stamp, table, known)
        return warnings
    _reject_computed(stamp, table, known)
    known, elsewhere = _partition(stamp, table, known)
    if known:
        raise BadSettings(_not_found(stamp, table, known))
    _reject_namesakes(stamp, table)
    _reject_wrong_setting(stamp, table)
    _reject_unreadable(stamp, table)
    if not (stamp.schema or stamp.schema_exists or migrating):
        raise DatabaseUnavailable(
            f"No schema on the search_path of role {stamp.role} ({stamp.search_path}) exists in database "
            f"{stamp.database}: create the schema, correct the search_path, or let gate migrate if env.py creates it."
        )
    if elsewhere:
        warnings["gate.other_version_table"] = (
            f"{_described(elsewhere)}, but {SCHEMA} names schema {printable(stamp.schema)} of database "
            f"{stamp.database}, which has no version table {printable(table.table)}. If the other one is that of this "
            f"application, set {_settings(elsewhere)}."
        )
    return warnings


def _known_tables(stamp: Stamp, graph: RevisionGraph) -> list[OtherTable]:
    """Return the other tables with rows of this image, which nothing but another version table of it has."""
    return [other for other in stamp.other_version_tables if any(row in graph.revisions for row in other.rows or ())]


def _partition(stamp: Stamp, table: TableName, known: list[OtherTable]) -> tuple[list[OtherTable], list[OtherTable]]:
    """Separate tables in other schemas where the setting names an existing one: each tenant may have its own."""
    if not (table.schema_is_set and stamp.schema_exists):
        return known, []
    return [o for o in known if o.schema == stamp.schema], [o for o in known if o.schema != stamp.schema]


def _reject_padded_rows(drift: Drift, graph: RevisionGraph, stamp: Stamp) -> None:
    padded = [row for row in drift.unknown if row != row.rstrip(" ") and graph.resolve(row.rstrip(" "))]
    if padded:
        raise DatabaseUnavailable(
            f"The version table of database {stamp.database} holds {join_ids(padded)!r} with spaces behind it, which "
            "Alembic does not recognise: its column is probably of type char(n) and not varchar(n). Correct it: ALTER "
            "TABLE … ALTER COLUMN version_num TYPE varchar(32) USING rtrim(version_num)."
        )


def _reject_other_candidate(stamp: Stamp, table: TableName, known: list[OtherTable]) -> None:
    """Raise if env.py may use another table that exists, too."""
    if not known or not table.is_uncertain:
        return
    here = OtherTable(stamp.schema, table.table, stamp.rows)
    raise BadSettings(
        f"gate cannot know which version table is the one of this application: {_doubt(table)}. Database "
        f"{stamp.database} has {printable(here.name)}, which holds {join_ids(stamp.rows or ()) or 'no row'}, and "
        f"{_described(known)}. Set {_settings([here])} or {_settings(known)}."
    )


def _reject_computed(stamp: Stamp, table: TableName, known: list[OtherTable]) -> None:
    """Raise if env.py computes a name that no setting names: one setting does not answer for the other."""
    computed_table = None if table.table_is_set else table.env_py.computed_table
    computed_schema = None if table.schema_is_set else table.env_py.computed_schema
    if not computed_table and not computed_schema:
        return
    sentences = [
        f"env.py computes the {part} of the version table ({expression}), and gate does not run it: set {setting}."
        for part, expression, setting in (("name", computed_table, TABLE), ("schema", computed_schema, SCHEMA))
        if expression
    ]
    raise BadSettings(
        f"Database {stamp.database} has no {table.table} {_place(stamp)}. {' '.join(sentences)}"
        + (f" {_described(known)}: set {_settings(known)}." if known else _named_grant(stamp, table))
    )


def _reject_namesakes(stamp: Stamp, table: TableName) -> None:
    """Raise for tables of this name elsewhere: each is another application's, or hidden from this role."""
    if not stamp.namesakes:
        return
    first = stamp.namesakes[0]
    steps = _grants(first, table.table, stamp.role)
    if not first.on_path:
        steps.append(f"set {SCHEMA}={first.schema}, or add that schema to the search_path")
    schemas, many = join_ids([each.schema for each in stamp.namesakes]), len(stamp.namesakes) > 1
    raise DatabaseUnavailable(
        f"Role {stamp.role} finds no table {table.table} on its search_path ({stamp.search_path}) in database "
        f"{stamp.database}, but schema{'s' if many else ''} {schemas} {'have' if many else 'has'} one. If "
        f"{first.schema}.{table.table} is that of this application, {' and '.join(steps)}. Otherwise set {SCHEMA} to "
        "the schema of this application."
    )


def _grants(namesake: Namesake, table: str, role: str) -> list[str]:
    """The rights that this role lacks."""
    return [
        *([] if namesake.usable else [f"GRANT USAGE ON SCHEMA {namesake.schema} TO {role}"]),
        *([] if namesake.readable else [f"GRANT SELECT ON {namesake.schema}.{table} TO {role}"]),
    ]


def _place(stamp: Stamp) -> str:
    """Say where the version table is not."""
    if stamp.namesakes or not stamp.schema:
        return f"on the search_path of role {stamp.role} ({stamp.search_path})"
    return f"in schema {stamp.schema}"


def _reject_wrong_setting(stamp: Stamp, table: TableName) -> None:
    """Raise for a setting that joins schema and table, or is right but for its capitals."""
    name, schema = table.table.casefold(), (table.schema or "").casefold()
    meant = [
        other
        for other in stamp.other_version_tables
        if other.name.casefold() == name
        or (other.table.casefold() == name and (table.schema is None or other.schema.casefold() == schema))
    ]
    if meant and (table.table_is_set or table.schema_is_set):
        raise BadSettings(
            f"{_given(table)}, but database {stamp.database} has no such table; it has "
            f"{printable(meant[0].name)}. Set {_settings(meant)}."
        )


def _reject_unreadable(stamp: Stamp, table: TableName) -> None:
    """Raise if the table that env.py does not show may be one that this role cannot read."""
    if table.table_is_uncertain and (grant := _named_grant(stamp, table)):
        raise DatabaseUnavailable(
            f"Database {stamp.database} has no {table.table} {_place(stamp)}, but {table.env_py.unseen}."
            f"{grant} If the version table has another name, set {TABLE}."
        )


def _named_grant(stamp: Stamp, table: TableName) -> str:
    """Name a table that this role may not read, and the GRANT."""
    own_schema_is_set = table.schema_is_set and stamp.schema_exists
    for other in stamp.other_version_tables:
        if other.rows is None and not (own_schema_is_set and other.schema != stamp.schema):
            return (
                f" Role {stamp.role} may not read all rows of {printable(other.name)}, which has a column version_num: "
                f"GRANT USAGE ON SCHEMA {printable(other.schema)} TO {stamp.role} and GRANT SELECT ON "
                f"{printable(other.name)} TO {stamp.role}, if it is the version table."
            )
    return ""


def _not_found(stamp: Stamp, table: TableName, known: list[OtherTable]) -> str:
    return (
        f"{_given(table)}, but database {stamp.database} has no such table {_place(stamp)}. "
        f"{_described(known)}. Set {_settings(known)}."
    )


def _given(table: TableName) -> str:
    """Say what names the version table."""
    if table.table_is_set or table.schema_is_set:
        given = [f"{TABLE}={table.table}"] if table.table_is_set else []
        given += [f"{SCHEMA}={table.schema}"] if table.schema_is_set else []
        return f"{printable(' and '.join(given))} name{'' if len(given) > 1 else 's'} the version table"
    if table.env_py.unseen:
        return f"gate looks for the version table {printable(table.table)}, since {table.env_py.unseen}"
    if table.env_py.table or table.env_py.schema:
        return f"env.py names the version table {printable(table.table)}"
    return f"gate looks for Alembic's default version table, {printable(table.table)}"


def _doubt(table: TableName) -> str:
    """Say why env.py may use another table."""
    places: list[Expression | str | None] = [
        None if table.table_is_set else table.env_py.computed_table,
        None if table.schema_is_set else table.env_py.computed_schema,
    ]
    computed = [f"env.py computes a part of its name ({place})" for place in places if place]
    return " and ".join(computed) or table.env_py.unseen


def _described(others: list[OtherTable]) -> str:
    """Name the first tables and their rows."""
    shown = [f"table {printable(o.name)} holds {join_ids(o.rows or ())}" for o in others[:2]]
    more = f", and {len(others) - 2} more" if len(others) > 2 else ""  # noqa: PLR2004 - as many as are shown
    text = " and ".join(shown) + more + ", which this image knows"
    return text[0].upper() + text[1:]


def _settings(others: list[OtherTable]) -> str:
    """Render the settings that name the first of the tables."""
    schema = f" and {SCHEMA}={printable(others[0].schema)}" if others[0].schema else ""
    return f"{TABLE}={printable(others[0].table)}{schema}"
