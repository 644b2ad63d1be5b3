"""Rows of a file, streamed in and out: TSV, CSV, JSONL, Parquet and lines of text."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import reprlib
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from functools import partial
from itertools import count, islice
from numbers import Real
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from embedkit.durable import replacing
from embedkit.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")

_BLOCK = 1 << 16  # bytes of text to read at once
_LONGEST = 1 << 26  # bytes of a line, or characters of a cell; .gz unpacks a little into much
_BATCH = 1 << 8  # rows of Parquet to read at once
_ROW_GROUP = 1 << 24  # bytes of Parquet, unpacked, to write at once


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

    def names(self, name: str) -> bool:
        return name in self.required or name in (self.optional or ())

    def keeps(self, name: str) -> bool:
        return self.optional is None or self.names(name)

    def check(self, place: str, names: Collection[str]) -> None:
        for name in self.required:
            if name not in names:
                raise InputError(
                    f"{place}: got columns {listed(names)}, expected {name!r} among them"
                )


def read_rows(
    path: str | Path,
    required: Sequence[str],
    *,
    optional: Sequence[str] | None = None,
    numbers: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> Iterator[Row]:
    """The rows of a file in one of the formats in `READERS`, in memory that does not grow with it.

    - TSV: a header line, cells split at tabs; no quoting and no escaping, so `"` is literal.
    - CSV: a header line; quoted cells may hold commas, line breaks and doubled quotes.
    - JSONL: an object a line.
    - Parquet: in the columns named below, strings (plain or dictionary), for `numbers` any
      integer, float or decimal type, and for `keys` strings or integers.

    Text is UTF-8, with or without a byte order mark; `.gz` is read as it is.

    Args:
        path: the file.
        required: columns that it must have.
        optional: columns to read where it has them; None for all that it has.
        numbers: those of the named columns that hold numbers; the others hold texts.
        keys: those that hold texts or whole numbers.

    Returns:
        An iterator over rows with the file's own values: str cells for TSV and CSV, where a cell
        of `numbers` that spells a number is a float, JSON's values, Python's for Parquet. Whether
        a cell holds what it should is for `text_cell` and `number_cell` to check.

    Raises:
        InputError: the file cannot be read, or is not as said above; the message names the file
            and, where there is one, the data row (from 1), the line and the column. It is raised
            when the iterator gets there.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: got a directory, expected a file")
    return READERS[_suffix(path)](path, _Wanted(required, optional, numbers, keys))


def read_lines(path: str | Path) -> Iterator[Row]:
    """The lines of a file of UTF-8, `.gz` too, as rows of the one column `text`.

    Raises:
        InputError: the file cannot be read, is empty or no UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: got a directory, expected a file")
    for number, line in enumerate(_lines(path), start=1):
        yield Row(f"{path}, line {number}", {"text": line})


def tsv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and cells of each line of a TSV file, a header not told apart.

    Raises:
        InputError: as in `read_rows`.
    """
    for line, text in enumerate(_lines(path), start=1):
        yield line, text.split("\t") if text else []


def line_place(path: Path, row: int, line: int) -> str:
    """Where a record of a file with a header stands; the header is row 0."""
    return f"{path}, {f'row {row}' if row else 'header'} (line {line})"


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


