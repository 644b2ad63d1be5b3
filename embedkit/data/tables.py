"""Rows read from a file: TSV, CSV, JSONL, Parquet and lines of text."""

from __future__ import annotations

import json
import math
import re
import reprlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from embedkit.data import text_files
from embedkit.errors import InputError, check_utf8

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")

_BLOCK = 1 << 16  # bytes of Parquet to read at once
_BATCH = 1 << 8  # rows of Parquet to read at once

_QUOTED = re.compile(r'"(?:[^"]|"")*+"')


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        place: where it stands, as errors say it: `pairs.tsv, row 3 (line 4)`.
        cells: its values by column, in the file's order.
    """

    place: str
    cells: dict[str, object]


class _Wanted(NamedTuple):
    """Which columns to read, and as what."""

    required: Sequence[str]
    optional: Sequence[str] | None
    numbers: Sequence[str]
    keys: Sequence[str]
    encoding: str

    def names(self, name: str) -> bool:
        return name in self.required or name in (self.optional or ())

    def keeps(self, name: str) -> bool:
        return self.optional is None or self.names(name)

    def check(self, place: str, names: Collection[str]) -> None:
        for name in self.required:
            if name not in names:
                hint = " (TSV is read without quoting: save as CSV)" if f'"{name}"' in names else ""
                raise InputError(
                    f"{place}: got columns {listed(names)}, expected {name!r} among them{hint}"
                )


def read_rows(
    path: str | Path,
    required: Sequence[str],
    *,
    optional: Sequence[str] | None = None,
    numbers: Sequence[str] = (),
    keys: Sequence[str] = (),
    encoding: str = "utf-8",
) -> Iterator[Row]:
    """The rows of a file in one of the formats in `READERS`, in memory that does not grow with it.

    - TSV: a header line, cells split at tabs; no quoting and no escaping, so `"` is literal (a
      warning names the first cell that looks quoted).
    - CSV: a header line; quoted cells may hold commas, line breaks and doubled quotes.
    - JSONL: an object a line.
    - Parquet: in the columns named below, strings (plain or dictionary), for `numbers` any
      integer, float or decimal type, and for `keys` strings or integers.

    Empty lines are skipped. Text is in `encoding`, with or without a byte order mark, or in UTF-8
    with one; `.gz` is read as it is.

    Args:
        path: the file.
        required: columns that it must have.
        optional: columns to read where it has them; None for all that it has.
        numbers: those of the named columns that hold numbers; the others hold texts.
        keys: those that hold texts or whole numbers.
        encoding: of text, by a name that Python knows.

    Returns:
        An iterator over rows with the file's own values: str cells for TSV and CSV, where a cell
        of `numbers` that spells a number is a float, JSON's values, Python's for Parquet. Whether
        a cell holds what it should is for `text_cell` and `number_cell` to check.

    Raises:
        InputError: the file cannot be read, or is not as said above; the message names the file
            and, where there is one, the data row (from 1), the line and the column. It is raised
            when the iterator gets there.
    """
    path = _checked(path, encoding)
    return READERS[_suffix(path)](path, _Wanted(required, optional, numbers, keys, encoding))


def read_lines(path: str | Path, encoding: str = "utf-8") -> Iterator[Row]:
    """Every line of a file, empty ones too, `.gz` too, as rows of the one column `text`.

    Raises:
        InputError: the file cannot be read, is empty or not in the encoding; see `read_rows`.
    """
    path = _checked(path, encoding)
    for number, line in enumerate(text_files.text_lines(path, encoding), start=1):
        yield Row(f"{path}, line {number}", {"text": line})


def tsv_records(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and cells of each filled line of a TSV file, a header not told apart.

    Raises:
        InputError: as in `read_rows`.
    """
    for line, text in text_files.filled_lines(path, encoding):
        yield line, text.split("\t")


def check_path(name: str, value: object) -> Path:
    """The value as a path, if it is a str or a Path that can be shown and stored.

    Raises:
        InputError: it is of another type, or its name is not UTF-8.
    """
    if not isinstance(value, str | Path):
        raise InputError(f"{name}: got {reprlib.repr(value)}, expected a str or a Path")
    try:
        check_utf8(Path(value))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return Path(value)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Neighbours, `size` of them at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def stem(path: str | Path) -> str:
    """The file's name without its suffix: `korsts_train` of `korsts_train.tsv.gz`.

    Raises:
        InputError: the suffix is none of those in `READERS`.
    """
    return Path(path).name[: -len(_suffix(path))]


