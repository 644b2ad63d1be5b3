"""Rows of an index by id: reading them, and changing their metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedkit.errors import InputError
from embedkit.metadata.columns import as_array, merged_fields, metadata_kinds
from embedkit.metadata.typed_columns import as_structs
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.rows import check_id_type, check_once
from embedkit.retrieval.segments import Segment, live_ids, without

if TYPE_CHECKING:
    import pyarrow as pa


class StoredRow(NamedTuple):
    """A row of an index.

    Attributes:
        id: of the row.
        text: or None where the index has no texts.
        metadata: its columns, or None where the index has none.
        vector: float32 (dim,), where it was asked for.
    """

    id: str | int
    text: str | None
    metadata: dict[str, Any] | None
    vector: Matrix | None


def check_ids(
    segments: Sequence[Segment], ids: pa.Array[Any], outcome: str, *, missing_ok: bool = False
) -> None:
    """Refuse ids of another type than those of an index, and those that are not there."""
    if len(ids) and segments:
        check_id_type(ids.type, segments[0].rows.schema)
    if not missing_ok:
        existing = without(segments, ids)[1]
        unknown = next((name for name in ids.to_pylist() if name not in existing), None)
        if unknown is not None:
            raise InputError(f"ids: the index has no {unknown!r}; {outcome}")


def next_id(segments: Sequence[Segment]) -> int:
    """The first id after those of an index whose ids are integers."""
    import pyarrow.compute as pc

    if segments and segments[0].rows.schema.field("id").type != "int64":
        raise InputError("ids: got none, expected strings as in the index")
    last: int | None = pc.max(live_ids(segments)).as_py() if segments else None
    return 0 if last is None else last + 1


def stored_rows(
    segments: Sequence[Segment], ids: pa.Array[Any], *, vectors: bool
) -> list[StoredRow]:
    """The rows of those ids that there are, in the order of the ids."""
    by_id: dict[Any, StoredRow] = {}
    for segment in segments:
        rows = segment.rows_of(ids)
        matrix = segment.vectors_of(rows) if vectors else None
        for position, row in enumerate(segment.rows.take(rows).to_pylist()):
            vector = None if matrix is None else matrix[position]
            by_id[row["id"]] = StoredRow(row["id"], row.get("text"), row.get("metadata"), vector)
    return [by_id[name] for name in ids.to_pylist() if name in by_id]


def updated(segments: Sequence[Segment], ids: pa.Array[Any], values: pa.Table) -> list[Segment]:
    """The segments with other values of some columns in the rows of these ids."""
    if len(values) != len(ids):
        raise InputError(
            f"got {len(values)} rows of metadata and {len(ids)} ids, expected as many of each"
        )
    check_once(ids)
    return [_updated(segment, ids, values) for segment in segments]


def _updated(segment: Segment, ids: pa.Array[Any], values: pa.Table) -> Segment:
    import pyarrow as pa
    import pyarrow.compute as pc

    before, n = segment.rows, len(segment)
    known = metadata_kinds(before.schema)
    fields, rows = merged_fields(before.schema, values), segment.rows_of(ids)
    if len(rows) == 0 and len(fields) == len(known):
        return segment
    new = as_structs(values, pa.struct(fields))
    order = np.arange(n)
    order[rows] = n + pc.index_in(before.column("id").take(rows), value_set=ids).to_numpy()
    arrays = []
    for field in fields:
        array: Any = pa.nulls(n, field.type)
        if field.name in known:
            array = as_array(pc.struct_field(before.column("metadata"), [field.name]))
        if field.name in values.column_names:
            array = pa.concat_arrays([array, new.field(field.name)]).take(pa.array(order))
        arrays.append(array)
    kept = before.drop_columns(["metadata"]) if known else before
    structs = pa.StructArray.from_arrays(arrays, fields=fields)
    return segment.with_rows(kept.append_column("metadata", structs))
