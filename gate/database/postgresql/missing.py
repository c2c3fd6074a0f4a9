"""Search PostgreSQL's catalog for what the code of an image needs and the database lacks, in one statement.

The server compares, so that only what is missing travels. The needed names are one bound parameter in JSON; the
statement itself is constant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gate.database.missing import MAX_MISSING, Kind, Missing, Needs, Shortfall

if TYPE_CHECKING:
    from gate.image.expectations import ExpectedTable

RunWithNeeds = Callable[[str, str], Sequence[Any] | None]
"""Runs one statement with a value for its parameter `needs`, and returns the first row."""

KINDS = (Kind.TABLE, Kind.USAGE, Kind.COLUMN, Kind.SELECT, Kind.DEFAULT)
"""By the number that the statement returns."""

FIRST_USER_OID = 16384
"""The lowest pg_type.oid of a type that was created after initdb, such as a domain (FirstNormalObjectId)."""

TABLE_KINDS = "('r','p','v','m','f')"
"""pg_class.relkind of what a query can read: tables, partitioned and foreign tables, and views."""

NULL_DEFAULT = (
    "^([{](COERCETODOMAIN|RELABELTYPE|ARRAYCOERCEEXPR|COERCEVIAIO) .arg "
    "|[{]FUNCEXPR [^{}]*funcformat [12] [^{}]*args [(])*"
    "[{]CONST [^{}]*constisnull true"
)
"""How pg_attrdef.adbin begins for DEFAULT NULL: casts, and a NULL (primnodes.h).

pg_get_expr would show it, and would wait for a migration that has locked the table. A colon would be a parameter.
"""

BEFORE_ROW_INSERT = 7
"""Bits of pg_trigger.tgtype: a trigger BEFORE INSERT FOR EACH ROW, which may replace a NULL."""

MISSPELT_CODECS = {"KOI8R": "koi8_r", "KOI8U": "koi8_u", "UHC": "cp949", "SQL_ASCII": "utf-8"}
"""Server encodings that Python knows by another name; WIN1252 and its like are cp1252. SQL_ASCII stores any bytes."""


def find_missing(run: RunWithNeeds, needs: Needs) -> Shortfall:
    """Search for what is missing; `run` may run several statements if a name is not plain ASCII, or with a home."""
    if needs.home is None:
        return _find_missing(run, needs)
    at_home = tuple(t._replace(schema=needs.home) if t.schema is None else t for t in needs.tables)
    found = _find_missing(run, needs._replace(tables=at_home))
    absent = {item.table for item in found.items if item.kind is Kind.TABLE and item.schema == needs.home}
    shared = tuple(table for table in needs.tables if table.schema is None and table.name in absent)
    if not shared:
        return found
    elsewhere = _find_missing(run, needs._replace(tables=shared))
    kept = [item for item in found.items if not (item.kind is Kind.TABLE and item.table in absent)]
    return Shortfall((*kept, *elsewhere.items)[:MAX_MISSING], found.total - len(absent) + elsewhere.total)


def _find_missing(run: RunWithNeeds, needs: Needs) -> Shortfall:
    text = json.dumps(needs.tables, separators=(",", ":"), ensure_ascii=False)
    if not text.isascii() or "\\u0000" in text:
        text = json.dumps(_storable(run, needs.tables), separators=(",", ":"), ensure_ascii=False)
    row = run(_statement(rights=needs.rights), text)
    assert row
    items = [_missing(needs.tables, *item) for item in json.loads(row[1] or "[]")]
    return Shortfall(tuple(items), int(row[0]))


def _storable(run: RunWithNeeds, tables: Sequence[ExpectedTable]) -> list[tuple[object, ...]]:
    """Replace each name that this database cannot store by "", which no object has as its name.

    The server would raise an error for it, which would abort the transaction that a caller's connection is in.
    """
    row = run("SELECT current_setting('server_encoding'), CAST(:needs AS text)", "")
    name = str(row[0]) if row else ""
    codec = MISSPELT_CODECS.get(name) or (f"cp{name[3:]}" if name.startswith("WIN") else name)

    def storable(text: str) -> str:
        try:
            text.encode(codec)
            is_storable = "\0" not in text
        except UnicodeEncodeError:
            is_storable = False
        except LookupError:
            is_storable = text.isascii() and "\0" not in text
        return text if is_storable else ""

    return [
        (
            None if table.schema is None else storable(table.schema),
            storable(table.name),
            [storable(column) for column in table.columns],
            table.read_only,
        )
        for table in tables
    ]


def _missing(tables: Sequence[ExpectedTable], kind: int, table: int, column: int, name: str) -> Missing:
    """Name an item as the models do. The server returns the numbers of table and column, which begin with 1."""
    schema, table_name, columns, _ = tables[table - 1]
    match KINDS[kind]:
        case Kind.USAGE:
            return Missing(Kind.USAGE, name, table_name)
        case Kind.DEFAULT:
            return Missing(Kind.DEFAULT, schema, table_name, name)
        case other:
            return Missing(other, schema, table_name, columns[column - 1] if column else None)


def _statement(*, rights: bool) -> str:
    """Return the number of missing items, and the first of them in JSON."""
    return f"""\
