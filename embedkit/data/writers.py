"""Tables: rows written to a file or stdout as TSV, CSV, JSONL or Parquet."""

from __future__ import annotations

import gzip
import json
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from embedkit.data.tables import Row, arrow_reason, check_column_names
from embedkit.data.text_files import is_gzip
from embedkit.data.texts import check_text, listed
from embedkit.errors import InputError
from embedkit.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ROW_GROUP = 1 << 24  # bytes of Parquet, unpacked, to write at once


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
    - JSONL: an object a line, with the row's own keys and values, whatever `columns` are.
    - Parquet: columns have their types in `schema`; those that it lacks are float64. Without a
      schema the values in the first row group decide.

    In TSV and CSV a text is verbatim, None an empty cell, and any other value as JSON has it: a
    float with all digits that tell it from others. `.gz` is packed.
    """
    where = "stdout" if path is None else str(path)
    if format not in WRITERS:
        raise InputError(f"{where}: got format {format!r}, expected one of {', '.join(WRITERS)}")
    if format == "parquet" and (path is None or is_gzip(Path(path))):
        raise InputError(f"{where}: got format 'parquet', expected tsv, csv or jsonl")
    check_column_names(where, columns)
    with (
        output_file(path) as file,
        closing(WRITERS[format](file, where, columns, schema)) as writer,
    ):
        yield writer


@contextmanager
def output_file(path: str | Path | None) -> Iterator[IO[bytes]]:
    """Stdout for None, or a file that is there when the block ends well; `.gz` is packed."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    if path.exists() and not path.is_file():
        got = "a directory" if path.is_dir() else "a device or pipe"
        raise InputError(f"{path}: got {got}, expected a file")
    with replacing(path.resolve()) as temporary:  # a link stays: what it leads to is replaced
        try:
            file = temporary.open("xb")
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); expected a writable folder"
            ) from None
        with file:
            if not is_gzip(path):
                yield file
                return
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
        """Write rows, each its cells by column: all, or none where one of them is wrong."""
        located = _located(self._where, self._written, rows)
        lines = [self._line_of(row, self._columns) for row in located]
        self._file.write("".join(lines).encode())
        self._written += len(lines)

    def close(self) -> None:
        pass


def _located(where: str, written: int, rows: Iterable[dict[str, object]]) -> list[Row]:
    locations = (f"{where}, row {row}" for row in count(written + 1))
    return list(map(Row, locations, rows))


def _tsv_line(row: Row, columns: Sequence[str]) -> str:
    cells = _text_cells(row, columns)
    for name, cell in cells.items():
        # A CR is no line break to a reader of TSV, unless it comes last.
        if "\t" in cell or "\n" in cell or (cell.endswith("\r") and name == columns[-1]):
            raise InputError(
                f"{row.location}, column {name!r}: got {reprlib.repr(cell)}, "
                "expected no tab and no line break, because TSV cannot hold them"
            )
    line = "\t".join(cells.values())
    if not line:
        raise InputError(
            f"{row.location}: got only an empty cell, and TSV readers skip empty lines"
        )
    return f"{line}\n"


def _csv_line(row: Row, columns: Sequence[str]) -> str:
    # csv.writer leaves a CR unquoted where lines end in LF, before Python 3.13.
    cells = [
        '"{}"'.format(cell.replace('"', '""')) if re.search(r'[,"\r\n]', cell) else cell
        for cell in _text_cells(row, columns).values()
    ]
    return (",".join(cells) or '""') + "\n"  # an empty line would be a row of no cells


def _jsonl_line(row: Row, columns: Sequence[str]) -> str:
    cells = (
        f"{_json(row.location, name, name)}: {_json(row.location, name, value)}"
        for name, value in row.cells.items()
    )
    return f"{{{', '.join(cells)}}}\n"


def _text_cells(row: Row, columns: Sequence[str]) -> dict[str, str]:
    _check_columns(row, columns)
    texts = {}
    for name in columns:
        value = row.cells[name]
        if isinstance(value, str):
            texts[name] = check_text(f"{row.location}, column {name!r}", value)
        else:
            texts[name] = "" if value is None else _json(row.location, name, value)
    return texts


def _check_columns(row: Row, columns: Sequence[str]) -> None:
    if row.cells.keys() != set(columns):
        raise InputError(
            f"{row.location}: got columns {listed(row.cells)}, expected {listed(columns)} in every "
            "row"
        )


def _json(location: str, name: str, value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)  # a lone surrogate, escaped as it was when JSON gave it
    except TypeError:
        raise InputError(
            f"{location}, column {name!r}: got {reprlib.repr(value)}, "
            "expected a JSON value, because only Parquet can hold others"
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
        self._written = 0

    def write(self, rows: Iterable[dict[str, object]]) -> None:
        import pyarrow as pa

        located = _located(self._where, self._written, rows)
        for row in located:
            _check_columns(row, self._columns)
        self._waiting.append(pa.table({name: self._array(name, located) for name in self._columns}))
        self._written += len(located)
        if sum(table.nbytes for table in self._waiting) >= _ROW_GROUP:
            self._flush()

    def _array(self, name: str, rows: list[Row]) -> pa.Array[Any]:
        import pyarrow as pa

        values: list[Any] = [row.cells[name] for row in rows]
        field = self._fields[name]
        try:
            # Told to make integers, Arrow would cut 1.5 to 1; where it infers, nothing is lost.
            array: pa.Array[Any] = pa.array(values, None if self._infers else field.type)
            if self._infers:
                self._fields[name] = field.with_type(self._wider(field.type, array.type))
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            if len(rows) > 1:
                for row in rows:  # to name the one that is wrong
                    self._array(name, [row])
            where = f"{rows[0].location if rows else self._where}, column {name!r}"
            raise InputError(
                f"{where}: got '{arrow_reason(error)}', expected values of one type"
            ) from None
        return array

    def _wider(self, known: pa.DataType, new: pa.DataType) -> pa.DataType:
        """The type that holds both: integers and floats are floats; None is of any type."""
        import pyarrow as pa

        both = [pa.schema([("it", kind)]) for kind in (known, new)]
        wider: pa.DataType = pa.unify_schemas(both, promote_options="permissive").types[0]
        if self._writer is not None and wider != known:  # what is in the file keeps its type
            raise pa.ArrowTypeError(f"type {new} after rows of type {known}")
        return wider

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(self._fields.values(), self._metadata)
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._file, schema)
            tables = [table.cast(schema) for table in self._waiting]
            self._writer.write_table(pa.concat_tables([schema.empty_table(), *tables]))
        except pa.ArrowException as error:
            raise InputError(
                f"{self._where}: got '{arrow_reason(error)}', expected values that Parquet holds"
            ) from None
        self._waiting = []

    def close(self) -> None:
        try:
            if self._waiting or self._writer is None:
                self._flush()
        finally:
            if self._writer is not None:
                self._writer.close()


Writer: TypeAlias = _LineWriter | _ParquetWriter
WRITERS: dict[str, Callable[[IO[bytes], str, Sequence[str], pa.Schema | None], Writer]] = {
    "tsv": partial(_LineWriter, _tsv_line),
    "csv": partial(_LineWriter, _csv_line),
    "jsonl": partial(_LineWriter, _jsonl_line, header=False),
    "parquet": _ParquetWriter,
}
