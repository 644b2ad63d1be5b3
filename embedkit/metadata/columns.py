"""The columns of an index's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embedkit.metadata.typed_columns import NAMES

if TYPE_CHECKING:
    import pyarrow as pa


def row_schema(
    id_type: pa.DataType, texts: bool, content: bool, metadata: pa.DataType | None
) -> pa.Schema:
    """Columns of an index's rows: id, and those that it has of text, content and metadata.

    Without texts, `content` tells whether a text of `Vectors` changed: 16 bytes of BLAKE2b.
    """
    import pyarrow as pa

    columns = {"id": id_type}
    if texts:
        columns["text"] = pa.string()
    if content:
        columns["content"] = pa.binary(16)
    if metadata is not None:
        columns["metadata"] = metadata
    return pa.schema(columns)


def metadata_type(schema: pa.Schema | None) -> Any:
    """The struct of an index's metadata, or None."""
    if schema is None or "metadata" not in schema.names:
        return None
    return schema.field("metadata").type


def metadata_fields(schema: pa.Schema | None) -> list[pa.Field[Any]]:
    """The metadata columns of an index."""
    return list(metadata_type(schema) or ())


def merged_fields(schema: pa.Schema, values: pa.Table) -> list[pa.Field[Any]]:
    """The metadata columns of an index, and those of a table that it lacks."""
    fields = {field.name: field for field in metadata_fields(schema)}
    return [*fields.values(), *(field for field in values.schema if field.name not in fields)]


def as_array(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    """A column as one array."""
    array: pa.Array[Any] = column.combine_chunks()
    return array


def metadata_kinds(schema: pa.Schema | None) -> dict[str, str]:
    """The kind of each metadata column, as `NAMES` calls it."""
    return {field.name: NAMES[str(field.type)] for field in metadata_fields(schema)}


def check_columns(schema: pa.Schema) -> None:
    """ValueError where a file has other columns than rows of an index."""
    names, kind = schema.names, metadata_type(schema)
    expected = row_schema(schema.field("id").type, "text" in names, "content" in names, kind)
    known = {str(inner.type) for inner in kind or ()} <= NAMES.keys()
    if str(expected.field("id").type) not in ("string", "int64") or not known:
        raise ValueError(f"got columns of types {schema.types}")
    if not schema.equals(expected):
        raise ValueError(f"got columns {names}, expected id and perhaps text")


def completed(rows: pa.Table, others: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The rows in all columns of a schema; null where none is known."""
    import pyarrow as pa

    columns: list[Any] = []
    for field in schema:
        if field.name in rows.column_names:
            columns.append(rows.column(field.name))
        elif field.name in others:
            columns.append(others[field.name])
        else:
            unknown: Any = {} if field.name == "metadata" else None  # a struct of nulls
            columns.append(pa.array([unknown] * len(rows), field.type))
    return pa.Table.from_arrays(columns, schema=schema)