WITH {_schemas_queries()}, {_tables_query(rights=rights)}, {_items_queries()}
SELECT (SELECT count(*) FROM items), (SELECT CAST(json_agg(json_build_array(i.kind, i.n, i.m, i.name)) AS text)
  FROM (SELECT * FROM items ORDER BY n, kind, m, name LIMIT {MAX_MISSING}) i)"""


def _schemas_queries() -> str:
    """The needed tables, and the schemas that they or the search_path name.

    MATERIALIZED: computed once, not once for each table, since a database may have thousands of schemas. A cast to
    `name` truncates as the server truncates an identifier. `is_written`: the search_path names the schema, which the
    server skips if this role may not use it.
    """
    return """\
needed AS (
  SELECT x.n, CAST(x.t->>0 AS name) AS schema, CAST(x.t->>1 AS name) AS name, CAST(x.t->>3 AS bool) AS read_only,
    ARRAY(SELECT CAST(k.name AS name) FROM jsonb_array_elements_text(x.t->2) k(name)) AS columns
  FROM jsonb_array_elements(CAST(CAST(:needs AS text) AS jsonb)) WITH ORDINALITY x(t, n)
), path AS MATERIALIZED (
  SELECT current_schemas(false) AS used, regexp_split_to_array(replace(replace(
    current_setting('search_path'), '"', ''), '$user', CAST(current_user AS text)), ', *') AS written
), schemas AS MATERIALIZED (
  SELECT v.oid, v.nspname AS name, has_schema_privilege(v.oid, 'USAGE') AS usable,
    array_position(p.used, v.nspname) AS position, v.nspname = ANY (p.written) AS is_written
  FROM pg_catalog.pg_namespace v CROSS JOIN path p
  WHERE v.nspname = ANY (p.used) OR v.nspname = ANY (p.written) OR v.nspname IN (SELECT e.schema FROM needed e)
)"""


def _tables_query(*, rights: bool) -> str:
    """The needed tables that are missing or may lack something, with their columns.

    `required`: the columns that an INSERT may have to name. A table in a schema that this role may not use comes last.
    Temporary tables never count. NOT NULL is not enforced on foreign tables, and what a view needs is unknown, so no
    column of theirs is `required`. Most tables lack nothing, and only the others are stored for the next queries.
    """
    readable = "has_table_privilege(r.oid, 'SELECT')" if rights else "true"
    return f"""\
candidates AS (
  SELECT e.n, e.name, s.oid, s.name AS schema, s.usable, s.position FROM needed e JOIN schemas s ON s.name = e.schema
  UNION ALL SELECT e.n, e.name, s.oid, s.name, s.usable, s.position FROM needed e CROSS JOIN schemas s
    WHERE e.schema IS NULL AND (s.position IS NOT NULL OR s.is_written AND NOT s.usable)
), relations AS (
  SELECT DISTINCT ON (k.n) k.n, c.oid, c.relkind AS kind, k.schema, {"k.usable" if rights else "true AS usable"}
  FROM candidates k JOIN pg_catalog.pg_class c ON c.relnamespace = k.oid AND c.relname = k.name
    AND c.relkind IN {TABLE_KINDS} AND c.relpersistence <> 't'
  ORDER BY k.n, k.usable DESC, k.position
), tables AS (
  SELECT * FROM (
    SELECT e.n, e.columns, r.oid, r.kind, r.schema, r.usable, {readable} AS readable, a.names,
      CASE WHEN r.kind IN ('r','p') AND NOT e.read_only THEN a.required END AS required
    FROM needed e
    LEFT JOIN relations r USING (n)
    LEFT JOIN LATERAL (
      SELECT coalesce(array_agg(a.attname), '{{}}') AS names, array_agg(a.attname) FILTER (
        WHERE a.attnum > 0 AND a.attidentity = ''
          AND (a.attnotnull AND NOT a.atthasdef OR a.atttypid >= {FIRST_USER_OID})) AS required
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.oid AND NOT a.attisdropped) a ON true) t
  WHERE t.oid IS NULL OR NOT t.usable OR NOT t.readable OR NOT t.columns <@ t.names OR NOT t.required <@ t.columns
)"""


def _items_queries() -> str:
    """What is missing: the number of the kind in `KINDS`, of the table and of its column, and a name of the server's.

    Where no needed column of a table is readable, one item stands for all.
    """
    return f"""\