def format_of(path: str | Path) -> str:
    """The format in `WRITERS` that a file's suffix says: `tsv` for `korsts_train.tsv.gz`.

    Raises:
        InputError: the suffix is none of those in `READERS`.
    """
    return _suffix(path).removesuffix(".gz").removeprefix(".")


def _suffix(path: str | Path) -> str:
    name = Path(path).name.lower()
    suffix = next((known for known in READERS if name.endswith(known)), None)
    if suffix is None:
        raise InputError(f"{path}: got an unknown suffix, expected one of {', '.join(READERS)}")
    return suffix


def _checked(path: object, encoding: object) -> Path:
    path = check_path("path", path)
    if path.is_dir():
        raise InputError(f"{path}: got a directory, expected a file")
    text_files.check_encoding(encoding)
    return path


# Cells


def text_cell(place: str, name: str, value: object) -> str:
    """A row's cell, if it is a text; `place` is the row's and `name` the column's."""
    return check_text(f"{place}, column {name!r}", value)


def number_cell(place: str, name: str, value: object) -> float:
    """A row's cell, if it is a finite number; `place` is the row's and `name` the column's."""
    return check_number(f"{place}, column {name!r}", value)


def check_text(where: str, value: object) -> str:
    """The value, if it is a text that can be encoded."""
    if not isinstance(value, str):
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: got the lone surrogate {value[error.start]!r} at index {error.start}, "
            "expected valid Unicode"
        ) from None
    return value


def check_texts(name: str, values: object, hint: str = "") -> None:
    """Refuse what is no tuple of texts."""
    if not isinstance(values, tuple):
        raise InputError(f"{name}: got {reprlib.repr(values)}, expected a tuple of str{hint}")
    for index, value in enumerate(values):
        check_text(f"{name}[{index}]", value)


def check_number(where: str, value: object) -> float:
    """The value as a float, if it is a finite number; a bool is none."""
    if not isinstance(value, (Real, Decimal)) or isinstance(value, bool):
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where}: got {number}, expected a finite number")
    return number


def listed(names: Iterable[str]) -> str:
    """Names as errors list them."""
    return ", ".join(map(repr, names)) or "none"


