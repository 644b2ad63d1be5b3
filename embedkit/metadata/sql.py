"""Filters as conditions of PostgreSQL: names are quoted, and values are bound parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from embedkit.metadata.filters import COMPARISONS, Filter, Joined, Not, Test
from embedkit.metadata.typed_columns import NAMES

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg.sql import Composed, Identifier

SQL_TYPES: dict[str, LiteralString] = {
    "text": "text",  # with COLLATE "C" they are ordered by their bytes, as in Arrow
    "integers": "bigint",
    "floats": "double precision",
    "booleans": "boolean",
    "dates": "date",
    "lists of texts": "text[]",
}


def column_name(name: str) -> Identifier:
    """A name, quoted for a query that has parameters."""
    from psycopg.sql import Identifier

    return Identifier(name.replace("%", "%%"))


def as_sql(condition: Filter, schema: pa.Schema, values: dict[str, Any]) -> Composed:
    """The condition on a table with the columns of `schema`, metadata under their own names.

    Its parameters are added to `values`, by the names of their placeholders.

    Raises:
        InputError: an unknown column, or a value that a column cannot be compared with.

    Example:
        >>> from embedkit.metadata.columns import row_schema
        >>> from embedkit.metadata.filter_language import as_filter
        >>> import pyarrow as pa
        >>> schema = row_schema(pa.int64(), False, False, pa.struct({"year": pa.int64()}))
        >>> values = {}
        >>> as_sql(as_filter("NOT year > 2020"), schema, values).as_string()
        'NOT ("year" > %(where_0)s::bigint)'
        >>> values
        {'where_0': 2020}
    """
    from psycopg.sql import SQL, Placeholder

    if isinstance(condition, Not):
        return SQL("NOT ({})").format(as_sql(condition.condition, schema, values))
    if isinstance(condition, Joined):
        join = SQL(" AND " if condition.operator == "and" else " OR ")
        parts = (as_sql(inner, schema, values) for inner in condition.conditions)
        return join.join(SQL("({})").format(part) for part in parts)
    if not isinstance(condition, Test):
        raise TypeError(f"got {type(condition).__name__}, expected Not, Joined or Test")

    def bound(value: Any, sql_type: LiteralString) -> Composed:
        name = f"where_{len(values)}"
        values[name] = value
        return SQL("{}::{}").format(Placeholder(name), SQL(sql_type))

    kind, column, operator = (
        condition.kind(schema),
        column_name(condition.column),
        condition.operator,
    )
    sql_type = SQL_TYPES[NAMES[str(kind)]]
    if operator == "null":
        return SQL("{} IS NULL").format(column)
    if operator == "contains":
        condition.check_kind(kind, "lists of texts")
        return SQL("{} = ANY({})").format(bound(condition.value, "text"), column)
    if operator == "like":
        characters = condition.pattern(kind)
        pattern = "".join(x if wild or x not in "%_\\" else f"\\{x}" for x, wild in characters)
        return SQL("{} LIKE {}").format(column, bound(pattern, "text"))
    known = SQL("CASE WHEN {} IS NOT NULL THEN {} END")  # NULL = ANY of nothing is false
    if operator == "in":
        members = bound(condition.members(kind), f"{sql_type}[]")
        return known.format(column, SQL("{} = ANY({})").format(column, members))
    comparison = condition.comparison(kind)
    if isinstance(comparison, bool):
        return known.format(column, SQL("true" if comparison else "false"))
    operator, value = comparison
    return SQL("{} {} {}").format(column, SQL(COMPARISONS[operator][1]), bound(value, sql_type))
