"""Metadata: typed columns beside the vectors, which a segment stores as one column of structs."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from embedkit.arguments import check_list
from embedkit.data.corpus import Corpus
from embedkit.data.tables import Row, any_cell, arrow_reason, read_rows
from embedkit.data.texts import check_text, listed
from embedkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Columns by name, a row a mapping, or a table of pandas, Arrow, or whoever exports to Arrow.
Metadata: TypeAlias = (
    "Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | pd.DataFrame | pa.Table"
)

NAMES = {
    "string": "text",
    "int64": "integers",
    "double": "floats",
    "bool": "booleans",
    "date32[day]": "dates",
    "list<item: string>": "lists of texts",
}
_KINDS = ", ".join(NAMES.values())
_INTEGER = re.compile(r"0|-?[1-9]\d{0,18}")
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_BOOLEANS = {"true": True, "false": False}


def arrow_types() -> dict[str, pa.DataType]:
    """The type of a column by the name of its kind."""
    import pyarrow as pa

    types = (pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.list_(pa.string()))
    return {NAMES[str(kind)]: kind for kind in types}


def as_metadata(values: Metadata) -> pa.Table:
    """A table whose columns have the types of `NAMES`; nulls are missing values.

    Raises:
        InputError: other types or names, with the column.
    """
    import pyarrow as pa

    data: Any = values
    if hasattr(data, "__arrow_c_stream__"):
        if hasattr(data, "iterrows"):  # of pandas, which would export mixed cells and its index too
            pairs = [(str(name), cells) for name, cells in data.items()]
        else:
            try:
                table = pa.table(data)
            except (pa.ArrowException, ValueError, TypeError) as error:
                reason = arrow_reason(error)
                raise InputError(f"metadata: got '{reason}', expected {_KINDS}") from None
            pairs = list(zip(table.column_names, table.columns, strict=True))
        columns: dict[Any, Any] = dict(pairs)
        if len(columns) < len(pairs):
            raise InputError("metadata: got a column name twice, expected each name once")
    elif isinstance(data, Mapping):
        columns = dict(data)
    elif isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        columns = {name: [row.get(name) for row in data] for name in names}
    else:
        raise InputError(
            f"metadata: got {reprlib.repr(values)}, expected a table, a dict of columns, or a list "
            "of dicts"
        )
    arrays = {_check_name(name): _normal(name, cells) for name, cells in columns.items()}
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{len(array)} of {name!r}" for name, array in arrays.items())
        raise InputError(f"metadata: got columns of {lengths} rows, expected as many of each")
    return pa.table(arrays)


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"metadata: got the column name {name!r}, expected a text")
    return check_text("name of a metadata column", name)


def _normal(name: str, cells: Any) -> pa.Array[Any]:
    """A column in the type that is stored for its kind."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    is_arrow = isinstance(cells, pa.Array | pa.ChunkedArray)
    if not is_arrow:
        check_list(f"metadata, column {name!r}", cells, "a list of values")
    try:
        array: Any = cells if is_arrow else _as_array(cells)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if types.is_timestamp(array.type) and array.type.tz is not None:
            array = pc.local_timestamp(array)
        stored: pa.Array[Any] = array.cast(_stored_type(array.type))
        if types.is_timestamp(array.type) and not stored.cast(array.type).equals(array):
            raise ValueError("a time of day")
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _refusal(name, arrow_reason(error)) from None
    if stored.type == pa.float64() and pc.all(pc.is_finite(stored)).as_py() is False:
        raise InputError(
            f"metadata, column {name!r}: got a float that is not finite, expected finite ones, and "
            "None for a missing value"
        )
    if types.is_list(stored.type) and pc.list_flatten(stored).null_count:
        raise _refusal(name, "None in a list")
    return stored


def _as_array(cells: Any) -> Any:
    """Cells as Arrow; refuse a True among floats, and a time among dates, which Arrow changes."""
    import pyarrow as pa

    values = cells if hasattr(cells, "dtype") else list(cells)
    array = pa.array(values, from_pandas=values is cells)
    other = {pa.float64(): bool, pa.date32(): datetime}.get(array.type)
    if other is not None and any(isinstance(cell, other) for cell in values):
        raise ValueError(f"a {other.__name__} among {NAMES[str(array.type)]}")
    return array


def _stored_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa
    from pyarrow import types

    if types.is_null(kind) or _is_text(kind):
        return pa.string()
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind):
        return pa.float64()
    if types.is_boolean(kind):
        return kind
    if types.is_date(kind) or types.is_timestamp(kind):
        return pa.date32()
    if isinstance(kind, pa.ListType | pa.LargeListType) and (
        _is_text(kind.value_type) or types.is_null(kind.value_type)
    ):
        return pa.list_(pa.string())
    raise ValueError(f"type {kind}")


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _refusal(name: str, got: str) -> InputError:
    return InputError(f"metadata, column {name!r}: got '{got}', expected one of {_KINDS}")