def check_column_names(place: str, names: Sequence[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise InputError(f"{place}: got column {name!r} twice, expected each name once")
        seen.add(name)


# Reading


def _table_rows(
    path: Path, records: Iterable[tuple[int, list[str]]], wanted: _Wanted
) -> Iterator[Row]:
    """The rows under a header, from records of line number and cells."""
    header: list[str] = []
    for row, (line, cells) in enumerate(records):
        place = text_files.line_place(path, row, line)
        if row == 0:
            header = cells
            check_column_names(place, header)
            wanted.check(place, header)
            kept = [(name, index) for index, name in enumerate(header) if wanted.keeps(name)]
        elif len(cells) != len(header):
            raise InputError(f"{place}: got {len(cells)} cells, expected {len(header)}")
        else:
            yield Row(
                place,
                {
                    name: _parsed(cells[index]) if name in wanted.numbers else cells[index]
                    for name, index in kept
                },
            )


def _parsed(cell: str) -> float | str:
    """The number that a cell spells; else the cell itself, for `number_cell` to refuse."""
    try:
        return cell if "_" in cell else float(cell)  # to Python, 1_0 is ten
    except ValueError:
        return cell


def _read_tsv(path: Path, wanted: _Wanted) -> Iterator[Row]:
    rows = _table_rows(path, tsv_records(path, wanted.encoding), wanted)
    for row in rows:
        quoted = [name for name, cell in row.cells.items() if _QUOTED.fullmatch(str(cell))]
        if quoted:
            warnings.warn(
                f"{row.place}, column {quoted[0]!r}: the cell begins and ends with a quote; TSV is "
                "read without quoting, so quotes are part of the text; if they should not be, "
                "save the file as CSV",
                stacklevel=1,
            )
        yield row
        if quoted:
            break
    yield from rows


def _read_csv(path: Path, wanted: _Wanted) -> Iterator[Row]:
    return _table_rows(path, text_files.csv_records(path, wanted.encoding), wanted)


def _read_jsonl(path: Path, wanted: _Wanted) -> Iterator[Row]:
    lines = text_files.filled_lines(path, wanted.encoding, blank=" \t\r")
    for row, (number, line) in enumerate(lines, start=1):
        place = text_files.line_place(path, row, number)
        try:
            cells = json.loads(line, object_pairs_hook=_json_object)
        except json.JSONDecodeError as error:
            problem = f"{error.msg} at character {error.colno}"
            raise InputError(f"{place}: got no JSON ({problem}), expected an object") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: got unusable JSON ({error}), expected an object") from None
        if not isinstance(cells, dict):
            raise InputError(f"{place}: got {reprlib.repr(cells)}, expected a JSON object")
        wanted.check(place, cells)
        if wanted.optional is not None:
            cells = {name: value for name, value in cells.items() if wanted.names(name)}
        yield Row(place, cells)


def _json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses a key given twice, of which json would keep the last."""
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a key is given twice")
    return cells


def _read_parquet(path: Path, wanted: _Wanted) -> Iterator[Row]:
    row = 0
    with _opened_parquet(path) as file:
        schema = file.schema_arrow
        check_column_names(str(path), schema.names)
        wanted.check(str(path), schema.names)
        _check_types(path, schema, wanted)
        kept = [name for name in schema.names if wanted.keeps(name)]
        # Arrow's threads can abort the process at its exit (apache/arrow#34314).
        for batch in file.iter_batches(_BATCH, columns=kept, use_threads=False):
            batch.validate(full=True)  # else strings that are not UTF-8 pass
            columns = [_python_values(path, name, batch.column(name)) for name in kept]
            for cells in zip(*columns, strict=True):
                row += 1
                yield Row(f"{path}, row {row}", dict(zip(kept, cells, strict=True)))


@contextmanager
def _opened_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with text_files.opened(path) as file:
        if not file.read(1):
            raise text_files.empty_file(path)
        try:
            # By default it reads whole row groups ahead.
            yield pq.ParquetFile(file, buffer_size=_BLOCK, pre_buffer=False)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: got '{arrow_reason(error)}', expected a whole Parquet file"
            ) from None


def _check_types(path: Path, schema: pa.Schema, wanted: _Wanted) -> None:
    import pyarrow as pa

    def is_text(kind: pa.DataType) -> bool:
        kind = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
        of_types = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        return any(is_type(kind) for is_type in of_types)

    def is_number(kind: pa.DataType) -> bool:
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)

    for field in schema:
        if field.name in wanted.numbers:
            expected, fits = "numbers", is_number(field.type)
        elif field.name in wanted.keys:
            expected = "strings or integers"
            fits = is_text(field.type) or pa.types.is_integer(field.type)
        else:
            expected, fits = "strings", is_text(field.type)
        if wanted.names(field.name) and not fits:
            raise InputError(
                f"{path}, column {field.name!r}: got type {field.type}, expected {expected}"
            )


def _python_values(path: Path, name: str, column: pa.Array[Any]) -> list[object]:
    import pyarrow as pa

    try:
        return _to_microseconds(column).to_pylist()
    except pa.ArrowInvalid:
        raise InputError(
            f"{path}, column {name!r}: got nanoseconds, expected times to microseconds, which "
            "Python has"
        ) from None
    except pa.ArrowException:
        raise
    except ValueError as error:
        raise InputError(
            f"{path}, column {name!r}: got '{arrow_reason(error)}', expected values that Python has"
        ) from None


def _to_microseconds(column: pa.Array[Any]) -> pa.Array[Any]:
    """Arrow would make values of pandas of nanoseconds where pandas is installed."""
    import pyarrow as pa

    kind = column.type
    if getattr(kind, "unit", None) != "ns":
        return column
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz))
    return column.cast(pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us"))


def arrow_reason(error: Exception) -> str:
    """Arrow's first sentence."""
    return re.split(r"[.\n]", str(error))[0]


READERS: dict[str, Callable[[Path, _Wanted], Iterator[Row]]] = {
    ".tsv": _read_tsv,
    ".tsv.gz": _read_tsv,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".parquet": _read_parquet,
}


def read_schema(path: str | Path) -> pa.Schema:
    """The schema of a Parquet file, for `open_writer` to keep its types.

    Raises:
        InputError: the file cannot be read.
    """
    with _opened_parquet(Path(path)) as file:
        return file.schema_arrow