denied AS (
  SELECT d.n, d.m, d.denied, bool_and(d.denied) OVER t AS whole, row_number() OVER t AS first
  FROM (
    SELECT t.n, k.m, has_column_privilege(t.oid, a.attnum, 'SELECT') IS FALSE AS denied
    FROM tables t CROSS JOIN LATERAL unnest(t.columns) WITH ORDINALITY k(name, m)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = k.name AND NOT a.attisdropped
    WHERE t.usable AND NOT t.readable) d
  WINDOW t AS (PARTITION BY d.n)
), items AS (
  SELECT 0 AS kind, t.n, 0 AS m, CAST('' AS name) AS name FROM tables t WHERE t.oid IS NULL
  UNION ALL SELECT 1, t.n, 0, t.schema FROM tables t WHERE NOT t.usable
  UNION ALL SELECT 2, t.n, k.m, '' FROM tables t CROSS JOIN LATERAL unnest(t.columns) WITH ORDINALITY k(name, m)
    WHERE t.usable AND k.name <> ALL (t.names)
  UNION ALL SELECT 3, d.n, CASE WHEN d.whole THEN 0 ELSE d.m END, '' FROM denied d
    WHERE d.denied AND (d.first = 1 OR NOT d.whole)
  UNION ALL SELECT 4, t.n, 0, r.name FROM tables t CROSS JOIN LATERAL unnest(t.required) r(name)
    WHERE t.usable AND r.name <> ALL (t.columns) AND {_needs_value("t.oid", "r.name", "t.kind")}
)"""


def _needs_value(table: str, column: str, kind: str) -> str:
    """Whether an INSERT that leaves out the column fails, since it is not NULL by itself or by its domain.

    A domain has its own default, and may be based on a domain that is NOT NULL. A column of a domain keeps DEFAULT NULL
    as an expression, since that overrides the default of the domain (AddRelationNewConstraints in heap.c). The server
    checks a domain before a trigger runs, and a column itself afterwards. A rule may replace the INSERT.
    """
    return f"""\
EXISTS (
  SELECT FROM pg_catalog.pg_attribute a
  LEFT JOIN pg_catalog.pg_type y ON y.oid = a.atttypid AND y.typtype = 'd'
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = {table} AND a.attname = {column}
    AND CASE WHEN a.atthasdef THEN CAST(d.adbin AS text) ~ '{NULL_DEFAULT}' ELSE y.typdefault IS NULL END
    AND (y.typnotnull OR EXISTS (
      WITH RECURSIVE base AS (
        SELECT y.typbasetype AS oid, false AS required
        UNION ALL SELECT p.typbasetype, p.typnotnull FROM base b
        JOIN pg_catalog.pg_type p ON p.oid = b.oid AND p.typtype = 'd')
      SELECT FROM base b WHERE b.required)
    OR a.attnotnull AND NOT {_has_trigger(table, kind)})
    AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_rewrite w
      WHERE w.ev_class = {table} AND w.ev_type = '3' AND w.is_instead AND w.ev_enabled IN ('O','A')))"""


def _has_trigger(table: str, kind: str) -> str:
    """Whether a trigger, also one of a partition, may give a column its value before the server checks it."""
    return f"""\
EXISTS (
  WITH RECURSIVE part AS (
    SELECT {table} AS oid
    UNION ALL SELECT h.inhrelid FROM part p JOIN pg_catalog.pg_inherits h ON h.inhparent = p.oid AND {kind} = 'p')
  SELECT FROM part p JOIN pg_catalog.pg_trigger g ON g.tgrelid = p.oid
  WHERE g.tgtype & {BEFORE_ROW_INSERT} = {BEFORE_ROW_INSERT} AND g.tgenabled IN ('O','A'))"""
