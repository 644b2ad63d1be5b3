"""Tables: rows read from TSV, CSV, JSONL and Parquet files, with every cell checked."""

from __future__ import annotations

import json
import re
import reprlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from embedkit.data.remote import Source, as_source
from embedkit.data.text_files import (
    EmptyFileError,
    check_encoding,
    csv_records,
    filled_lines,
    opened,
    row_location,
    text_lines,
    tsv_records,
)
from embedkit.data.texts import Texts, check_id, check_label, check_number, listed
from embedkit.errors import InputError
from embedkit.files import parse_json

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")
Check: TypeAlias = "Callable[[str, object], Any]"

_BLOCK = 1 << 16  # bytes of Parquet to read at once
_BATCH = 1 << 8  # rows of Parquet to read at once

# How pandas and spreadsheets write a cell that holds quotes; natural text hardly looks like this.
_DOUBLED_QUOTES = re.compile(r'"[^"]*(?:""[^"]*)+"')


class Row(NamedTuple):
    """A row of a file."""

    location: str  # where it stands, for errors: `pairs.tsv, row 3 (line 4)`
    cells: dict[str, Any]  # its values by column, in the file's order


class _Columns(NamedTuple):
    """Which columns to read, and how."""

    required: Collection[str]
    checks: Mapping[str, Check]  # of their cells
    others: bool
    encoding: str

    def chosen(self, location: str, names: Collection[str]) -> list[str]:
        """The columns to read of those that a file has, in its order."""
        for name in self.required:
            if name not in names:
                hint = " (TSV is read without quoting: save as CSV)" if f'"{name}"' in names else ""
                if {"anchor", "positive"} <= {*names}:
                    hint = " (train bi-encoder --loss in-batch reads anchors and positives)"
                raise InputError(
                    f"{location}: got columns {listed(names)}, expected {name!r} among them{hint}"
                )
        return [name for name in names if self.others or name in self.checks]


def read_rows(
    path: str | Source,
    columns: Mapping[str, Check],
    *,
    optional: Mapping[str, Check] = MappingProxyType({}),
    others: bool = False,
    encoding: str = "utf-8",
) -> Iterator[Row]:
    """The rows of a file in one of the formats in `READERS`, in memory that does not grow with it.

    - TSV: a header line, cells split at tabs; no quoting and no escaping, so `"` is literal (a
      warning names the first cell with quotes around it and doubled quotes inside, for that is how
      other programs quote).
    - CSV: a header line; quoted cells may hold commas, line breaks and doubled quotes.
    - JSONL: an object a line.
    - Parquet: strings (plain or dictionary) for texts, any integer, float or decimal type for
      numbers, and strings or integers for ids and labels.
    - In JSONL and Parquet, `OUTER.INNER` is the field INNER of an object or struct OUTER, if no
      column has this name.

    Empty lines are skipped. Text is in `encoding`, with or without a byte order mark, or in UTF-8
    with one; `.gz` is unpacked.

    Args:
        path: the file, or its URL.
        columns: columns that it must have, and for each a function of `embedkit.data.texts` that
            checks a cell and gives its value.
        optional: likewise, columns to read where the file has them.
        others: read all other columns too, with their cells as they are: str for TSV and CSV,
            JSON's values, Python's for Parquet.
        encoding: of text, by a name that Python knows.

    Raises:
        InputError: the file cannot be read, or is not as said above; the message names the file
            and, where there is one, the data row (from 1), the line and the column. It is raised
            when the iterator gets there.
    """
    path = _existing(path, encoding)
    wanted = _Columns(columns, {**optional, **columns}, others, encoding)
    return _checked(READERS[_suffix(path)](path, wanted), wanted.checks)


def _checked(rows: Iterable[Row], checks: Mapping[str, Check]) -> Iterator[Row]:
    for row in rows:
        for name, cell in row.cells.items():
            if name in checks:
                row.cells[name] = checks[name](f"{row.location}, column {name!r}", cell)
        yield row


def any_cell(_: str, cell: object) -> object:
    """A check for `read_rows` that takes every cell as it is."""
    return cell