def _check_once(place: str, names: Sequence[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise InputError(f"{place}: got column {name!r} twice, expected each name once")
        seen.add(name)


def _is_zipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


# Reading


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, unpacked; what goes wrong while it is read becomes an InputError."""
    try:
        with gzip.open(path) if _is_zipped(path) else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: got broken gzip ({error}), expected a whole .gz file") from None
    except OSError as error:
        raise InputError(f"{path}: got '{error.strerror}', expected a readable file") from None


def _empty(path: Path) -> InputError:
    return InputError(f"{path}: got an empty file, expected rows")


def _blocks(path: Path) -> Iterator[str]:
    """The text of a file in blocks of whole lines, without its byte order mark."""
    offset = lines = 0  # of the blocks before
    is_empty = True
    with _opened(path) as file:
        while block := file.read(_BLOCK) + file.readline(_LONGEST):
            if len(block) > _LONGEST:
                raise InputError(
                    f"{path}, after line {lines}: got a line of more than {_LONGEST:,} bytes"
                )
            try:
                text = block.decode()
            except UnicodeDecodeError as error:
                line = lines + block.count(b"\n", 0, error.start) + 1
                raise InputError(
                    f"{path}, line {line}: got byte 0x{block[error.start]:02x} "
                    f"at offset {offset + error.start}, "
                    "expected UTF-8 (a Korean file may be CP949: convert it with "
                    "'iconv -f CP949 -t UTF-8')"
                ) from None
            if offset == 0:
                text = text.removeprefix("\ufeff")
            if text:
                is_empty = False
                yield text
            offset += len(block)
            lines += block.count(b"\n")
    if is_empty:
        raise _empty(path)


def _lines(path: Path) -> Iterator[str]:
    """Lines end at LF or CR LF only: str.splitlines would also cut at U+2028 and others."""
    for block in _blocks(path):
        for line in block.removesuffix("\n").split("\n"):
            yield line.removesuffix("\r")


def _table_rows(
    path: Path, records: Iterable[tuple[int, list[str]]], wanted: _Wanted
) -> Iterator[Row]:
    """The rows under a header, from records of line number and cells."""
    header: list[str] = []
    for row, (line, cells) in enumerate(records):
        place = line_place(path, row, line)
        if row == 0:
            header = cells
            _check_once(place, header)
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
    return _table_rows(path, tsv_records(path), wanted)


def _read_csv(path: Path, wanted: _Wanted) -> Iterator[Row]:
    return _table_rows(path, _csv_records(path), wanted)


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    # csv ends a line at a lone CR too, and so does this: a cell with one is quoted.
    lines = (line for block in _blocks(path) for line in io.StringIO(block, newline=""))
    reader = csv.reader(lines, strict=True)
    row = 0
    while True:
        line = reader.line_num + 1  # the record's first
        limit = csv.field_size_limit(_LONGEST)  # of the whole process, so lifted for a moment
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{line_place(path, row, line)}: got malformed CSV ({error}), "
                "expected each opening quote to have its closing one at the end of the cell"
            ) from None
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        yield line, cells
        row += 1


def _read_jsonl(path: Path, wanted: _Wanted) -> Iterator[Row]:
    for row, line in enumerate(_lines(path), start=1):
        place = line_place(path, row, line=row)
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
        _check_once(str(path), schema.names)
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

    with _opened(path) as file:
        if not file.read(1):
            raise _empty(path)
        try:
            # By default it reads whole row groups ahead.
            yield pq.ParquetFile(file, buffer_size=_BLOCK, pre_buffer=False)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: got '{_reason(error)}', expected a whole Parquet file"
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
            f"{path}, column {name!r}: got '{_reason(error)}', expected values that Python has"
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


def _reason(error: Exception) -> str:
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


# Writing


class Writer(Protocol):
    """What `open_writer` gives."""

    def write(self, rows: Iterable[dict[str, object]]) -> None:
        """Write rows, each its cells by column.

        Raises:
            InputError: the format cannot hold one of them; it names the row, counted from 1 as
                in the file that is read, and none of these rows is written.
        """

    def close(self) -> None:
        """For `open_writer` alone: write what is left."""


@contextmanager
def open_writer(
    path: str | Path | None,
    format: str,  # noqa: A002
    columns: Sequence[str],
    *,
    schema: pa.Schema | None = None,
) -> Iterator[Writer]:
    """A writer of rows, for a `with` block.

    A file is written under a temporary name beside it. It takes its own name, and the place of
    an older file, when the block ends; when the block fails, nothing is left of it.

    - TSV: no cell may hold a tab or a line break, for there is no quoting.
    - CSV: cells are quoted where they must be; lines end in LF.
    - JSONL: an object a line, with the row's own keys and values.
    - Parquet: columns have their types in `schema`; those that it lacks are float64.

    In TSV and CSV a text is verbatim, None an empty cell, and any other value as JSON has it: a
    float with all digits that tell it from others.

    Args:
        path: the file, or None for stdout; one that ends in `.gz` is packed.
        format: one of those in `WRITERS`; Parquet is neither for stdout nor for `.gz`.
        columns: those of every row, in the file's order; JSONL does not look at them.
        schema: for Parquet; without it the values in the first row group decide on the types.

    Raises:
        InputError: the file cannot be written, or not in this format.
    """
    where = "stdout" if path is None else str(path)
    zipped = path is not None and _is_zipped(Path(path))
    if format not in WRITERS:
        raise InputError(f"{where}: got format {format!r}, expected one of {', '.join(WRITERS)}")
    if format == "parquet" and (path is None or zipped):
        raise InputError(f"{where}: got format 'parquet', expected tsv, csv or jsonl")
    _check_once(where, columns)
    with ExitStack() as stack:
        file = stack.enter_context(_stdout() if path is None else _replaced(Path(path)))
        if zipped:
            file = stack.enter_context(_zipped(file))
        yield stack.enter_context(closing(WRITERS[format](file, where, columns, schema)))


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` at the end."""
    if path.exists() and not path.is_file():
        got = "a directory" if path.is_dir() else "a device or pipe"
        raise InputError(f"{path}: got {got}, expected a file")
    target = path.resolve()  # a link stays: what it leads to is replaced
    with replacing(target) as temporary:
        try:
            file = temporary.open("xb")
        except OSError as error:
            raise InputError(
                f"{path}: got '{error.strerror}', expected a writable folder"
            ) from None
        with file:
            yield file


@contextmanager
def _zipped(file: IO[bytes]) -> Iterator[IO[bytes]]:
    # Without a name and a time in it, the same rows give the same bytes.
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as zipped:
        yield cast(IO[bytes], zipped)


class _LineWriter:
    """Writes a line a row."""

    def __init__(
        self,
        line_of: Callable[[Row, Sequence[str]], str],
        file: IO[bytes],
        where: str,
        columns: Sequence[str],
        schema: pa.Schema | None,
        *,
        header: bool = True,
    ) -> None:
        self._line_of, self._file, self._where, self._columns = line_of, file, where, columns
        self._written = 0
        if header:
            names = Row(f"{where}, header", {name: name for name in columns})
            file.write(line_of(names, columns).encode())

    def write(self, rows: Iterable[dict[str, object]]) -> None:
        placed = _placed(self._where, self._written, rows)
        lines = [self._line_of(row, self._columns) for row in placed]
        self._file.write("".join(lines).encode())
        self._written += len(lines)

    def close(self) -> None:
        pass


def _placed(where: str, written: int, rows: Iterable[dict[str, object]]) -> list[Row]:
    places = (f"{where}, row {number}" for number in count(written + 1))
    return list(map(Row, places, rows))


def _tsv_line(row: Row, columns: Sequence[str]) -> str:
    cells = _text_cells(row, columns)
    for name, cell in zip(columns, cells, strict=True):
        # A CR is no line break to a reader of TSV, unless it comes last.
        if "\t" in cell or "\n" in cell or (cell.endswith("\r") and name == columns[-1]):
            raise InputError(
                f"{row.place}, column {name!r}: got {reprlib.repr(cell)}, "
                "expected no tab and no line break, for TSV cannot hold them"
            )
    return "\t".join(cells) + "\n"


def _csv_line(row: Row, columns: Sequence[str]) -> str:
    cells = [
        '"{}"'.format(cell.replace('"', '""')) if re.search(r'[,"\r\n]', cell) else cell
        for cell in _text_cells(row, columns)
    ]
    return (",".join(cells) or '""') + "\n"  # an empty line would be a row of no cells


def _jsonl_line(row: Row, columns: Sequence[str]) -> str:
    cells = (
        f"{_json(row.place, name, name)}: {_json(row.place, name, value)}"
        for name, value in row.cells.items()
    )
    return f"{{{', '.join(cells)}}}\n"


def _text_cells(row: Row, columns: Sequence[str]) -> list[str]:
    def text(name: str, value: object) -> str:
        if isinstance(value, str):
            return text_cell(row.place, name, value)
        return "" if value is None else _json(row.place, name, value)

    _check_same(row, columns)
    return [text(name, row.cells[name]) for name in columns]


def _check_same(row: Row, columns: Collection[str]) -> None:
    if row.cells.keys() != set(columns):
        raise InputError(
            f"{row.place}: got columns {listed(row.cells)}, expected {listed(columns)} in every row"
        )


def _json(place: str, name: str, value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)  # a lone surrogate, escaped as it was when JSON gave it
    except TypeError:
        raise InputError(
            f"{place}, column {name!r}: got {reprlib.repr(value)}, "
            "expected a value of JSON, for only Parquet can hold others"
        ) from None
    return text


class _ParquetWriter:
    """Writes a row group whenever there are rows for one."""

    def __init__(
        self, file: IO[bytes], where: str, columns: Sequence[str], schema: pa.Schema | None
    ) -> None:
        import pyarrow as pa

        self._file, self._where, self._columns = file, where, columns
        self._infers = schema is None
        known = {} if schema is None else {field.name: field for field in schema}
        unknown: pa.DataType = pa.null() if schema is None else pa.float64()
        self._fields = {name: known.get(name) or pa.field(name, unknown) for name in columns}
        self._metadata: Any = None if schema is None else schema.metadata
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._bytes = 0  # of what waits
        self._written = 0

    def write(self, rows: Iterable[dict[str, object]]) -> None:
        import pyarrow as pa

        placed = _placed(self._where, self._written, rows)
        for row in placed:
            _check_same(row, self._columns)
        table = pa.table({name: self._array(name, placed) for name in self._columns})
        self._waiting.append(table)
        self._bytes += table.nbytes
        self._written += len(placed)
        if self._bytes >= _ROW_GROUP:
            self._flush()

    def _array(self, name: str, rows: list[Row]) -> pa.Array[Any]:
        try:
            return self._converted(name, rows)
        except InputError:
            for row in rows:
                self._converted(name, [row])  # to name the one that is wrong
            raise

    def _converted(self, name: str, rows: list[Row]) -> pa.Array[Any]:
        import pyarrow as pa

        where = f"{rows[0].place if rows else self._where}, column {name!r}"
        values: list[Any] = [row.cells[name] for row in rows]
        field = self._fields[name]
        try:
            # Told to make integers, Arrow would cut 1.5 to 1; where it infers, nothing is lost.
            array: pa.Array[Any] = pa.array(values, None if self._infers else field.type)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise InputError(
                f"{where}: got '{_reason(error)}', expected values of one type"
            ) from None
        if self._infers:
            self._fields[name] = field.with_type(self._widened(where, field.type, array.type))
        return array

    def _widened(self, where: str, known: pa.DataType, new: pa.DataType) -> pa.DataType:
        """The type that holds both: integers and floats are floats; None is of any type."""
        import pyarrow as pa

        both = [pa.schema([("", kind)]) for kind in (known, new)]
        try:
            wider: pa.DataType = pa.unify_schemas(both, promote_options="permissive").types[0]
        except pa.ArrowException:
            fits = False
        else:
            fits = self._writer is None or wider == known
        if not fits:
            raise InputError(f"{where}: got type {new}, expected {known} as in the rows before")
        return wider

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(self._fields.values(), self._metadata)
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._file, schema)
            group = []
            for table in self._waiting:
                columns = [
                    column if column.type == kind else column.cast(kind)
                    for column, kind in zip(table.columns, schema.types, strict=True)
                ]
                group.append(pa.Table.from_arrays(columns, schema=schema))
            self._writer.write_table(pa.concat_tables([schema.empty_table(), *group]))
        except pa.ArrowException as error:
            raise InputError(
                f"{self._where}: got '{_reason(error)}', expected values that Parquet holds"
            ) from None
        self._waiting, self._bytes = [], 0

    def close(self) -> None:
        try:
            if self._waiting or self._writer is None:
                self._flush()
        finally:
            if self._writer is not None:
                self._writer.close()


WRITERS: dict[str, Callable[[IO[bytes], str, Sequence[str], pa.Schema | None], Writer]] = {
    "tsv": partial(_LineWriter, _tsv_line),
    "csv": partial(_LineWriter, _csv_line),
    "jsonl": partial(_LineWriter, _jsonl_line, header=False),
    "parquet": _ParquetWriter,
}