def as_structs(table: pa.Table, expected: pa.StructType | None = None) -> pa.StructArray:
    """The rows of `as_metadata` as structs, of the type of an index's where it is given.

    A column that the table lacks is null; integers become floats where they are exact.
    """
    import pyarrow as pa

    fields = list(table.schema if expected is None else expected)
    known = [field.name for field in fields]
    for name in table.column_names:
        if name not in known:
            raise InputError(
                f"metadata: got column {name!r}, expected columns of the index: {listed(known)}"
            )
    arrays = []
    for field in fields:
        if field.name not in table.column_names:
            arrays.append(pa.nulls(len(table), field.type))
            continue
        array: Any = table.column(field.name).combine_chunks()
        if array.null_count == len(array):
            array = pa.nulls(len(array), field.type)
        widens = (array.type, field.type) == (pa.int64(), pa.float64())
        try:
            if array.type != field.type and not widens:
                raise ValueError(NAMES[str(array.type)])
            arrays.append(array.cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"metadata, column {field.name!r}: got {arrow_reason(error)}, expected "
                f"{NAMES[str(field.type)]} as in the index"
            ) from None
    return pa.StructArray.from_arrays(arrays, fields=fields)


# Metadata of a file


def read_metadata(
    corpus: Corpus, names: Collection[str] | None, expected: Mapping[str, str] | None = None
) -> pa.Table:
    """The metadata of a corpus's rows: the columns of these names, or with None all others.

    Cells of CSV and TSV are text; a column becomes integers, floats, booleans (`true`, `false`) or
    dates (`2024-01-31`) where each of its cells is one, written as they are usually written, and
    empty cells are null. `OUTER.INNER` names a field of objects, see `read_rows`. `expected` says
    the kinds of `NAMES` that columns have in an index.
    """
    own = {*corpus.text_columns, corpus.id_column}
    files = corpus.files
    file_name = files[0].name.lower().removesuffix(".gz")
    if file_name.endswith(".txt"):
        if names:
            raise InputError(f"{corpus.path}: got metadata columns, and a .txt file has none")
        return as_metadata({})

    def read() -> Iterator[Row]:
        named = dict.fromkeys(names or (), any_cell)
        for file in files:
            yield from read_rows(file, {}, optional=named, others=True, encoding=corpus.encoding)

    # Cells of other columns, such as long texts, are not kept.
    rows = 0
    kept: dict[str, list[Any]] = {name: [] for name in names or ()}
    there: dict[str, None] = {}
    for rows, row in enumerate(read(), start=1):
        there |= dict.fromkeys(row.cells)
        for name, cell in row.cells.items():
            if name in kept if names is not None else name not in own:
                cells = kept.setdefault(name, [])
                cells += [None] * (rows - 1 - len(cells))
                cells.append(cell)
    for name in kept:
        if name not in there:
            raise InputError(
                f"{corpus.path}: got columns {listed(there)}, expected {name!r} among them"
            )
    columns: dict[str, Any] = {x: cells + [None] * (rows - len(cells)) for x, cells in kept.items()}
    for name, cells in columns.items():
        if fields := next((cell for cell in cells if isinstance(cell, Mapping) and cell), None):
            raise InputError(
                f"{corpus.path}, column {name!r}: got objects, expected the names of their fields, "
                f"such as {f'{name}.{next(iter(fields))}'!r}"
            )
    if file_name.endswith((".csv", ".tsv")):
        for name, cells in columns.items():
            kind = (expected or {}).get(name)
            values = _typed_cells(cells, kind)
            if values is None:
                fits, _ = _PARSERS[str(kind)]
                wrong = next(x for x in read() if (y := x.cells.get(name)) and not fits(y))
                raise InputError(
                    f"{wrong.location}, column {name!r}: got {wrong.cells[name]!r}, expected "
                    f"{kind} as in the index"
                )
            columns[name] = values
    try:
        return as_metadata(columns)
    except InputError as error:
        raise InputError(f"{corpus.path}: {error}") from None


def _typed_cells(cells: Iterable[str], kind: str | None) -> list[Any] | None:
    """The values that the cells of a column spell; None where they do not spell the given kind."""
    values = [cell or None for cell in cells]
    given = {value for value in values if value is not None}
    for name, (fits, parse) in _PARSERS.items():
        if kind in (None, name) and all(map(fits, given)):
            return [None if value is None else parse(value) for value in values]
    return None if kind in _PARSERS else values


def _is_integer(cell: str) -> bool:
    return bool(_INTEGER.fullmatch(cell)) and -(2**63) <= int(cell) < 2**63


def _is_float(cell: str) -> bool:
    """Whether it spells a float; a whole number that a float would round is none."""
    return bool(_FLOAT.fullmatch(cell)) and (not cell.lstrip("-").isdigit() or len(cell) <= 15)


def _is_date(cell: str) -> bool:
    try:
        return bool(_DATE.fullmatch(cell) and date.fromisoformat(cell))
    except ValueError:
        return False


# Whether a cell is one of a kind, and its value.
_PARSERS: dict[str, tuple[Callable[[str], bool], Callable[[str], Any]]] = {
    "integers": (_is_integer, int),
    "floats": (_is_float, float),
    "booleans": (lambda cell: cell.lower() in _BOOLEANS, lambda cell: _BOOLEANS[cell.lower()]),
    "dates": (_is_date, date.fromisoformat),
}