def read_lines(path: str | Source, encoding: str = "utf-8") -> Iterator[Row]:
    """Every line of a file, empty ones too, as rows of the one column `text`; `.gz` is unpacked."""
    path = _existing(path, encoding)
    for line_number, line in enumerate(text_lines(path, encoding), start=1):
        yield Row(f"{path}, line {line_number}", {"text": line})


def column(rows: Iterable[Row], name: str) -> Texts:
    """The texts of a column that `read_rows` checked."""
    return Texts(row.cells[name] for row in rows)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Neighbours, `size` of them at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def stem(path: str | Path) -> str:
    """The file's name without its suffix: `korsts_train` of `korsts_train.tsv.gz`."""
    return Path(path).name[: -len(_suffix(path))]


def format_of(path: str | Path) -> str:
    """The format in `WRITERS` that a file's suffix says: `tsv` for `korsts_train.tsv.gz`."""
    return _suffix(path).removesuffix(".gz").removeprefix(".")


def _suffix(path: str | Source) -> str:
    name = as_source("path", path).name.lower()
    suffix = next((known for known in READERS if name.endswith(known)), None)
    if suffix is None:
        raise InputError(f"{path}: got an unknown suffix, expected one of {', '.join(READERS)}")
    return suffix


def _existing(path: str | Source, encoding: object) -> Source:
    path = as_source("path", path)
    if isinstance(path, Path) and path.is_dir():
        raise InputError(f"{path}: got a directory, expected a file")
    check_encoding(encoding)
    return path


def check_column_names(location: str, names: Sequence[str]) -> None:
    """Refuse a name that is given twice."""
    seen = set()
    for name in names:
        if name in seen:
            raise InputError(f"{location}: got column {name!r} twice, expected each name once")
        seen.add(name)


# Formats of text


def _table_rows(
    path: Source, records: Iterable[tuple[int, list[str]]], wanted: _Columns
) -> Iterator[Row]:
    """The rows under a header, from records of line number and cells."""
    header: list[str] = []
    numbers = {name for name, check in wanted.checks.items() if check is check_number}
    for row, (line, cells) in enumerate(records):
        location = row_location(path, row, line)
        if row == 0:
            header = cells
            check_column_names(location, header)
            positions = {name: position for position, name in enumerate(header)}
            chosen = [(name, positions[name]) for name in wanted.chosen(location, header)]
        elif len(cells) != len(header):
            raise InputError(f"{location}: got {len(cells)} cells, expected {len(header)}")
        else:
            kept: dict[str, Any] = {name: cells[position] for name, position in chosen}
            for name in numbers.intersection(kept):
                kept[name] = _parsed(kept[name])
            yield Row(location, kept)


def _parsed(cell: str) -> float | str:
    """The cell as a number; else as it is, for `check_number` to refuse."""
    try:
        return cell if "_" in cell else float(cell)  # to Python, 1_0 is ten
    except ValueError:
        return cell


def _read_tsv(path: Source, wanted: _Columns) -> Iterator[Row]:
    rows = _table_rows(path, tsv_records(path, wanted.encoding), wanted)
    for row in rows:
        quoted = [name for name, cell in row.cells.items() if _DOUBLED_QUOTES.fullmatch(str(cell))]
        if quoted:
            warnings.warn(
                f"{row.location}, column {quoted[0]!r}: the cell has quotes around it and doubled "
                "quotes inside; TSV is read without quoting, so they are part of the text; if they "
                "should not be, save the file as CSV",
                stacklevel=1,
            )
        yield row
        if quoted:
            break
    yield from rows


def _read_csv(path: Source, wanted: _Columns) -> Iterator[Row]:
    return _table_rows(path, csv_records(path, wanted.encoding), wanted)


def _read_jsonl(path: Source, wanted: _Columns) -> Iterator[Row]:
    lines = filled_lines(path, wanted.encoding, blank=" \t\r")
    for row, (line_number, line) in enumerate(lines, start=1):
        location = row_location(path, row, line_number)
        try:
            cells = parse_json(line, object_pairs_hook=_json_object)
        except json.JSONDecodeError as error:
            problem = f"{error.msg} at character {error.colno}"
            raise InputError(f"{location}: got no JSON ({problem}), expected an object") from None
        except ValueError as error:
            raise InputError(
                f"{location}: got unusable JSON ({error}), expected an object"
            ) from None
        if not isinstance(cells, dict):
            raise InputError(f"{location}: got {reprlib.repr(cells)}, expected a JSON object")
        for name in wanted.checks.keys() - cells:
            outer, _, inner = name.partition(".")
            if isinstance(cells.get(outer), dict) and inner in cells[outer]:
                cells[name] = cells[outer][inner]
        yield Row(location, {name: cells[name] for name in wanted.chosen(location, cells)})


def _json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses a key that is given twice, of which json would keep the last."""
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a key is given twice")
    return cells


# Parquet


def _read_parquet(path: Source, wanted: _Columns) -> Iterator[Row]:
    import pyarrow as pa

    row = 0
    with _opened_parquet(path) as file:
        schema = file.schema_arrow
        check_column_names(str(path), schema.names)
        types = dict(zip(schema.names, schema.types, strict=True))
        for field in (inner for outer in schema for inner in outer.flatten()):  # OUTER.INNER
            if field.name in wanted.checks:
                types.setdefault(field.name, field.type)
        names = wanted.chosen(str(path), types)
        for name in set(names).intersection(wanted.checks):
            _check_type(f"{path}, column {name!r}", types[name], wanted.checks[name])
        # Arrow's threads can abort the process at its exit (apache/arrow#34314).
        for batch in file.iter_batches(_BATCH, columns=names, use_threads=False):
            batch.validate(full=True)  # else strings that are not UTF-8 pass
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            if not columns.keys() >= set(names):
                flat = pa.Table.from_batches([batch]).flatten()
                columns |= {name: flat.column(name).combine_chunks() for name in flat.schema.names}
            values = [_python_values(f"{path}, column {x!r}", columns[x]) for x in names]
            for cells in zip(*values, strict=True):
                row += 1
                yield Row(f"{path}, row {row}", dict(zip(names, cells, strict=True)))


@contextmanager
def _opened_parquet(path: Source) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened(path) as file:
        if not file.read(1):
            raise EmptyFileError(path)
        try:
            # By default it reads whole row groups ahead.
            yield pq.ParquetFile(file, buffer_size=_BLOCK, pre_buffer=False)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: cannot be read as Parquet ({arrow_reason(error)}); expected a whole file"
            ) from None


def _check_type(where: str, kind: pa.DataType, check: Check) -> None:
    from pyarrow import DictionaryType, types

    texts = (types.is_string, types.is_large_string, types.is_string_view)
    numbers = (types.is_integer, types.is_floating, types.is_decimal)
    values = kind.value_type if isinstance(kind, DictionaryType) else kind
    fits, expected = any(is_one(values) for is_one in texts), "strings"
    if check is check_number:
        fits, expected = any(is_one(kind) for is_one in numbers), "numbers"
    elif check in (check_id, check_label):
        fits, expected = fits or types.is_integer(kind), "strings or integers"
    if not fits and check is not any_cell:
        raise InputError(f"{where}: got type {kind}, expected {expected}")


def _python_values(where: str, column: pa.Array[Any]) -> Sequence[object]:
    """Python's own values: of nanoseconds Arrow would make values of pandas, if it is installed."""
    import pyarrow as pa

    kind = column.type
    try:
        if getattr(kind, "unit", None) != "ns":
            return column.to_pylist()
        if pa.types.is_timestamp(kind):
            return column.cast(pa.timestamp("us", kind.tz)).to_pylist()
        to_duration = pa.types.is_duration(kind)
        return column.cast(pa.duration("us") if to_duration else pa.time64("us")).to_pylist()
    except ValueError as error:
        raise InputError(
            f"{where}: got '{arrow_reason(error)}', expected values that Python has, such as times "
            "to microseconds"
        ) from None


def arrow_reason(error: Exception) -> str:
    """Arrow's first sentence."""
    return re.split(r"[.\n]", str(error))[0]


def read_schema(path: Source) -> pa.Schema:
    """The schema of a Parquet file, for `open_writer` to keep its types."""
    with _opened_parquet(path) as file:
        return file.schema_arrow


READERS: dict[str, Callable[[Source, _Columns], Iterator[Row]]] = {
    ".tsv": _read_tsv,
    ".tsv.gz": _read_tsv,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".parquet": _read_parquet,
}
